"""The probability of a verdict from the tokens that write it: in every format, however a tokenizer cuts it."""

import asyncio
import math
from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.engine.scripted import ScriptedEngine
from stj.generate import Sampling, Token, TracedSampling
from stj.prompts.variants import VARIANTS
from stj.rows import Pair, Turn, row_from_dict, rows_to_table
from stj.stages.distribution import CHOICES, probability_of_a
from stj.stages.runner import TokenCounter
from stj.stages.vote import PairVerdict, Vote, pair_verdict, vote
from stj.use_config import VoteConfig
from stj.verdict import FIVE_ALONE, FORMATS, OUTPUT, PAIR, PAIR_OR_TIE, PARSERS, RESULT, Format, parse
from tests.conftest import make_row

REASONS = "Assistant A is a bit better than B, so the verdict is"
# The format, the pieces of a tag up to its letter, the letter, the other letter, and the pieces behind it.
TAGS: list[tuple[Format, list[str], str, str, list[str]]] = [
    (PAIR, [" [[", "A", "]]"], "A", "B", []),
    (PAIR, [" [", "[", "A", "]", "]"], "A", "B", ["."]),
    (PAIR, [" [[A", "]]"], " [[A", " [[B", []),
    (PAIR, [" [[A]]"], " [[A]]", " [[B]]", []),
    (PAIR, [" [[", " A", " ]]"], " A", " B", ["**"]),
    (PAIR, [" \\[\\[", "A", "\\]\\]"], "A", "B", []),
    (PAIR, ["［［", "Ａ", "］］"], "Ａ", "B", []),
    (PAIR_OR_TIE, [" [[", "A", "]]"], "A", "B", []),
    (FIVE_ALONE, [" [[", "A", ">>", "B", "]]"], "A", "B", []),
    (FIVE_ALONE, [" [[A", ">", "B]]"], " [[A", " [[B", []),
    (RESULT, [" [RESULT]", " A"], " A", " B", []),
    (OUTPUT, [" Output (", "a", ") is", " better"], "a", "b", ["."]),
    (OUTPUT, [" Output", " (a", ")", " is better"], " (a", " (b", []),
]


def certain(text: str) -> Token:
    return Token(text, ((text, 1.0),))


def tokens_of(pieces: Sequence[str], letter: str, choices: Sequence[tuple[str, float]]) -> list[Token]:
    return [Token(piece, tuple(choices)) if piece == letter else certain(piece) for piece in pieces]


def judgment(pieces: Sequence[str], behind: Sequence[str] = (), *, reasons: str = REASONS) -> list[str]:
    words = reasons.split(" ")
    return [words[0], *(f" {word}" for word in words[1:]), *pieces, *behind]


def probability(tokens: Sequence[Token], wording: Format, parser: str = "distinct") -> float | None:
    text = "".join(token.text for token in tokens)
    return probability_of_a(tokens, text, partial(parse, wording=wording, parser=parser))  # type: ignore[arg-type]


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(("wording", "pieces", "letter", "other", "behind"), TAGS)
def test_the_probability_is_that_of_the_letter_however_the_tag_is_cut(
    wording: Format, pieces: list[str], letter: str, other: str, behind: list[str], parser: str
) -> None:
    choices = [(letter, 0.6), (other, 0.2), ("!", 0.1)]
    for pieces_of_reasons in (judgment(pieces, behind), judgment(pieces, behind, reasons="")):
        tokens = tokens_of(pieces_of_reasons, letter, choices)
        read = parse("".join(pieces_of_reasons), wording, parser)  # type: ignore[arg-type]
        expected = None if read is None else 0.75  # among verdicts: "!" is none
        assert probability(tokens, wording, parser) == (expected if expected is None else pytest.approx(expected))
        turned = [token._replace(text=other) if token.text == letter else token for token in tokens]
        if "".join(pieces) == f"{pieces[0]}A]]" and read:  # A sample may write the less likely letter.
            assert probability(turned, wording, parser) == pytest.approx(0.75)


