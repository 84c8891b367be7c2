"""Responses with true scores as a benchmark: what is read, what is scored, and what is not."""

import json
from pathlib import Path

import pytest

from stj.config import Config
from stj.config_loader import load
from stj.errors import ConfigError, SourceError
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.graded_evaluation import GradedEvaluation, graded_rows, grading_of, without_figures
from stj.loop.benchmarks import run_benchmarks
from stj.rows import Grade, Row

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"


def rows_of(path: Path, *rows: dict[str, object], words: tuple[str, ...] = ()) -> tuple[list[Row], Config]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load([MINI], ["heldout.limit=null", *words])
    return list(graded_rows(benchmark_ref(f"grades:{path}"), config)), config


def graded(row: Row, score: int | None) -> Row:
    grade = Grade(
        rubric=row.rubrics[0].name, answer="response", index=0, asked="", text="", score=score, finish_reason="stop",
        output_tokens=1,
    )  # fmt: skip
    return Row(**{**vars(row), "grades": (grade,)})


def test_scores_are_of_all_responses_and_of_each_rubric_and_subset(tmp_path: Path) -> None:
    answers = [
        {"instruction": "q", "response": f"a{i}", "score": i, "subset": "even" if i % 2 == 0 else "odd"} for i in range(1, 6)
    ]
    own = {"instruction": "q", "response": "b", "score": 1, "rubric": "safety"}
    rows, config = rows_of(tmp_path / "g.jsonl", *answers, own, words=("grading.rubric=helpfulness", "votes=3"))
    assert [row.rubrics[0].name for row in rows] == ["helpfulness"] * 5 + ["safety"]
    assert grading_of(config).votes == 3
    evaluation = GradedEvaluation.of(graded(row, int(row.label or 0)) for row in rows)
    record = evaluation.plain()
    assert (record["judged"], record["unjudged"]) == (6, 0)
    assert set(record["groups"]) == {"overall", "rubric/helpfulness", "rubric/safety", "subset/even", "subset/odd"}
    assert record["groups"]["overall"]["spearman"] == 1
    assert without_figures(evaluation) is None


def test_what_is_not_scored_has_a_reason_and_no_figure(tmp_path: Path) -> None:
    rows, _ = rows_of(
        tmp_path / "g.jsonl",
        {"instruction": "q", "response": "a", "score": 3},
        {"instruction": "q", "response": "b"},
        {"instruction": "q", "response": "", "score": 3},
    )
    first, second, third = rows
    evaluation = GradedEvaluation.of([graded(first, None), graded(second, 4), third.drop("empty_response")])
    assert evaluation.unjudged == {"empty_response": 1, "no label": 1, "unparsed": 1}
    assert evaluation.groups == {}
    why = without_figures(evaluation)
    assert why is not None
    assert "no response has both a grade and a true score" in why


def test_what_cannot_be_graded_is_said_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "g.jsonl"
    with pytest.raises(SourceError, match=r"line 1: has no rubric, and grading\.rubric=written"):
        rows_of(file, {"instruction": "q", "response": "a", "score": 3}, words=("grading.rubric=written",))
    with pytest.raises(SourceError, match="line 1: the true score is 6, off the scale 1-5 of helpfulness"):
        rows_of(file, {"instruction": "q", "response": "a", "score": 6}, words=("grading.rubric=helpfulness",))
    with pytest.raises(ConfigError, match=r"a run grades responses from heldout\.grades"):
        run_benchmarks(load([MINI], [f"benchmarks=[grades:{file}]"]))
    with pytest.raises(ConfigError, match="'grades' is not on the hub: give its file"):
        benchmark_ref("grades").require_place()
