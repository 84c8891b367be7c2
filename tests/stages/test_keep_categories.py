"""Pairs of a source that stay by the category of their instruction."""

import asyncio

import pytest

from stj.config import CategorizeConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import PromptTooLong, RequestFailed
from stj.rows import Origin, Pair, Row
from stj.stages.keep_categories import keep_categories
from stj.stages.runner import TokenCounter
from tests.conftest import make_row

PAIR = Pair(method="given", chosen="good", rejected="bad")
ORIGIN = Origin(source="mine", place="pairs.jsonl, line 1", labelled_by="file")


def kept(said: str | Exception) -> Row:
    def handler(*_: object) -> str:
        if isinstance(said, Exception):
            raise said
        return said

    generate = TokenCounter(ScriptedEngine(handler).generate)
    row = make_row(pair=PAIR, origin=ORIGIN)
    return asyncio.run(keep_categories(row, generate, CategorizeConfig(), ("Coding", "Extraction")))


def answer(category: str) -> str:
    return f"Category: {category}\nComplexity: 3\nLength: (a)"


def test_a_pair_of_a_named_category_stays_as_it_was() -> None:
    assert kept(answer("Coding")) == make_row(pair=PAIR, origin=ORIGIN)


@pytest.mark.parametrize(
    ("said", "dropped", "detail"),
    [
        (answer("Brainstorming"), "category", "Brainstorming"),
        ("I cannot say.", "category_unparsed", "I cannot say."),
        (PromptTooLong("too long"), "prompt_too_long", "too long"),
    ],
)
def test_a_pair_that_goes_leaves_no_pair_for_later_judges(said: str | Exception, dropped: str, detail: str) -> None:
    row = kept(said)
    assert (row.dropped, row.pair, row.category) == (dropped, None, None)
    assert detail in str(row.detail)


def test_a_request_that_fails_leaves_no_pair_either() -> None:
    row = kept(RequestFailed("the engine is gone"))
    assert (row.error, row.pair, row.dropped) == ("the engine is gone", None, None)