def test_a_letter_of_the_reasons_is_no_verdict() -> None:
    """Neither "A" among the reasons, nor an earlier tag of another format, nor a tag inside the thought."""
    words = tokens_of(["A", " beats", " B", ". "], "A", [("A", 0.5), ("B", 0.5)])
    tag = [certain("[["), Token("A", (("A", 0.9), ("B", 0.1))), certain("]]")]
    assert probability([*words, *tag], PAIR) == pytest.approx(0.9)
    thought = [certain("<think>[["), Token("B", (("B", 0.7), ("A", 0.3))), certain("]]</think>\n\n")]
    assert probability_of_a([*thought, *tag], "[[A]]", partial(parse, wording=PAIR, parser="distinct")) == pytest.approx(0.9)


def test_the_first_of_equal_tags_decides() -> None:
    """At the second the judge only repeats itself."""
    first = [certain("[["), Token("A", (("A", 0.6), ("B", 0.4))), certain("]]")]
    again = [certain(" So: [["), certain("A"), certain("]]")]
    assert probability([*first, *again], PAIR) == pytest.approx(0.6)


def test_a_tie_counts_half() -> None:
    choices = [("A", 0.5), ("B", 0.2), ("C", 0.2)]
    tags = {letter: [certain("[["), Token(letter, tuple(choices)), certain("]]")] for letter in "ABC"}
    assert {letter: probability(tag, PAIR_OR_TIE) for letter, tag in tags.items()} == {
        letter: pytest.approx(0.6 / 0.9) for letter in "ABC"
    }
    assert probability(tags["A"], PAIR) == pytest.approx(5 / 7)  # Figure 8 offers no tie.


def test_five_verdicts_sum_over_all_continuations() -> None:
    """[[A=B]] has A for its first letter too."""
    sign = Token(">", ((">", 0.5), ("=", 0.3), (">>", 0.2)))
    tag = [certain("[["), Token("A", (("A", 0.8), ("B", 0.2))), sign, certain("B"), certain("]]")]
    assert probability(tag, FIVE_ALONE) == pytest.approx(0.8 * (0.7 + 0.3 * 0.5))


SCORE = Token("8", (("8", 0.5), ("9", 0.1), ("6", 0.2), ("7", 0.2)))
NUMBER = Token("1", (("1", 0.6), ("2", 0.3), ("Tie", 0.1)))
LETTER = Token("A", (("A", 0.6), ("B", 0.2), ("C", 0.2)))


@pytest.mark.parametrize(
    ("name", "tokens", "expected"),
    [
        ("judgelm", [SCORE, certain(" "), certain("7"), certain("\nBecause of 5 6.")], 0.7),
        ("judgelm", [certain("1"), certain("0"), certain(" "), Token("7", (("7", 0.6), ("9", 0.3), ("10", 0.1)))], 0.95),
        ("pandalm", [NUMBER, certain("\n\n### Reason: 2 is worse.")], 0.65),
        ("auto-j", [certain("so the final decision is"), certain(" Response"), certain(" "), NUMBER], 0.6 / 0.9),
        ("boxed", [certain("It is \\"), certain("boxed{"), LETTER, certain("}.")], 0.7),
        ("boxed", [certain("\\boxed{\\text{"), LETTER, certain("}}")], 0.7),
        ("letter", [certain("Reasons of A.\n"), certain("Answer: "), LETTER], 0.7),
        ("judgebench", [certain("[["), Token("A", (("A", 0.6), ("B", 0.4))), certain("]]")], 0.6),
    ],
)
def test_the_formats_of_published_judges_are_read_too(name: str, tokens: list[Token], expected: float) -> None:
    assert probability(tokens, FORMATS[name]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([("A", 0.97), ("The", 0.02), ("*", 0.005)], 0.97 / 0.975),  # at most the lowest of them,
        ([("A", 0.99), ("The", 0.009)], 0.99 / 0.991),  # and at most what they leave
        ([("A", 1.0)], 1.0),
        ([("A", 0.2)], 0.5),  # never below one half: it cannot be the likelier one
    ],
)
def test_a_label_that_is_not_among_the_choices_is_bounded(choices: list[tuple[str, float]], expected: float) -> None:
    tokens = [certain("It is [["), Token("A", tuple(choices)), certain("]]")]
    assert probability(tokens, PAIR) == pytest.approx(expected)
    turned = [tokens[0], Token("B", tuple((text.replace("A", "B"), share) for text, share in choices)), tokens[2]]
    assert probability(turned, PAIR) == pytest.approx(1 - expected)


