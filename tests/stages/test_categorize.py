"""Figure 7's answer, as models really write it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import CategorizeConfig
from stj.engine.scripted import ScriptedEngine
from stj.rows import CATEGORIES, Category
from stj.stages.categorize import categorize, parse_category
from stj.stages.runner import TokenCounter
from tests.conftest import make_row

CODING = Category(name="Coding", complexity=7, length="c")


@pytest.mark.parametrize(
    "text",
    [
        "Category: Coding\nComplexity: 7\nLength: (c)",
        "Category: Coding\nComplexity: 7/10\nLength: (c) 1 paragraph.",
        "Sure!\n\n**Category:** Coding\n**Complexity:** 7 out of 10\n**Length:** c",
        "- category: coding (Python)\n- complexity: 7\n- length: (C)",
        "1. Category: Coding\n2. Complexity: 7\n3. Length: (c)",
        "Category: [Coding]\r\nComplexity: <7>\r\nLength: <c>\r\n",
        "Category: <Coding>\nComplexity: 7\nLength: (c). The response should be short.",
    ],
)
def test_forgiven_forms(text: str) -> None:
    assert parse_category(text) == CODING


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Category: Coding\nComplexity: 7",
        "Category: Cooking\nComplexity: 7\nLength: (c)",
        "Category: Coding\nComplexity: 0\nLength: (c)",
        "Category: Coding\nComplexity: 11\nLength: (c)",
        "Category: Coding\nComplexity: 99999999999999\nLength: (c)",
        "Category: Coding\nComplexity: 7-9\nLength: (c)",
        "Category: Coding\nComplexity: 7,5\nLength: (c)",
        "Category: Coding\nComplexity: high\nLength: (c)",
        "Category: Coding\nComplexity: 7\nLength: (f)",
        "Category: Coding\nComplexity: 7\nLength: brief",
        "Category: Coding\nComplexity: 7\nLength: a paragraph",
    ],
)
def test_what_the_prompt_does_not_offer_is_not_made_up(text: str) -> None:
    assert parse_category(text) is None


@given(st.sampled_from(CATEGORIES), st.integers(1, 10), st.sampled_from("abcde"))
def test_every_value_that_the_prompt_offers(name: str, complexity: int, length: str) -> None:
    text = f"Category: {name}\nComplexity: {complexity}\nLength: ({length})"
    assert parse_category(text) == Category(name=name, complexity=complexity, length=length)


@given(st.text())
def test_any_text_is_a_category_or_none(text: str) -> None:
    parse_category(text)


def test_there_are_15_categories() -> None:
    assert len(set(CATEGORIES)) == 15


def test_an_unparsed_answer_is_a_counted_drop_with_what_was_written() -> None:
    engine = ScriptedEngine(lambda messages, sampling: "I would say it is hard")
    row = asyncio.run(categorize(make_row(), TokenCounter(engine.generate), CategorizeConfig()))
    assert (row.dropped, row.detail) == ("category_unparsed", "I would say it is hard")
    assert "<instruction>\nWhat is 2 + 2?\n</instruction>" in engine.requests[0][0][0].content
