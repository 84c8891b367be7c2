"""Self-taught grades: what is sampled of a pair, which sample is right, and which is kept."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import GradingConfig, JudgeConfig
from stj.generate import Completion, Generate, Sampling
from stj.rows import Category, Pair, Row, Turn
from stj.rubrics import Rubric
from stj.stages.grade_pair import grade_pair, graded_pairs, judge_and_grade
from stj.stages.runner import run_stages
from tests.conftest import make_row

GRADING = GradingConfig(rubric="helpfulness")
PAIR = make_row(pair=Pair(method="given", chosen="four", rejected="five"))
Stage = Callable[[Row, Generate], object]


def asked(row: Row, stage: Stage, answers: Callable[[str, int], str]) -> Row:
    """The row after a stage; `answers` gives the text for the answer that is shown and the number of its earlier requests."""
    before: dict[str, int] = {}

    async def ask(messages: Sequence[Turn], sampling: Sampling) -> Completion:
        shown = messages[-1].content
        name = "both" if "Assistant B" in shown else "four" if "\nfour\n" in shown else "five"
        text = answers(name, before.get(name, 0))
        before[name] = before.get(name, 0) + 1
        return Completion(text=text, finish_reason="stop", prompt_tokens=1, output_tokens=2)

    return asyncio.run(run_stages(row, [stage], ask))  # type: ignore[list-item]


def graded(scores: Sequence[tuple[object, object]], row: Row = PAIR, grading: GradingConfig = GRADING, **judge: object) -> Row:
    """The row graded by a judge whose i-th sample says these scores of the better and the worse answer."""
    config = JudgeConfig(task="absolute", samples=len(scores), **judge)  # type: ignore[arg-type]

    async def stage(row: Row, generate: Generate) -> Row:
        return await grade_pair(row, generate, config, grading)

    return asked(row, stage, lambda name, index: f"So it is [[{scores[index][name == 'five']}]]")


def test_the_first_right_sample_in_index_order_is_kept_and_ends_the_sampling() -> None:
    row = graded([(2, 4), (3, 3), ("N/A", 1), (5, 4), (5, 1)])
    assert row.kept_grades == 3
    assert [(pair.chosen.score, pair.rejected.score) for pair in graded_pairs(row)] == [(2, 4), (3, 3), (None, 1), (5, 4)]
    assert row.rubrics[0].name == "helpfulness"
    assert row.dropped is None


@given(
    scores=st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 5, "?"]), st.sampled_from([1, 2, 3, 4, 5, "?"])), min_size=1, max_size=6
    ),
    margin=st.integers(1, 4),
    every=st.booleans(),
)
def test_what_is_kept_is_what_a_reader_would_keep(scores: list[tuple[object, object]], margin: int, every: bool) -> None:
    row = graded(scores, grading=GradingConfig(margin=margin), sampling="all" if every else "first_correct")
    right = [a != "?" and b != "?" and a - b >= margin for a, b in scores]  # type: ignore[operator]
    first = right.index(True) if any(right) else None
    assert row.kept_grades == first
    assert row.dropped == (None if any(right) else "no_right_grades")
    sampled = len(scores) if every or first is None else first + 1
    assert len(graded_pairs(row)) == sampled


def test_the_control_keeps_any_two_scores() -> None:
    assert graded([("?", 4), (1, 5), (5, 1)], keep="random").kept_grades == 1


def test_each_instruction_has_the_rubric_of_its_category() -> None:
    grading = GradingConfig(rubric="helpfulness", by_category={"Coding": "code_quality"})
    coding = make_row(pair=PAIR.pair, category=Category(name="Coding", complexity=3, length="b"))
    assert graded([(5, 1)], row=coding, grading=grading).grades[0].rubric == "code_quality"
    assert graded([(5, 1)], grading=grading).grades[0].rubric == "helpfulness"


@pytest.mark.parametrize(
    ("row", "grading", "reason"),
    [
        (make_row(pair=Pair(method="given", chosen="four", rejected=" ")), GRADING, "empty_response"),
        (make_row(pair=PAIR.pair, ungraded="rubric_not_higher"), GradingConfig(rubric="written"), "rubric_not_higher"),
    ],
)
def test_what_cannot_be_graded_is_not_asked_about(row: Row, grading: GradingConfig, reason: str) -> None:
    result = graded([(5, 1)], row=row, grading=grading)
    assert (result.dropped, result.grades, result.output_tokens) == (reason, (), 0)


@pytest.mark.parametrize(
    ("verdict", "scores", "kept", "kept_grades", "dropped"),
    [
        ("right", (5, 1), 0, 0, None),
        ("right", (1, 5), 0, None, None),
        ("none", (5, 1), None, 0, None),
        ("none", (1, 5), None, None, "no_correct_judgment"),
    ],
)
def test_a_pair_that_teaches_one_task_stays_for_it(
    verdict: str, scores: tuple[int, int], kept: int | None, kept_grades: int | None, dropped: str | None
) -> None:
    async def stage(row: Row, generate: Generate) -> Row:
        return await judge_and_grade(row, generate, JudgeConfig(task="both", samples=1), GRADING, seed=0)

    def answers(name: str, index: int) -> str:
        if name == "both":
            return "So assistant A is better. [[A]]" if verdict == "right" else "I cannot tell."
        return f"[[{scores[name == 'five']}]]"

    row = make_row(pair=Pair(method="given", chosen="four", rejected="five", better_as="A"))
    result = asked(row, stage, answers)
    assert (result.kept, result.kept_grades, result.dropped) == (kept, kept_grades, dropped)
    assert len(result.judgments) == 1
    assert len(result.grades) == 2


def test_a_rubric_of_pairs_needs_what_pairs_have() -> None:
    rubric: Rubric = GRADING.rubric_for(None)
    assert set(rubric.inputs) <= {"instruction", "response"}
