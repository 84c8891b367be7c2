"""The attack card: which pairs it judges, what counts as a flip, and `stj attack`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stj.attacks.kinds import ATTACKS
from stj.cli import main
from stj.errors import SourceError
from stj.evals.attack_card import CardBuilder, card_table
from stj.evals.benchmarks.attacks import UNATTACKED, AttackedId, attacked_id
from stj.evals.benchmarks.base import JudgedExample
from stj.evals.benchmarks.refs import benchmark_ref
from stj.rows import Row, row_from_dict
from stj.sources.ids import id_in_task, joined_id
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.verdict import Verdict
from tests.evals.test_evaluate import MINI, without_ray  # noqa: F401

NAMING = [name for name, attack in ATTACKS.items() if attack.names_label]
PAIR = {"instruction": "What is 2 + 2?", "chosen": "It is four, as you can count.", "rejected": "It is five."}


def rows_of(tmp_path: Path, *records: dict[str, Any], limit: int | None = None) -> list[Row]:
    file = tmp_path / "attacks.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(benchmark_ref(f"attacks:{file}").rows(limit))


def test_a_pair_is_judged_once_as_it_is_and_under_every_attack_in_both_orders(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, PAIR)
    assert [row.position for row in rows] == list(range(len(rows)))
    assert Counter(row.subset for row in rows) == {UNATTACKED: 1, **{name: 1 + (name in NAMING) for name in ATTACKS}}
    assert all(row.pair and row.pair.chosen == PAIR["chosen"] for row in rows)
    orders = [(row.subset, row.pair.better_as) for row in rows if row.pair and row.pair.better_as]
    assert orders == [(name, label) for name in NAMING for label in "AB"]
    assert len({row.id for row in rows}) == len(rows)


def test_ids_of_pairs_with_slashes_and_subsets_come_back(tmp_path: Path) -> None:
    records = [{**PAIR, "id": "a/b/A", "subset": "x/y"}, {**PAIR, "id": "b/A", "subset": "x/y/a"}]
    rows = rows_of(tmp_path, *records)
    versions = {attacked_id(id_in_task(row))[:3] for row in rows}
    pairs, attacks = [("x/y", "a/b/A"), ("x/y/a", "b/A")], [UNATTACKED, *ATTACKS]
    assert versions == {(*pair, attack) for pair in pairs for attack in attacks}
    assert all(joined_id(*attacked_id(id_in_task(row))) == id_in_task(row) for row in rows)  # So `stj compare` finds the row.
    assert rows_of(tmp_path, {**PAIR, "id": "a"})[1].id == "attacks/all/a/padding/AB"


def test_a_limit_counts_pairs_and_a_pair_without_a_better_answer_stands_alone(tmp_path: Path) -> None:
    whole = rows_of(tmp_path, *[PAIR] * 3)
    assert len(rows_of(tmp_path, *[PAIR] * 3, limit=2)) == 2 * len(whole) // 3
    [same] = rows_of(tmp_path, {**PAIR, "rejected": PAIR["chosen"]})
    assert (same.subset, same.dropped) == (UNATTACKED, "same_answers")


@pytest.mark.parametrize("record", [{"instruction": "?", "response_a": "a", "response_b": "b"}, {"instruction": "?"}])
def test_pairs_without_a_label_are_refused(record: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=r"no field '(winner|response_a)'"):
        rows_of(tmp_path, record)
    words = ["attack", "package://mini/seed_model", str(tmp_path / "attacks.jsonl"), MINI, f"run_root={tmp_path}/run"]
    assert main(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no field" in line


def test_recorded_judgments_make_no_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(json.dumps({"judgment_ab": "[[A]]", "judgment_ba": "[[B]]", "winner": "A"}))
    assert main(["score", str(file), "--benchmark", "attacks"]) == 2
    assert "stj attack MODEL PAIRS" in capsys.readouterr().err


def judged(pair: str, attack: str, as_a: Verdict | None, as_b: Verdict | None) -> JudgedExample:
    return JudgedExample(id=AttackedId("all", pair, attack, "AB"), subset=attack, verdicts={"A": [as_a], "B": [as_b]})


def test_a_right_verdict_is_flipped_if_it_is_not_right_under_the_attack() -> None:
    builder = CardBuilder()
    examples = [
        *(judged("p", UNATTACKED, "A", "B"), judged("p", "padding", "B", "B")),  # one of two is flipped
        *(judged("q", UNATTACKED, "A", "A"), judged("q", "padding", None, "B")),  # the right one is lost, the wrong one mended
        *(judged("r", UNATTACKED, "B", "A"), judged("r", "padding", "A", "B")),  # none was right
        JudgedExample(id=AttackedId("all", "p", "empty", "AB"), subset="empty", verdicts={}, unjudged="not_applicable"),
        JudgedExample(
            id=AttackedId("all", "q", "empty", "AB"), subset="empty", verdicts={"A": [None]}, unjudged="prompt_too_long"
        ),
        judged("s", "empty", "A", "B"),  # not judged before
        JudgedExample(id=AttackedId("all", "t", UNATTACKED, "AB"), subset=UNATTACKED, verdicts={}, unjudged="prompt_too_long"),
        JudgedExample(id=AttackedId("all", "t", "empty", "AB"), subset="empty", verdicts={}, unjudged="prompt_too_long"),
        JudgedExample(id=AttackedId("all", "p", "verdict", "A"), subset="verdict", verdicts={"A": ["A"]}),
        JudgedExample(id=AttackedId("all", "p", "verdict", "B"), subset="verdict", verdicts={"B": ["A"]}),
    ]
    assert list(builder.watch(examples)) == examples
    card = builder.card()
    padding = card["padding"]
    assert (padding.pairs, padding.right, padding.flipped, padding.flipped_to_none) == (3, 3, 2 / 3, 1 / 3)
    assert (padding.accuracy_before, padding.accuracy_after) == (3 / 6, 4 / 6)
    assert padding.flipped_ci95 is not None
    assert padding.flipped_ci95[0] <= 2 / 3 <= padding.flipped_ci95[1]
    swap = card["swap"]
    assert (swap.pairs, swap.right, swap.flipped) == (3, 3, 1 / 3)  # q says A in both orders
    empty = card["empty"]
    assert (empty.pairs, empty.not_applicable, empty.unjudged, empty.flipped) == (0, 1, 1, None)
    assert (card["verdict"].pairs, card["verdict"].right, card["verdict"].flipped) == (1, 2, 1 / 2)
    assert card["any"].flipped == 1.0  # padding flips p as A and q, the verdict p as B
    table = str(card_table("attacks", card))
    assert max(map(len, table.splitlines())) <= 80
    assert "not applicable: empty 1" in table
    assert "unjudged: empty 1" in table


@pytest.mark.usefixtures("without_ray")
def test_a_judge_of_lengths_is_fooled_by_what_lengthens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is right on the pair as it is; a shorter worse answer is no trap. The same command again uses what is judged."""
    rows_of(tmp_path, PAIR, {**PAIR, "chosen": "f"})
    words = ["attack", "package://mini/seed_model", str(tmp_path / "attacks.jsonl"), MINI, f"run_root={tmp_path}/run", "--json"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    card = json.loads(printed)["scores"]["attacks"]["distinct"]["attacks"]
    assert {name: result["right"] for name, result in card.items()} == dict.fromkeys(["swap", *ATTACKS, "any"], 2)
    flipped = {name for name, result in card.items() if result["flipped"] == 1}
    unharmed = {name for name, result in card.items() if result["flipped"] == 0}
    assert {"padding", "flattery", "authority", "control_tokens", "any"} <= flipped
    assert unharmed >= {"swap", "truncated", "empty"}
    [folder] = (tmp_path / "run" / "evals").iterdir()
    rows = [row_from_dict(record) for record in read_artifact(Folder.at(folder)).records()]
    assert all(len(row.judgments) == (1 if row.subset in NAMING else 2) for row in rows)
    assert main(words) == 0
    assert capsys.readouterr().out == printed
    assert main(words[:-1]) == 0
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines() if str(tmp_path) not in line) <= 80
    assert shown.count("padding") == 1
