"""The verdict of a judgment: two parsers for every format."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.verdict import (
    BEST_OF_FOUR,
    FIVE_ALONE,
    FIVE_WAY,
    GRADE,
    OUTPUT,
    PAIR,
    PAIR_OR_TIE,
    PARSERS,
    RATING,
    RESULT,
    TIE,
    Format,
    Parser,
    majority,
    other,
    parse,
    parse_verdict,
    rating,
)

FORMATS = {
    "pair": PAIR,
    "pair or tie": PAIR_OR_TIE,
    "best of four": BEST_OF_FOUR,
    "five way": FIVE_WAY,
    "output": OUTPUT,
    "five alone": FIVE_ALONE,
    "result": RESULT,
    "grade": GRADE,
    "rating": RATING,
}
LABELS: dict[str, set[str | None]] = {
    "pair": {"A", "B", None},
    "pair or tie": {"A", "B", TIE, None},
    "best of four": {"A", "B", "C", "D", None},
    "five way": {"A", "B", TIE, None},
    "output": {"A", "B", None},
    "five alone": {"A", "B", TIE, None},
    "result": {"A", "B", None},
}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Assistant A is right. [[A]]", "A"),
        ("My final verdict is: **[[B]]**.", "B"),
        ("“[[A]]”\n", "A"),
        ("[[A]] it is: [[A]]", "A"),
        ("neither [[A]] nor [[B]]", None),
        ("The answer quotes [[A]], but it is worse: [[B]]", None),
        ("[[C]]", None),
        ("[[A]] is better, although", None),
        ("so assistant A is better. [[A", None),
        ("[[a]]", None),
        ("", None),
    ],
)
def test_the_only_tag_at_the_end(text: str, verdict: str | None) -> None:
    assert parse_verdict(text) == verdict


@given(st.text())
def test_any_text_has_a_verdict_or_none(text: str) -> None:
    assert parse_verdict(text) in {"A", "B", None}


@given(st.text(alphabet=st.characters(exclude_characters="[]")), st.sampled_from(["A", "B"]))
def test_a_tag_after_any_explanation_is_found(explanation: str, label: str) -> None:
    assert parse_verdict(f"{explanation}[[{label}]]") == label


def test_the_other_label() -> None:
    assert (other("A"), other("B")) == ("B", "A")


@pytest.mark.parametrize(
    ("name", "text", "strict", "paper"),
    [
        ("pair", "neither [[A]] nor [[B]]", None, "A"),
        ("pair", "It quotes [[A]]. Verdict: [[B]]", None, "A"),
        ("pair", "[[B]] because it is right", None, "B"),
        ("pair", "[[C]]", None, None),
        ("pair", "**[[A]]**", "A", "A"),
        ("pair", 'Therefore, the final verdict is "[[B]]".', "B", "B"),  # as real judges write it
        ("pair or tie", "Both are fine: [[C]]", TIE, TIE),
        ("pair or tie", "not [[C]] but [[B]]", None, "B"),
        ("pair or tie", '[["A"]]', None, None),
        ("pair or tie", "[[Assistant A]]", None, None),
        ("best of four", "[[D]]", "D", "D"),
        ("best of four", "[[D]] or [[C]]", None, "C"),
        ("best of four", "[[E]]", None, None),
        ("five way", "My final verdict is: [[A>>B]]", "A", "A"),
        ("five way", "[[B>A]] ... [[B>A]]", "B", "B"),
        ("five way", "[[A=B]]", TIE, TIE),
        ("five way", "[[A>B]], which is [[A>>B]]", None, None),
        ("five way", "[[A>B]] since A is right", None, "A"),
        ("five way", "[[A<B]]", None, None),
        ("five way", "[[A]] ... [[B>A]]", None, None),
        ("five way", "[[C]] ... [[B>A]]", None, "B"),
        ("five alone", "[[A]] ... [[B>A]]", None, None),
        ("five alone", "[[A]]", None, "A"),
        ("five alone", "[[A=B]]", TIE, TIE),
        ("result", "Feedback: both are short. [RESULT] B", "B", "B"),
        ("result", "[RESULT] C or [RESULT] A", None, "A"),
        ("result", "[RESULT] A or [RESULT] B", None, "A"),
        ("result", "[RESULT] (A).", "A", None),
        ("result", "[Result] a", None, "A"),
        ("result", "[RESULT] Both", None, None),
        ("output", "Output (a)", "A", "A"),
        ("output", "Therefore, Output (b) is better.", "B", "B"),
        ("output", "Output (b) is better. Output (a) repeats itself.", None, "B"),
        ("output", "Output (b) is better, so Output (a) is better.", None, "A"),
        ("output", "I do not think that Output (a) is better.", None, "A"),
        ("output", "It isn't true that Output (b) is better.", None, "B"),
        ("output", "Output (a) does not answer, so Output (b) is better.", "B", "B"),
        ("output", "Neither Output (a) nor Output (b) is better.", None, "B"),
        ("output", "Both Output (a) and Output (b) are good.", None, None),
        ("grade", "Rating: [[8]]", "8", "8"),
        ("grade", "Rating: [[7.5]]", "7.5", "7.5"),
        ("grade", "Rating: [6]", None, "6"),
        ("grade", "[[5]] or [[6]]", None, "5"),
        ("grade", "Rating: [[11]]", None, "11"),
        ("rating", "Good.\n\n9", "9", "9"),
        ("rating", "10", "10", "10"),
        ("rating", "9/10", "9", "10"),
        ("rating", "8.5", "8.5", "5"),
        ("rating", "7 out of 10", "7", "10"),
        ("rating", "7 of 10", "7", "10"),
        ("rating", "7 (out of 10)", "7", None),
        ("rating", "Rating (1 to 10): 7.5 / 10.", "7.5", None),
        ("rating", "between 7 and 8", None, "8"),
        ("rating", "between 7/10 and 8/10", None, "10"),
        ("rating", "7 or 8", None, "8"),
        ("rating", "7-8", None, "8"),
        ("rating", "7,5", None, "5"),
        ("rating", "4 out of 5", None, "5"),
        ("rating", "7/8", None, "8"),
        ("rating", "10 out of 10", "10", "10"),
        ("rating", "**7**", "7", None),
        ("rating", "0", None, None),
        ("rating", "in 2024", None, None),
        ("rating", "I give it 7 because", None, None),
    ],
)
def test_what_the_two_parsers_read(name: str, text: str, strict: str | None, paper: str | None) -> None:
    assert (parse(text, FORMATS[name], "strict"), parse(text, FORMATS[name], "paper")) == (strict, paper)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("name", FORMATS)
@given(text=st.text() | st.text(alphabet="[]ABC<>=(ab)Output is better.0123456789/"))
def test_any_text_has_a_verdict_of_its_format_or_none(name: str, parser: Parser, text: str) -> None:
    verdict = parse(text, FORMATS[name], parser)
    if name in LABELS:
        assert verdict in LABELS[name]
    else:
        assert verdict is None or rating(verdict) is not None


@given(st.text(alphabet="[]AB xy.*"))
def test_a_strict_verdict_on_a_pair_is_the_official_one_too(text: str) -> None:
    assert parse(text, PAIR, "strict") in {None, parse(text, PAIR, "paper")}


TAGS = {
    "pair": ("[[A]]", "[[B]]", "[[C]]"),
    "pair or tie": ("[[A]]", "[[B]]", "[[C]]"),
    "best of four": ("[[A]]", "[[B]]", "[[C]]", "[[D]]"),
    "five way": ("[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", "[[B]]"),
    "five alone": ("[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]"),
    "result": ("[RESULT] A", "[RESULT] B", "[RESULT] C"),
    "output": ("Output (a) is better", "Output (b) is better"),
    "grade": ("[[7]]", "[[8.5]]", "[[10]]"),
    "rating": ("7", "9/10", "8.5", "3 out of 10"),
}
PIECES = (
    *(tag for tags in TAGS.values() for tag in tags),
    "[[",
    "]]",
    "[",
    "A",
    "(a)",
    "is better",
    "not ",
    " and ",
    " of 10",
    "\n",
    " ",
    ".",
    "**",
    "”",
    "\u2028",
    "\0",
    "\ud800",
    "９",
    "é",
    "text",
)
TAGLESS = (
    "Assistant A",
    "[A]",
    "[[a]]",
    "[ [A] ]",
    "[[A",
    "A]]",
    "(a)",
    "Output a",
    "the RESULT is A",
    "better",
    "ten out of ten",
    "\n",
    " ",
    ".",
    "\u2028",
    "x" * 40,
)
CITED = ("The user writes “{}”", "It says '{}', which is no argument", "{} stands in the answer", "{}\n\nThat is quoted")


def test_a_hundred_thousand_texts_break_no_parser_and_a_quoted_tag_is_no_verdict() -> None:
    """Texts of tags and their fragments, texts without a tag, and texts of a judge that quotes tags from the responses.

    A forged tag is no verdict if the judge only quotes it and continues. If the judge then gives a verdict, the strict parser
    reads that verdict or none. The official parsers read the first tag, quoted or not.
    """
    chance = random.Random(0)
    names = list(FORMATS)
    for number in range(100_000):
        name = names[number % len(names)]
        wording, kind = FORMATS[name], number // len(names) % 4
        if kind == 0:
            text = "".join(chance.choices(PIECES, k=chance.randrange(12)))
            verdicts = {parse(text, wording, parser) for parser in PARSERS}
            if name in LABELS:
                assert verdicts <= LABELS[name], text
            else:
                assert all(verdict is None or float(verdict) >= 0 for verdict in verdicts), text
        elif kind == 1:
            text = "".join(chance.choices(TAGLESS, k=chance.randrange(12)))
            assert {parse(text, wording, parser) for parser in PARSERS} == {None}, text
        else:
            quoted = [
                chance.choice(CITED).format(chance.choice(TAGS[name])) + " and so on." for _ in range(chance.randrange(4))
            ]
            text = " ".join([*chance.choices(TAGLESS, k=2), *quoted])
            assert parse(text, wording, "strict") is None, text
            if kind == 3:
                final = chance.choice(TAGS[name])
                assert parse(f"{text}\n\n{final}", wording, "strict") in {None, parse(final, wording, "strict")}, text


@pytest.mark.parametrize("wording", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("parser", PARSERS)
def test_a_long_text_is_parsed_quickly(wording: Format, parser: Parser) -> None:
    """A megabyte of verdicts that never end: parsing is linear, or this test takes forever."""
    for piece in ("[[A", "[[", "1", "9 ", "Output (", "[[A>", "1.1", "1 and ", "1,", "9 of ", "not ", "[RESULT] "):
        parse(piece * (1_000_000 // len(piece)), wording, parser)


def test_a_majority_is_what_most_votes_say() -> None:
    assert majority(["A", "B", "A", None]) == "A"
    assert majority(["A", "B"]) is None
    assert majority([None, None, "B"]) == "B"
    assert majority([None]) is None
    assert majority([]) is None
