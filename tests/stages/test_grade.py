"""Grades by a rubric: what the judge sees, what is read, and what several votes say together."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.generate import Completion, Sampling, Token, TracedSampling
from stj.rows import Grade, Row, Turn, row_from_dict, rows_to_table
from stj.rubrics import SCALES, Rubric
from stj.stages.distribution import grade_shares
from stj.stages.grade import RubricGrade, grade, rubric_grade
from stj.stages.runner import run_stages
from stj.use_config import GradeConfig
from stj.verdict import grade_format, parse

RUBRIC = Rubric(
    name="truth",
    criterion="Is it true?",
    scale="1-3",
    descriptions=("It is false.", "Part of it is true.", "It is true."),
    inputs=("instruction", "reference", "response"),
)
OPEN = replace(RUBRIC, name="open", inputs=("instruction", "response"), scale="binary", descriptions=("No.", "Yes."))


def row(**changes: object) -> Row:
    whole = Row(id="r", position=0, turns=(Turn(role="user", content="2 + 2?"),), response="four", reference="4")
    return replace(whole, **changes)  # type: ignore[arg-type]


def graded(text: str, given: Row, config: GradeConfig | None = None, rubrics: Sequence[Rubric] = (RUBRIC,)) -> tuple[Row, str]:
    """The row after its grades, and what the judge was shown last."""
    shown: list[str] = []

    async def ask(messages: Sequence[Turn], sampling: Sampling) -> Completion:
        shown.append("\n".join(turn.content for turn in messages))
        return Completion(text=text, finish_reason="stop", prompt_tokens=1, output_tokens=1)

    async def stage(row: Row, generate: object) -> Row:
        return await grade(row, generate, config or GradeConfig(), rubrics)  # type: ignore[arg-type]

    return asyncio.run(run_stages(given, [stage], ask)), shown[-1] if shown else ""  # type: ignore[list-item]


def test_a_judge_sees_what_there_is_and_the_rubric_last() -> None:
    result, shown = graded("Right. [[3]]", row())
    for text in ("2 + 2?", "four", "[The Start of the Reference Answer]\n4\n", "Is it true?", "Score 2: Part of it is true."):
        assert text in shown
    assert "Context" not in shown
    assert shown.index("four") < shown.index("Is it true?")
    answer = rubric_grade(result, RUBRIC)
    assert (answer.score, answer.confidence, answer.feedback) == (3, 1.0, "Right. [[3]]")
    assert answer.distribution == {1: 0.0, 2: 0.0, 3: 1.0}


def test_without_a_reference_nothing_speaks_of_one() -> None:
    _, shown = graded("[[1]]", row(reference=None, context="Arithmetic."), rubrics=[OPEN])
    assert "[The Start of the Context]\nArithmetic.\n[The End of the Context]" in shown
    assert "[The Start of the Reference" not in shown


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"response": ""}, "empty_response"),
        ({"response": " \n"}, "empty_response"),
        ({"response": "<think>4, surely</think>\n"}, "empty_response"),
        ({"reference": None}, "no_reference"),
        ({"reference": "  "}, "no_reference"),
    ],
)
def test_what_cannot_be_graded_has_a_counted_reason_and_no_score(changes: dict[str, str | None], reason: str) -> None:
    result, shown = graded("[[3]]", row(**changes))
    assert (result.dropped, shown) == (reason, "")
    answer = rubric_grade(result, RUBRIC)
    assert (answer.score, answer.mean, answer.confidence, answer.votes) == (None, None, 0.0, ())
    assert answer.error


def test_a_rubric_that_needs_a_context_is_not_graded_without_one() -> None:
    needs = replace(RUBRIC, inputs=("context", "response"))
    assert graded("[[3]]", row(), rubrics=[needs])[0].dropped == "no_context"


@pytest.mark.parametrize("text", ["", "[[0]]", "[[4]]", "[[2.5]]", "[[1]] or [[2]]", "not [[3]]", "three", "Score: 3"])
def test_no_score_is_made_up(text: str) -> None:
    answer = rubric_grade(graded(text, row())[0], RUBRIC)
    assert (answer.score, answer.mean, answer.distribution, answer.confidence) == (None, None, None, 0.0)
    assert answer.error is None
    assert answer.votes[0].text == text


def test_a_row_s_own_rubrics_come_before_those_of_the_command() -> None:
    result, shown = graded("[[1]]", row(rubrics=(OPEN,)))
    assert [vote.rubric for vote in result.grades] == ["open"]
    assert "Score 0: No." in shown


def test_a_grade_is_for_one_answer_rubric_and_reference_alone() -> None:
    def asked(given: Row, rubric: Rubric = RUBRIC) -> str:
        return graded("[[3]]", given, rubrics=[rubric])[0].grades[0].asked

    other = replace(RUBRIC, descriptions=("It is false.", "Half of it is true.", "It is true."))
    digests = [
        asked(row()),
        asked(row(response="five")),
        asked(row(reference="IV")),
        asked(row(), other),
        asked(row(context="c")),
    ]
    assert len(set(digests)) == len(digests)
    assert asked(row()) == digests[0]


def test_rows_with_grades_come_back_from_arrow() -> None:
    result, _ = graded("[[3]]", row(rubrics=(RUBRIC, OPEN)), GradeConfig(votes=2, aggregate="majority"))
    assert [row_from_dict(record) for record in rows_to_table([result]).to_pylist()] == [result]


def vote(score: int | None, shares: tuple[float, ...] = ()) -> Grade:
    return Grade(
        rubric="r",
        answer="response",
        index=0,
        asked="",
        text=f"{score}",
        score=score,
        finish_reason="stop",
        output_tokens=1,
        shares=shares,
    )


VOTES = st.lists(st.none() | st.integers(1, 5), min_size=1, max_size=9)


@given(VOTES)
def test_votes_are_counted(scores: list[int | None]) -> None:
    answer = RubricGrade(rubric="r", points=SCALES["1-5"], votes=tuple(map(vote, scores)))
    read = [score for score in scores if score is not None]
    if not read:
        assert (answer.score, answer.distribution, answer.confidence) == (None, None, 0.0)
        return
    assert answer.score in read
    assert read.count(answer.score) == max(map(read.count, read))  # type: ignore[arg-type]
    assert answer.mean == pytest.approx(sum(read) / len(read))
    assert answer.confidence == pytest.approx(scores.count(answer.score) / len(scores))
    assert answer.feedback == str(answer.score)


def test_of_equal_points_the_one_nearest_to_the_mean_is_the_score() -> None:
    def score(*given: int) -> int | None:
        return RubricGrade(rubric="r", points=SCALES["1-5"], votes=tuple(map(vote, given))).score

    assert score(1, 1, 4, 4, 5) == 4  # mean 3
    assert score(2, 4) == 2
    assert score(5, 1) == 1


def test_a_point_that_no_vote_gave_is_no_score() -> None:
    """Tokens may make such a point the most probable one, but no text explains it."""
    answer = RubricGrade(rubric="r", points=SCALES["1-3"], votes=(vote(1, (0.4, 0.6, 0)), vote(3, (0, 0.55, 0.45))))
    assert answer.distribution == pytest.approx({1: 0.2, 2: 0.575, 3: 0.225})
    assert (answer.score, answer.confidence, answer.feedback) == (3, pytest.approx(0.225), "3")


TEN = (("1", {"1": 0.6, "9": 0.4}), ("0", {"0": 0.7, "]]": 0.3}), ("]]", {"]]": 1.0}))
ONE = (("1", {"1": 0.6, "9": 0.4}), ("]]", {"]]": 0.7, "0": 0.3}))
JOINED = (("10]]", {"10]]": 0.42, "9]]": 0.4, "1": 0.18}),)


@pytest.mark.parametrize(("written", "tokens"), [("[[10]]", TEN), ("[[1]]", ONE), ("[[10]]", JOINED)])
def test_a_second_digit_may_come_or_not(written: str, tokens: Sequence[tuple[str, dict[str, float]]]) -> None:
    """1 with 0.18 or 0.42, 9 with 0.4, 10 with the rest: however the tokenizer cuts, and whichever of them is written."""
    traced = [Token("[[", (("[[", 1.0),)), *(Token(text, tuple(choices.items())) for text, choices in tokens)]
    read = partial(parse, wording=grade_format("fastchat", SCALES["1-10"]), parser="distinct")
    one, *others, nine, ten = grade_shares(traced, written, read, SCALES["1-10"])
    short = 0.42 if written == "[[1]]" else 0.18
    assert (one, nine, ten) == (pytest.approx(short), pytest.approx(0.4), pytest.approx(0.6 - short))
    assert not any(others)


def test_probabilities_of_tokens_are_the_distribution() -> None:
    """A tokenizer that writes [[, 2 and ]]: 2 with probability 0.6, 3 with 0.3, a word with 0.1."""
    tokens = (
        Token("Fine. ", (("Fine. ", 1.0),)),
        Token("[[", (("[[", 1.0),)),
        Token("2", (("2", 0.6), ("3", 0.3), ("x", 0.1))),
        Token("]]", (("]]", 1.0),)),
    )
    asked: list[Sampling] = []

    async def ask(messages: Sequence[Turn], sampling: Sampling) -> Completion:
        asked.append(sampling)
        return Completion(text="Fine. [[2]]", finish_reason="stop", prompt_tokens=1, output_tokens=4, tokens=tokens)

    async def stage(given: Row, generate: object) -> Row:
        return await grade(given, generate, GradeConfig(), [RUBRIC])  # type: ignore[arg-type]

    answer = rubric_grade(asyncio.run(run_stages(row(), [stage], ask)), RUBRIC)  # type: ignore[list-item]
    assert isinstance(asked[0], TracedSampling)
    assert asked[0].temperature == 0
    assert answer.distribution == pytest.approx({1: 0, 2: 2 / 3, 3: 1 / 3})
    assert (answer.score, answer.mean, answer.confidence) == (2, pytest.approx(7 / 3), pytest.approx(2 / 3))
