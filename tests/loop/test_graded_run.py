"""A small run on the real engines whose judge learns to compare and to grade, and then one from labelled grades alone."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from stj.evals.benchmarks.evaluation import read_scores
from stj.mini.grading import fact_rubric
from stj.prompts.grading import OURS
from stj.rows import TRAINING, Example, Row, example_from_dict, row_from_dict
from stj.stages.grade import digest_of
from stj.stages.grade_pair import graded_pairs
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.verdict import parse

ROOT = Path(__file__).parents[2]
STJ = [sys.executable, "-m", "stj.cli"]
CONF = str(ROOT / "conf" / "mini_grades.yaml")
MARGIN = 2  # as in the configuration

pytestmark = pytest.mark.engine


def stj(*words: str) -> str:
    done = subprocess.run([*STJ, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("graded") / "run"
    small = ["source.limit=120", "heldout.limit=16", "heldout.samples=2", "iterations=1", "judge.samples=5"]
    (root.parent / "tables.txt").write_text(stj("run", CONF, f"run_root={root}", *small))
    return root


def rows_of(root: Path, name: str) -> list[Row]:
    return [row_from_dict(record) for record in read_artifact(Folder.at(root / name)).records()]


def examples_of(root: Path) -> list[Example]:
    return [example_from_dict(record) for record in read_artifact(Folder.at(root / "iteration_1/examples")).records()]


def test_both_answers_are_graded_and_the_first_right_sample_is_kept(finished: Path) -> None:
    rows = [row for row in rows_of(finished, "pairs") if row.task == TRAINING and row.pair]
    graded = [row for row in rows if row.grades]
    assert len(graded) > len(rows) / 2
    for row in graded:
        leads = [pair.lead for pair in graded_pairs(row)]
        right = [lead is not None and lead >= MARGIN for lead in leads]
        assert row.kept_grades == (right.index(True) if any(right) else None)
        assert len(leads) <= 5
    assert any(row.kept_grades is not None for row in graded)
    assert any(row.kept is not None for row in rows)


def test_examples_are_of_both_tasks_and_say_what_was_kept(finished: Path) -> None:
    kept = {row.id: row for row in rows_of(finished, "pairs") if row.kept_grades is not None}
    examples = examples_of(finished)
    kinds = Counter(example.kind for example in examples)
    assert abs(kinds["grade"] - kinds["judgment"]) <= 2, "grading.share is one half"
    wording = OURS.wording(fact_rubric())
    for example in (example for example in examples if example.kind == "grade"):
        row_id, _, answer = example.id.rpartition("/grade-")
        [grade] = [
            grade
            for pair in [graded_pairs(kept[row_id])[kept[row_id].kept_grades or 0]]
            for grade in (pair.chosen, pair.rejected)
            if grade.answer == answer
        ]
        assert (example.completion, example.score) == (grade.text, grade.score)
        assert digest_of(example.messages) == grade.asked
        assert parse(example.completion, wording, "distinct") == str(example.score)


def test_every_judge_is_measured_on_responses_with_true_scores(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert [judge["heldout_grades"]["responses"] for judge in report["iterations"]] == [16, 16]
    for judge in report["iterations"]:
        figures = judge["heldout_grades"]["sampled"]
        assert 0 <= figures["exact_ci95"][0] <= figures["exact"] <= figures["exact_ci95"][1] <= 1
        assert judge["heldout"]["pairs"] == 16
    tables = (finished.parent / "tables.txt").read_text()
    assert "held-out grades against true scores" in tables
    assert "grades of the training pairs" in tables
    assert "points of exact agreement" in tables
    assert "How well each judge grades" in (finished / "report.html").read_text()


def evaluated(root: Path, model: str, *words: str) -> dict[str, object]:
    stj("eval", model, *words, CONF, f"run_root={root}", "heldout.limit=24")
    [folder] = (root / "evals").iterdir()
    scores: dict[str, dict[str, dict[str, object]]] = read_scores(Folder.at(folder))["scores"]
    return scores["grades"]["distinct"]


@pytest.mark.long
def test_a_judge_learns_from_labelled_grades_alone_and_is_evaluated_on_others(tmp_path: Path) -> None:
    labelled = tmp_path / "labelled.jsonl"
    rows: Sequence[dict[str, object]] = [json.loads(line) for line in (ROOT / "stj/mini/data/dev_grades.jsonl").open()]
    labelled.write_text("".join(json.dumps(row | {"feedback": "It is so."}) + "\n" for row in rows))
    run = tmp_path / "run"
    words = [
        f"examples.labelled=[{labelled}]",
        "examples.labelled_share=1",
        "iterations=1",
        "heldout.path=null",
        "heldout.grades=null",
    ]
    stj("run", CONF, f"run_root={run}", *words)
    examples = examples_of(run)
    assert len(examples) == len(rows)
    assert {example.completion for example in examples} == {f"It is so. [[{score}]]" for score in (1, 2, 3, 5)}
    scores = evaluated(tmp_path / "eval", str(run / "iteration_1/model"), "grades:stj/mini/data/heldout_grades.jsonl")
    assert scores["judged"] == 24 - int(str(scores["unjudged"]))
    assert int(str(scores["judged"])) > 12, "it has learned the form"
