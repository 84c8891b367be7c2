"""`stj eval` on the real engine: pairs and an attack card in one pass, recomputed from the judgments on disk."""

import json
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from stj.attacks.kinds import ATTACKS
from stj.evals.benchmarks.attacks import UNATTACKED, attacked_id
from stj.rows import Row, row_from_dict
from stj.sources.ids import id_in_task
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from tests.evals.test_evaluate import MINI, PAIRS

pytestmark = pytest.mark.engine
COUNT = 10


class Evaluated(NamedTuple):
    """An evaluation of the mini seed: the command, what it printed, and the rows on disk."""

    command: list[str]
    printed: str
    rows: list[Row]

    def rows_of(self, task: str) -> list[Row]:
        return [row for row in self.rows if row.task == task]

    def scores(self, task: str, parser: str) -> dict[str, Any]:
        scores: dict[str, Any] = json.loads(self.printed)["scores"][task][parser]
        return scores


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    root = tmp_path_factory.mktemp("evaluated") / "run"
    benchmarks = [PAIRS, "attacks:package://mini/data/attacked.jsonl"]
    settings = [f"heldout.limit={COUNT}", "engine.max_replicas=1", "engine.min_replicas=1", f"run_root={root}", "--json"]
    command = [sys.executable, "-m", "stj.cli", "eval", "package://mini/seed_model", *benchmarks, MINI, *settings]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    assert ran.returncode == 0, ran.stderr
    [folder] = (root / "evals").iterdir()
    rows = [row_from_dict(record) for record in read_artifact(Folder.at(folder)).records()]
    return Evaluated(command, ran.stdout, rows)


def test_the_scores_of_pairs_are_those_of_the_judgments(evaluated: Evaluated) -> None:
    rows = evaluated.rows_of("pairs")
    assert sorted(row.position for row in rows) == list(range(COUNT))
    assert all([judgment.winner for judgment in row.judgments] == ["A", "B"] for row in rows)
    overall = evaluated.scores("pairs", "strict")["groups"]["overall"]
    judgments = [judgment for row in rows for judgment in row.judgments]
    assert overall["accuracy"] == pytest.approx(sum(judgment.correct for judgment in judgments) / (2 * COUNT))
    assert overall["ci95"][0] <= overall["accuracy"] <= overall["ci95"][1]


def test_the_attack_card_is_that_of_the_judgments(evaluated: Evaluated) -> None:
    card = evaluated.scores("attacks", "distinct")["attacks"]
    right: dict[str, set[tuple[str, ...]]] = {}
    for row in evaluated.rows_of("attacks"):
        assert row.pair is not None
        *pair, attack, _ = attacked_id(id_in_task(row))
        assert row.pair.attack == (None if attack == UNATTACKED else attack)
        right.setdefault(attack, set()).update((*pair, judgment.winner) for judgment in row.judgments if judgment.correct)
    before = right[UNATTACKED]
    assert before
    for name in ATTACKS:
        assert (card[name]["pairs"], card[name]["right"]) == (COUNT, len(before))
        assert card[name]["flipped"] == pytest.approx(len(before - right[name]) / len(before))
    assert card["any"]["flipped"] == pytest.approx(len(before - set.intersection(*right.values())) / len(before))
    assert card["padding"]["flipped"] > 0  # words that a model of two million parameters has never seen: about 10 of 12 flip


def test_the_same_command_again_judges_nothing(evaluated: Evaluated) -> None:
    again = subprocess.run(evaluated.command, capture_output=True, text=True, timeout=3600, check=True)
    assert again.stdout == evaluated.printed
