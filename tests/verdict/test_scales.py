"""Grades on a scale, in the styles of published judges."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.verdict import GRADE_STYLES, PARSERS, Parser, grade_format, parse
from tests.cpu_time import in_proportion

FIVE = (1, 2, 3, 4, 5)
WORDS = st.text(st.characters(categories=["L", "Zs", "Po"], exclude_characters="/%&'\"*@#\\"), max_size=20)
"""Text that writes no grade of its own."""
SCALES = ((0, 1), (1, 2, 3), FIVE, tuple(range(1, 11)))
WRITTEN = {
    "prometheus": "Feedback: it is short. [RESULT] {}",
    "flow": "<feedback>It is short.</feedback>\n<score>{}</score>",
    "fastchat": "It is short. Rating: [[{}]]",
    "selene": "**Reasoning:** It is short.\n\n**Result:** {}",
    "line": "It is short.\nScore: {}",
    "json": '{{"feedback": "It is short.", "score": {}}}',
    "number": "{}",
}


def read(style: str, text: str, scale: tuple[int, ...] = FIVE) -> tuple[str | None, ...]:
    return tuple(parse(text, grade_format(style, scale), parser) for parser in PARSERS)


@pytest.mark.parametrize(
    ("style", "text", "strict", "distinct", "paper"),
    [
        ("prometheus", "Feedback: it is short. [RESULT] 4", "4", "4", "4"),
        ("prometheus", "[RESULT] 4.0", "4", "4", None),
        ("prometheus", "[Result]: **5**", "5", "5", None),
        ("prometheus", "[RESULT] (4)</s>", "4", "4", "4"),
        ("prometheus", "[RESULT: 3]", "3", "3", "3"),
        ("prometheus", "[RESULT] Score: 3", "3", "3", "3"),
        ("prometheus", "[RESULT]\n4", "4", "4", "4"),
        ("prometheus", "[RESULT]\n1. The response is right", None, None, None),
        ("prometheus", "[RESULT] 4 because it is right", None, "4", "4"),
        ("prometheus", "[RESULT] 4/5", "4", "4", "4"),
        ("prometheus", "[RESULT] 4/10", None, None, None),
        ("prometheus", "[RESULT] 4 out of 10", None, None, "4"),
        ("prometheus", "[RESULT] -1", None, None, None),
        ("prometheus", "[RESULT] .5", None, None, None),
        ("prometheus", "[RESULT] 4.5", None, None, None),
        ("prometheus", "[RESULT] 4,5", None, None, None),
        ("prometheus", "[RESULT] 4½", None, None, None),
        ("prometheus", "[RESULT] 4 1/2", None, None, "4"),
        ("prometheus", "[RESULT] 4 or 5", None, None, "4"),
        ("prometheus", "[RESULT] 4-5", None, None, None),
        ("prometheus", "[RESULT] 4+", None, None, None),
        ("prometheus", "[RESULT] 4%", None, None, None),
        ("prometheus", "[RESULT] 4/5 or 3/5", None, None, "4"),
        ("prometheus", "[RESULT] 40", None, None, None),
        ("prometheus", "[RESULT] 0", None, None, None),
        ("prometheus", "[RESULT] A", None, None, None),
        ("prometheus", "not [RESULT] 4", None, None, "4"),
        ("prometheus", "It says [RESULT] 5, which is no argument. [RESULT] 2", None, None, "2"),
        ("prometheus", "It says [RESULT] 2. [RESULT] 2", "2", "2", "2"),
        ("flow", "<feedback>Short.</feedback>\n<score>3</score>", "3", "3", "3"),
        ("prometheus", "[RESULT] <4", None, None, None),
        ("prometheus", "[RESULT] >4", None, None, None),
        ("prometheus", "[RESULT] < 4", None, None, None),
        ("prometheus", "[RESULT] ≥ 4", None, None, None),
        ("prometheus", "[RESULT] ±4", None, None, None),
        ("prometheus", "[RESULT] 4, or [RESULT] >4", None, None, None),
        ("prometheus", "[RESULT] <4>", "4", "4", None),
        ("flow", "<score>>3</score>", None, None, None),
        ("flow", "<score> 3 </score>", "3", "3", None),
        ("flow", "<score>\n3\n</score>\n<feedback>Short.</feedback>", None, "3", "3"),
        ("flow", "<score>3.0</score>", "3", "3", None),
        ("flow", "<score>3/5</score>", "3", "3", None),
        ("flow", "<score>3/10</score>", None, None, None),
        ("flow", "<score>3.5</score>", None, None, None),
        ("flow", "<score>-1</score>", None, None, None),
        ("flow", "<score>3", None, None, None),
        ("flow", "<feedback>It writes <score>5</score>.</feedback><score>2</score>", None, None, "5"),
        ("fastchat", "Rating: [[4]]", "4", "4", "4"),
        ("fastchat", "[[4.0]]", "4", "4", "4"),
        ("fastchat", "[[4.5]]", None, None, None),
        ("fastchat", "[[4]]/5", "4", "4", "4"),
        ("fastchat", "[[4]]/10", None, None, "4"),
        ("fastchat", "[[4]] out of 10", None, None, "4"),
        ("fastchat", "[[4/10]]", None, None, None),
        ("fastchat", "[[7]]", None, None, None),
        ("fastchat", "[4]", None, None, "4"),
        ("fastchat", "[[4]] or [[5]]", None, None, "4"),
        ("fastchat", "It is not [[4]]", None, None, "4"),
        ("line", "Score: 4/5", "4", "4", "4"),
        ("line", "It is short.\n**Score**: 4", "4", "4", None),
        ("line", "**Score:** 4", "4", "4", None),
        ("line", "Final score: 4 out of 5", "4", "4", "4"),
        ("line", "- **Overall Score:** **4** / 5.", "4", "4", None),
        ("line", "It is short. My final rating is 4.", "4", "4", None),
        ("line", "### Score\n4", "4", "4", "4"),
        ("line", "### Score\n4 out of 5", "4", "4", "4"),
        ("line", "Score:\n1. The response is right", None, None, None),
        ("line", "Score (1-5): 4", "4", "4", None),
        ("line", "Score (out of 5): 4", "4", "4", None),
        ("line", "Score (1-10): 4", None, None, None),
        ("line", "Score: 4/10", None, None, None),
        ("line", "Score: 4 of 10", None, None, "4"),
        ("line", "Score: **4**/10", None, None, None),
        ("line", "Score: 4 points out of 5", "4", "4", "4"),
        ("line", "Score: 4 points out of 10", None, None, "4"),
        ("line", "Score: 4 points", None, "4", "4"),
        ("line", "Score: 4 out of a possible 10", None, None, "4"),
        ("line", "Score: 4 (on a scale of 1 to 5)", "4", "4", "4"),
        ("line", "Score: 4 (on a scale from 1-10)", None, None, "4"),
        ("line", "Score: 4.0/5.0", "4", "4", None),
        ("line", "Score: 4.5", None, None, None),
        ("line", "Score: -1", None, None, None),
        ("line", "Score: 1-5", None, None, None),
        ("line", "Score: 4, as it is right", None, "4", None),
        ("line", "Score 4: The response is right", None, None, None),
        ("line", "Accuracy score: 5\nStyle score: 3\nFinal score: 4", "4", "4", "5"),
        ("line", "Score: 5\nFinal score: 4", None, None, "5"),
        ("line", "I would say a score of 4", None, None, "4"),
        ("line", "Score: ４／５", "4", "4", None),
        ("json", '{"feedback": "Short.", "score": 4}', "4", "4", "4"),
        ("json", '```json\n{"feedback": "Short.", "score": 4}\n```', "4", "4", "4"),
        ("json", '{"score": 4, "feedback": "Short."}', None, "4", "4"),
        ("json", '{"score": "4"}', "4", "4", None),
        ("json", '{"score": 4.0}', "4", "4", None),
        ("json", '{"score": 4.5}', None, None, None),
        ("json", '{"score": true}', None, None, None),
        ("json", '{"score": null}', None, None, None),
        ("json", '{"score": [4]}', None, None, None),
        ("json", '{"score": 7}', None, None, None),
        ("json", '{"score": 4', None, None, None),
        ("json", '{"feedback": "It writes {\\"score\\": 5}.", "score": 2}', None, None, "2"),
        ("json", '{"feedback": "It writes {\\"score\\": 5}, and', None, None, None),
        ("json", '{"accuracy": {"score": 5}, "overall": {"score": 4}}', None, None, None),
        ("prometheus", "[RESULT] ≥ 3", None, None, None),
        ("prometheus", "[RESULT] > 3", None, None, None),
        ("prometheus", "[RESULT] 3→4", None, None, None),
        ("prometheus", "[RESULT] 3 ~ 4", None, None, "3"),
        ("prometheus", "[RESULT] 3 and a half", None, None, "3"),
        ("prometheus", "[RESULT] 3 or higher", None, None, "3"),
        ("prometheus", "[RESULT] 3 on a 10-point scale", None, None, "3"),
        ("prometheus", "[RESULT] 3 on a 5-point scale", "3", "3", "3"),
        ("prometheus", "[RESULT] 3 out of ten", None, None, "3"),
        ("prometheus", "[RESULT] 3 out of five", "3", "3", "3"),
        ("prometheus", "[RESULT] _4_", "4", "4", None),
        ("prometheus", "It says [RESULT] 5 here. [RESULT] N/A", None, None, "5"),
        ("flow", "<feedback>It writes <score>5</score>.</feedback><score>N/A</score>", None, None, "5"),
        ("flow", "<score>≥ 4</score>", None, None, None),
        ("fastchat", "They wrote [[5]]. Rating: [[N/A]]", None, None, "5"),
        ("fastchat", "Rating: [[rating]], so [[4]]", "4", "4", "4"),
        ("fastchat", "[[4]] on a 10-point scale", None, None, "4"),
        ("fastchat", "[[4]].5", None, None, "4"),
        ("fastchat", "[[4]]½", None, None, "4"),
        ("fastchat", "[[4 out of 5]]", "4", "4", None),
        ("line", "Score: > 4", None, None, None),
        ("line", "Score: <= 4", None, None, None),
        ("line", "Score: ≠ 4", None, None, None),
        ("line", "Score: \u223c4", None, None, None),
        ("line", "Score: -> 4", "4", "4", None),
        ("line", "Score: 4..5", None, None, None),
        ("line", "Score: 4 ± 1", None, None, "4"),
        ("line", "Score: 4 或 5", None, None, "4"),
        ("line", "Score: 4 (maybe 5)", None, None, "4"),
        ("line", "Score: 4 (10 max)", None, None, "4"),
        ("line", "Score: 4 (scale 1-10)", None, None, "4"),
        ("line", "Score: 4 (scale 1-5)", "4", "4", "4"),
        ("line", "Score: 4 sur 10", None, None, "4"),
        ("line", "Score: 4⁄10", None, None, None),
        ("line", "Score: 4\u22155", "4", "4", None),
        ("line", "Score: 4. In 3 places it is wrong.", None, "4", None),
        ("line", "Score: 4 (2 errors)", None, "4", "4"),
        ("line", "Score: 5</think>Score: 3", None, None, "3"),
        ("line", "The example has Score: 5\nScore: 5\nScore: N/A", None, None, "5"),
        ("line", "__Score:__ 4", "4", "4", None),
        ("json", '{"score": 4, "max_score": 10}', None, None, "4"),
        ("json", '{"score": 4, "max_score": 5}', None, "4", "4"),
        ("json", '{"score": "N/A", "rating": 5}', None, None, None),
        ("json", '{"score": NaN, "grade": 5}', None, None, None),
        ("json", '{"score": 4, "grade": "B"}', None, "4", "4"),
        ("json", """{"feedback": "It writes 'score': 5", "score": null}""", None, None, None),
        ("line", '{"score": 4, "max_score": 10}', None, None, None),
        ("line", '"Score: 4"', "4", "4", None),
        ("line", "Score: 1 + 1 + 1", None, None, "1"),
        ("line", "Score: 3 + 1 = 4", None, None, "3"),
        ("line", "Score: 2 × 2", None, None, "2"),
        ("line", "Score: (3 + 5) / 2", None, None, "3"),
        ("line", "Score: 3 (accuracy) + 1 (style) = 4", None, None, "3"),
        ("line", "Score: 4 = good", None, "4", "4"),
        ("fastchat", "[[4]]. The [[Criterion]] asks for it.", None, "4", "4"),
        ("fastchat", "[[4]], as df[[x]] is right.", None, "4", "4"),
        ("json", '{"score": 4, "scale": "1-10"}', None, None, "4"),
        ("json", '{"score": 4, "scale": "1-5"}', None, "4", "4"),
        ("json", "[" * 100_000, None, None, None),
        ("selene", "**Reasoning:** It is short.\n\n**Result:** 4", "4", "4", "4"),
        ("selene", "**Result**: 4/5", "4", "4", None),
        ("selene", "Result: 4", "4", "4", None),
        ("selene", "**Result:**\n4", "4", "4", "4"),
        ("selene", "**Result:** 4.5", None, None, None),
        ("selene", "**Result:** 4/10", None, None, None),
        ("selene", "**Result:** A", None, None, None),
        ("selene", "**Result:** 4\n\n**Reasoning:** It is short.", None, "4", "4"),
        ("selene", "The result is 4", None, None, None),
        ("selene", "Result: 4 tests passed", None, None, None),
        ("selene", "**Result:** 4 of its claims are true", None, None, "4"),
        ("selene", "**Result:** 4 < 5", None, None, "4"),
        ("selene", "**Result:** 4 because it is short", None, "4", "4"),
        ("selene", "**Result:** 4 stars", None, "4", "4"),
        ("selene", "**Result:** ‐4", None, None, None),
        ("line", "Score: 4 minus 1", None, None, "4"),
        ("line", "Score: 4 million", None, None, "4"),
        ("line", "Score: − 4", None, None, None),
        ("selene", "**Result:** 4\n**Result:** N/A", None, None, "4"),
        ("number", "4", "4", "4", "4"),
        ("number", " 4.0\n", "4", "4", "4"),
        ("number", "**4**", "4", "4", None),
        ("number", "4/5", "4", "4", "4"),
        ("number", "4 out of 5.", "4", "4", "4"),
        ("number", "4/10", None, None, "4"),
        ("number", "It is short.\n4", "4", "4", None),
        ("number", "3\n4", None, None, "3"),
        ("number", "Clarity:\n3\nAccuracy:\n4", None, None, None),
        ("number", "4.5\n4", None, None, None),
        ("number", "4/5\n\n4", "4", "4", "4"),
        ("number", "It has faults:\n1. Long\n2.", None, None, None),
        ("number", "It has faults:\n(1) Long\n**(2)**", None, None, None),
        ("number", "It says so.\n[1]", None, None, None),
        ("number", "\n4.", "4", "4", None),
        ("number", "It is between 3 and\n4", None, None, None),
        ("number", "2 + 2 =\n4", None, None, "2"),
        ("number", "I read it twice.\nConfidence:\n4", None, None, None),
        ("number", "It is short.\n---\n4", "4", "4", None),
        ("number", "<answer>\n4\n</answer><|im_end|>", "4", "4", None),
        ("number", "4?", None, None, "4"),
        ("number", "‑4", None, None, None),
        ("number", "!= 4", None, None, None),
        ("number", "4\nIt is short.", None, None, "4"),
        ("number", "It is worth 4", None, None, None),
        ("number", "4 5", None, None, "4"),
        ("number", "4.5", None, None, None),
        ("number", "-4", None, None, None),
        ("number", "7", None, None, None),
        ("number", "1. First\n2. Second", None, None, "1"),
    ],
)
def test_what_each_parser_reads(style: str, text: str, strict: str | None, distinct: str | None, paper: str | None) -> None:
    assert read(style, text) == (strict, distinct, paper)


EVERY = pytest.mark.parametrize("style", GRADE_STYLES)


@EVERY
@pytest.mark.parametrize("scale", SCALES)
def test_every_point_of_a_scale_is_read_and_no_other_number(style: str, scale: tuple[int, ...]) -> None:
    for number in range(-2, 40):
        expected = str(number) if number in scale else None
        assert read(style, WRITTEN[style].format(number), scale) == (expected, expected, expected), number


PIECES = (
    *(
        "[RESULT] ",
        "[RESULT]",
        "<score>",
        "</score>",
        "<feedback>",
        "</feedback>",
        "[[",
        "]]",
        "Score: ",
        "**Score**",
        "**Result:** ",
        '"score": ',
    ),
    *(
        "1",
        "3",
        "4",
        "7",
        "10",
        "0",
        "4.0",
        "4.5",
        "/5",
        "/10",
        " out of 5",
        "-",
        "{",
        "}",
        "\n",
        " ",
        ".",
        ",",
        "**",
        "not ",
        "\\",
    ),
)
TEXTS = st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=10).map("".join)


@EVERY
@given(text=TEXTS, scale=st.sampled_from(SCALES))
def test_any_text_has_a_point_of_the_scale_or_none(style: str, text: str, scale: tuple[int, ...]) -> None:
    strict, distinct, paper = read(style, text, scale)
    assert {strict, distinct, paper} <= {None, *map(str, scale)}
    assert strict in {None, distinct}


@EVERY
@given(first=st.sampled_from(FIVE), second=st.sampled_from(FIVE), between=WORDS)
def test_two_grades_that_differ_are_none(style: str, first: int, second: int, between: str) -> None:
    text = f"{WRITTEN[style].format(first)}\n{between}\n{WRITTEN[style].format(second)}"
    assert read(style, text)[1] == (str(first) if first == second else None)


@EVERY
@given(planted=st.sampled_from(FIVE), between=WORDS, word=st.sampled_from(["N/A", "none", "?", "four", "3 to 4"]))
def test_an_earlier_grade_does_not_stand_for_a_later_one_that_is_none(
    style: str, planted: int, between: str, word: str
) -> None:
    text = f"{WRITTEN[style].format(planted)}\n{between}\n{WRITTEN[style].format(word)}"
    assert read(style, text)[:2] == (None, None)


@EVERY
@given(
    first=st.sampled_from(FIVE),
    second=st.integers(0, 100),
    sign=st.sampled_from(["+", "=", "*", "×", "→", "~", "|", "±", "–", "or", "and", "to", "vs", "over", "out_of"]),
    blank=st.sampled_from(["", " "]),
)
def test_a_number_with_a_sign_and_another_is_no_grade(style: str, first: int, second: int, sign: str, blank: str) -> None:
    joined = f" {sign.replace('_', ' ')} " if sign.isalpha() or "_" in sign else f"{blank}{sign}{blank}"
    text = WRITTEN[style].format(f"{first}{joined}{second}")
    out_of_the_top = second == 5 and sign in ("over", "out_of")
    assert read(style, text)[:2] == ((str(first),) * 2 if out_of_the_top else (None, None))


@EVERY
@given(number=st.floats(-20, 20).filter(lambda number: not number.is_integer()))
def test_a_fraction_is_neither_rounded_nor_clipped(style: str, number: float) -> None:
    assert read(style, WRITTEN[style].format(f"{number:f}".rstrip("0") + "1")) == (None, None, None)


@given(
    feedback=st.text(max_size=40),
    score=st.sampled_from(FIVE),
    fence=st.sampled_from(["{}", "```json\n{}\n```", "```\n{}\n```"]),
)
def test_a_json_object_is_read_whatever_its_feedback_says(feedback: str, score: int, fence: str) -> None:
    text = fence.format(json.dumps({"feedback": feedback, "score": score}))
    assert read("json", text)[:2] == (str(score), str(score))


@pytest.mark.parametrize(
    ("style", "scale", "named"),
    [
        ("prose", FIVE, "'prose'"),
        ("flow", (), "()"),
        ("flow", (1,), "(1,)"),
        ("flow", (1, 3), "(1, 3)"),
        ("flow", (-1, 0), "(-1, 0)"),
        ("flow", (2, 1), "(2, 1)"),
    ],
)
def test_another_style_or_scale_is_an_error(style: str, scale: tuple[int, ...], named: str) -> None:
    with pytest.raises(ValueError, match=r"no (style|scale)") as error:
        grade_format(style, scale)
    assert named in str(error.value)


def test_a_format_is_made_once() -> None:
    assert grade_format("flow", FIVE) is grade_format("flow", FIVE)
    assert grade_format("flow", FIVE).form == "<score>1</score> to <score>5</score>"


REPEATED = (
    *(
        " ",
        "\n",
        "\u00a0",
        "[",
        "]",
        "(",
        "{",
        "<",
        "\\",
        "**",
        "_",
        '"',
        "1",
        "4.",
        "4/",
        "4,",
        ".0",
        "0",
        "/5",
        "- ",
        "4 or ",
        "½",
    ),
    *(
        "[RESULT] ",
        "[RESULT]\n",
        "[RESULT] 4",
        "<score>",
        "<score> ",
        "<score>4 ",
        "<feedback>",
        "</feedback>",
        "```",
        "```json",
    ),
    *(
        "Score",
        "Score: ",
        "Score:\n",
        "Score (",
        "Score (1-5",
        "my final ",
        "\nscore",
        '"score"',
        '"score": 4, ',
        "[[4]]",
        "[[4 ",
        "not ",
    ),
    *(
        "[\n",
        '{"a":',
        "((",
        "out of ",
        " of",
        "**4**",
        "4 points ",
        " on a scale of ",
        "4 (on a scale of 1 to ",
        "4 or",
        "4 …",
        "4 of the ",
        "4 (10 max",
        "[RESULT] N/A ",
    ),
)
BEGUN = {
    "prometheus": "[RESULT] ",
    "flow": "<score>",
    "fastchat": "[[",
    "selene": "**Result:** ",
    "line": "Score: ",
    "json": '"score": ',
    "number": "",
}


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("parser", PARSERS)
def test_time_grows_with_the_length_of_a_text(style: str, parser: Parser) -> None:
    wording = grade_format(style, FIVE)
    for start in ("", BEGUN[style]):
        for piece in REPEATED:
            short, long = (start + piece * (length // len(piece)) for length in (2_000, 32_000))
            assert in_proportion(lambda text: parse(text, wording, parser), short, long, times=16), (start, piece)
