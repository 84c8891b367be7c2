"""A run on the answers of a policy to questions of the small world, whose facts are known, on the real engines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stj.final_answer import is_right
from stj.mini.world import facts_of
from stj.rows import TRAINING, Row, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder

ROOT = Path(__file__).parents[2]


def rows_at(folder: Path) -> list[Row]:
    rows = map(row_from_dict, read_artifact(Folder.at(folder)).records())
    return sorted((row for row in rows if row.task == TRAINING), key=lambda row: row.position)


@pytest.mark.engine
@pytest.mark.long
def test_the_judge_learns_from_what_a_policy_gets_right_and_wrong(tmp_path: Path) -> None:
    facts = facts_of("train")[:60]
    questions = [{"question": fact.question(fact.taught[0]), "answer": fact.value} for fact in facts]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, questions)))
    policy = "model: {path: package://mini/grading_seed, max_model_len: 512}"
    words = [
        *("iterations=1", "heldout.limit=8", f"run_root={tmp_path}/run", "pairs.answer.temperature=2", "pairs.answer.top_p=1"),
        f"preferences=[{{kind: questions, name: facts, path: {tmp_path}/facts.jsonl, per_question: 2, samples: 16, {policy}}}]",
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "stj.cli", "run", str(ROOT / "conf" / "mini.yaml"), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answered, judged = rows_at(tmp_path / "run/answers/facts"), rows_at(tmp_path / "run/pairs")
    assert [(row.id, row.pair) for row in judged] == [(row.id, row.pair) for row in answered]
    paired = [row for row in judged if row.pair]
    assert len(paired) > len(judged) / 4
    for row in paired:
        assert row.pair is not None
        assert row.origin is not None
        assert is_right(row.pair.chosen, row.origin.answer or "") is True
        assert is_right(row.pair.rejected, row.origin.answer or "") is False
        assert "grading_seed (" in (row.origin.policy or "")
        assert row.judgments
    sources = json.loads((tmp_path / "run/report.json").read_text())["iterations"][0]["sources"]
    assert sources["facts"]["judged"] == len(paired)
    assert sources["facts"]["learned"] > 0