def test_without_a_verdict_there_is_no_probability_and_without_its_tokens_it_is_certain() -> None:
    read = partial(parse, wording=PAIR, parser="distinct")
    assert probability_of_a([certain("none")], "none", read) is None
    assert probability_of_a([], "[[B]]", read) == 0
    assert probability_of_a([certain("?"), certain("??")], "[[A]]", read) == 1


PIECES = st.sampled_from(["[[", "]]", "A", "B", "[", "]", " ", "[[A]]", "[[B]]", "not", "\n", "C", "ａ", "]] [[", "Ｂ"])
CHOICE = st.tuples(PIECES, st.floats(0, 1))


@given(
    st.lists(
        st.builds(lambda text, p, more: Token(text, ((text, p), *more)), PIECES, st.floats(0, 1), st.lists(CHOICE, max_size=4))
    )
)
def test_any_tokens_give_a_probability_or_none(tokens: list[Token]) -> None:
    text = "".join(token.text for token in tokens)
    for parser in PARSERS:
        share = probability(tokens, PAIR, parser)
        assert (share is None) == (parse(text, PAIR, parser) is None)
        assert share is None or 0 <= share <= 1


def test_a_long_judgment_is_read_in_little_time() -> None:
    tokens = [certain(" word")] * 20_000 + [certain(" [["), Token("A", (("A", 0.6), ("B", 0.4))), certain("]]")]
    assert probability(tokens, PAIR) == pytest.approx(0.6)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_pair_is_judged_by_the_mean_of_probabilities_with_every_prompt(name: str) -> None:
    """Two votes of three are for A, and the third is far surer: the mode and the mean differ."""
    written = {"figure8": "[[{}]]", "arena": "[[{}>{}]]", "prometheus": "[RESULT] {}"}.get(name, "[[{}]]")
    sure = iter([("A", 0.55), ("B", 0.55), ("A", 0.55), ("B", 0.55), ("B", 0.99), ("A", 0.99)])

    def answer(messages: Sequence[Turn], sampling: Sampling) -> str:
        assert isinstance(sampling, TracedSampling)
        assert sampling.choices == CHOICES
        letter, share = next(sure)
        return f"{written.format(letter, 'AB'['BA'.index(letter)])} {share}"

    def trace(text: str) -> list[Token]:
        tag, _, share = text.rpartition(" ")
        before, letter, after = tag.partition("A" if tag.find("A") >= 0 and not 0 <= tag.find("B") < tag.find("A") else "B")
        turned = "AB"["BA".index(letter)]
        return [
            certain(before),
            Token(letter, ((letter, float(share)), (turned, 1 - float(share)))),
            certain(f"{after} {share}"),
        ]

    engine = ScriptedEngine(answer, trace=trace)
    config = VoteConfig(prompt=name, votes=3, aggregate="distribution")  # type: ignore[arg-type]
    row = make_row(pair=Pair(method="open", chosen="x", rejected="y"))
    judged = asyncio.run(vote(row, TokenCounter(engine.generate), config))
    result = pair_verdict(judged, config)
    assert [vote.probability for vote in result.votes] == pytest.approx([0.55] * 4 + [0.01] * 2)
    assert (result.verdict, result.distribution) == ("B", pytest.approx(0.37))
    assert (result.confidence, result.reward) == (pytest.approx(0.63), pytest.approx(-0.26))
    assert result.plain()["distribution"] == result.distribution
    assert result.plain()["votes"][0]["probability"] == pytest.approx(0.55)
    assert pair_verdict(judged, VoteConfig(votes=3)).verdict == "A"
    again = [row_from_dict(record) for record in rows_to_table([judged]).to_pylist()]
    assert pair_verdict(again[0], config) == result


def test_a_vote_without_a_verdict_counts_one_half() -> None:
    votes = (
        Vote(shown_first="A", verdict=None, text="?"),
        Vote(shown_first="B", verdict="B", text="[[A]]", probability=0.25),
    )
    result = PairVerdict(votes=votes, most_votes=2, aggregate="distribution")
    assert (result.distribution, result.verdict, result.confidence, result.reward) == (0.375, "B", 0.625, -0.25)
    assert "probability" not in result.plain()["votes"][0]
    nothing = PairVerdict(votes=(), error="no", aggregate="distribution")
    assert (nothing.distribution, nothing.verdict, nothing.confidence, nothing.reward) == (None, None, 0, 0)
    assert math.isclose(PairVerdict(votes=votes[:1], aggregate="distribution").confidence, 0.5)
