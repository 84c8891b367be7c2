"""`Judge.grade` on a scripted engine, several rubrics in one figure, and their interval."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import ConfigError, RequestFailed, SourceError
from stj.generate import Sampling
from stj.judging.grading import GradeRequest, total_of
from stj.rows import Grade, Turn
from stj.rubrics import SCALES, rubric
from stj.stages.grade import RubricGrade
from stj.use_config import GradeConfig
from tests.judging.test_judge import scripted

TRUTH = replace(
    rubric("helpfulness", "rubric"),
    name="truth",
    criterion="Is it true?",
    scale="binary",
    descriptions=("No.", "Yes."),
    inputs=("instruction", "reference", "response"),
)


def grades(messages: Sequence[Turn], sampling: Sampling) -> str:
    shown = messages[-1].content
    if "fails" in shown:
        raise RequestFailed("the engine refuses")
    return f"So it is. [[{int('four' in shown)}]]" if "Is it true?" in shown else "Fine. [[4]]"


def test_a_response_is_graded(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"criterion": "Is it true?", "scale": "binary", "points": {"0": "No.", "1": "Yes."}}')
    with scripted(grades) as judge:
        grade = judge.grade("2 + 2?", "four", TRUTH, reference="4")
        assert (grade.score, grade.confidence, grade.feedback, grade.rubric) == (1, 1.0, "So it is. [[1]]", "truth")
        assert judge.grade("2 + 2?", "five", file).score == 0
        assert judge.grade("2 + 2?", "five", "helpfulness").score == 4
        assert asyncio.run(judge.agrade("2 + 2?", "four", TRUTH, reference="4")).score == 1
        requests = [GradeRequest(instruction="2 + 2?", response=text, rubric=str(file)) for text in ("four", "five", "fails")]
        assert [given.score for given in judge.grade_many(requests)] == [1, 0, None]


def test_what_cannot_be_graded_says_why() -> None:
    requested = GradeRequest(instruction="2 + 2?", response="four", rubric="helpfulness")
    with scripted(grades) as judge:
        assert judge.grade("2 + 2?", "four", TRUTH).error == "no_reference: the rubric truth needs a reference"
        assert judge.grade("2 + 2?", "  ", "helpfulness").error == "empty_response: the response to grade is empty"
        assert judge.grade("", "four", "helpfulness").error == "empty_turn"
        assert judge.grade("fails", "four", "helpfulness").error == "the engine refuses"
        with pytest.raises(SourceError, match="request 1: tuple; a request is a GradeRequest"):
            judge.grade_many([requested, ("2 + 2?", "four", "helpfulness")])  # type: ignore[list-item]
        with pytest.raises(ConfigError, match="rubric=helpful: no such rubric or file"):
            judge.grade("2 + 2?", "four", "helpful")
        with pytest.raises(SourceError, match="field 'response' is int 4; it must be a string"):
            judge.grade("2 + 2?", 4, "helpfulness")  # type: ignore[arg-type]


def test_a_prompt_must_show_what_a_rubric_needs(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("user: '{instruction} {response} {criterion} {points}'")
    with scripted(grades, grade=GradeConfig(prompt=str(file), prompt_format="fastchat")) as judge:
        assert judge.grade("2 + 2?", "four", "helpfulness").score == 4
        with pytest.raises(ConfigError, match=r"rubric=truth: needs a reference, which the words of grade\.prompt do not show"):
            judge.grade("2 + 2?", "four", TRUTH, reference="4")


def test_a_response_is_never_left_out_with_a_reference(tmp_path: Path) -> None:
    """A paragraph without its reference goes; if it shows the response too, the judge would grade nothing."""
    file = tmp_path / "mine.yaml"
    file.write_text("user: '{instruction} {reference} {response} {criterion} {points}'")
    with scripted(grades, grade=GradeConfig(prompt=str(file), prompt_format="fastchat")) as judge:
        with pytest.raises(ConfigError, match=r"rubric=helpfulness: needs no reference, and .* paragraph, with \{criterion\}"):
            judge.grade("2 + 2?", "four", "helpfulness", reference="4")
        assert judge.grade("2 + 2?", "four", TRUTH, reference="4").score == 1


def given_shares(scale: str, shares: Sequence[float]) -> RubricGrade:
    vote = Grade(
        rubric="r",
        answer="response",
        index=0,
        asked="",
        text="",
        score=SCALES[scale][int(np.argmax(shares))],
        finish_reason="stop",
        output_tokens=1,
        shares=tuple(shares),
    )
    return RubricGrade(rubric="r", points=SCALES[scale], votes=(vote,))


@st.composite
def shares_of(draw: st.DrawFn, scale: str) -> RubricGrade:
    raw = draw(st.lists(st.floats(0.01, 1), min_size=len(SCALES[scale]), max_size=len(SCALES[scale])))
    return given_shares(scale, [part / sum(raw) for part in raw])


@given(shares_of("1-3"), shares_of("1-5"), st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_total_and_its_interval(first: RubricGrade, second: RubricGrade, a: float, b: float) -> None:
    total = total_of([first, second], [a, b])
    assert total is not None
    parts = [
        (share_1 * share_2, (a * (one - 1) / 2 + b * (two - 1) / 4) / (a + b))
        for one, share_1 in (first.distribution or {}).items()
        for two, share_2 in (second.distribution or {}).items()
    ]
    assert total.total == pytest.approx(sum(share * value for share, value in parts))
    low, high = total.interval
    inside = sum(share for share, value in parts if low - 0.003 <= value <= high + 0.003)
    assert inside >= 0.95 - 1e-9
    assert sum(share for share, value in parts if value < low - 0.003) <= 0.025 + 1e-9
    assert sum(share for share, value in parts if value > high + 0.003) <= 0.025 + 1e-9


def test_a_total_needs_every_score() -> None:
    assert total_of([given_shares("binary", [0, 1]), RubricGrade(rubric="r", points=(0, 1))]) is None
    assert total_of([]) is None
    assert total_of([given_shares("binary", [0, 1]), given_shares("binary", [1, 0])], [1e308, 1e308]) == (0.5, (0.5, 0.5))
    assert total_of([given_shares("binary", [0, 1]), given_shares("1-3", [0, 0, 1])]) == (1.0, (1.0, 1.0))
    assert total_of([]) is None


@given(shares_of("1-3"), shares_of("1-5"), st.floats(1e-300, 1e307))
def test_only_the_ratio_of_weights_counts(first: RubricGrade, second: RubricGrade, unit: float) -> None:
    small, large = total_of([first, second], [1, 4]), total_of([first, second], [unit, 4 * unit])
    assert small is not None
    assert large is not None
    assert large.total == pytest.approx(small.total)
    assert large.interval == pytest.approx(small.interval, abs=0.002)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [0, 1], [-1, 2], [math.nan, 1], [math.inf, 1]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="must be 2 numbers above 0, one for each rubric"):
        total_of([given_shares("binary", [0, 1]), given_shares("binary", [1, 0])], weights)
