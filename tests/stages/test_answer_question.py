"""Pairs of sampled answers to questions whose answers are known."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.engine.scripted import ScriptedEngine
from stj.final_number import final_number
from stj.generate import Sampling
from stj.rows import Origin, Row, Turn
from stj.stages.answer_question import pair_of_answers
from stj.stages.runner import TokenCounter
from tests.conftest import make_row

ORIGIN = Origin(source="gsm8k", place="train.jsonl, line 1", labelled_by="final_answer", answer="18")
RIGHT, WRONG, UNCLEAR = "It is 18.", "It is 17.", "It is many."


def paired(answers: list[str], samples: int = 8, max_tokens: int = 50) -> Row:
    left = iter(answers)

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        return next(left)

    row = make_row(origin=ORIGIN)
    sampling = Sampling(max_tokens=max_tokens)
    return asyncio.run(pair_of_answers(row, TokenCounter(ScriptedEngine(handler).generate), sampling, samples))


@given(st.lists(st.sampled_from([RIGHT, WRONG, UNCLEAR]), min_size=8, max_size=8))
def test_the_right_answer_is_the_better_one(answers: list[str]) -> None:
    row = paired(answers)
    if {RIGHT, WRONG} <= set(answers):
        assert row.pair is not None
        assert (final_number(row.pair.chosen), final_number(row.pair.rejected)) == (18, 17)
    else:
        assert row.pair is None
        assert row.dropped == ("no_right_answer" if RIGHT not in answers else "no_wrong_answer")


def test_the_first_right_and_the_first_wrong_answer_are_taken_and_no_more_are_asked_for() -> None:
    answers = ["#### 18 first", "#### 18 second", "#### 3 first", "#### 4 second", "#### 18", "#### 18", "#### 18", "#### 18"]
    row = paired(answers)
    assert row.pair is not None
    assert (row.pair.chosen, row.pair.rejected, row.pair.method) == ("#### 18 first", "#### 3 first", "sampled_answers")


@pytest.mark.parametrize(("answers", "reason"), [([RIGHT] * 3, "no_wrong_answer"), ([WRONG] * 3, "no_right_answer")])
def test_answers_that_agree_teach_nothing(answers: list[str], reason: str) -> None:
    row = paired(answers, samples=3)
    assert (row.dropped, row.detail) == (reason, answers[0])


def test_a_cut_answer_is_neither_right_nor_wrong() -> None:
    cut = "one two three four five 17"
    row = paired([cut, RIGHT, RIGHT], samples=3, max_tokens=4)
    assert row.dropped == "no_wrong_answer"


def test_the_number_is_read_behind_the_thought() -> None:
    row = paired(["<think>18</think>It is 17.", RIGHT], samples=2)
    assert row.pair is not None
    assert row.pair.rejected.endswith("It is 17.")
