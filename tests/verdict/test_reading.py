"""The verdict of a judgment: three parsers for every format."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.verdict import FORMATS, GRADE, PAIR, PARSERS, RESULT, TIE, Parser, majority, other, parse, rating
from tests.cpu_time import in_proportion

LABELS: dict[str, set[str | None]] = {
    "figure8": {"A", "B", None},
    "fastchat": {"A", "B", TIE, None},
    "best-of-four": {"A", "B", "C", "D", None},
    "judgebench": {"A", "B", TIE, None},
    "llmbar": {"A", "B", None},
    "arena": {"A", "B", TIE, None},
    "prometheus": {"A", "B", None},
    **{name: {"A", "B", TIE, None} for name in ("judgelm", "pandalm", "auto-j", "boxed", "letter", "decision")},
}


FIGURE_9 = """**Evaluation:**

**Assistant A:**
* Accuracy: 5/5 (right)

**Assistant B:**
* Accuracy: 5/5 (right)

**Final Verdict:**

From this I conclude that **[[A]]** is the better response. Both are right, but Assistant A uses the word that fits better."""
"""A judgment of the form that the paper's Figure 9 shows: its last paragraph gives the verdict and then the reasons."""


@pytest.mark.parametrize(
    ("text", "strict", "distinct"),
    [
        ("Assistant A is right. [[A]]", "A", "A"),
        ("My final verdict is: **[[B]]**.", "B", "B"),
        ("“[[A]]”\n", "A", "A"),
        ("[[A]] it is: [[A]]", "A", "A"),
        (FIGURE_9, None, "A"),
        ("[[A]] is better, although", None, "A"),
        ("I would say [[A]] if it were right, but it is not.", None, "A"),
        ("neither [[A]] nor [[B]]", None, None),
        ("The answer quotes [[A]], but it is worse: [[B]]", None, None),
        ('Output your verdict: "[[A]]" if assistant A is better, "[[B]]" if assistant B is better.', None, None),
        ("[[A]] or a tie, [[C]]", None, None),
        ("The better one is not [[A]].", None, None),
        ("It isn't **[[A]]**", None, None),
        ("Neither [[A]] nor the other", None, None),
        ("A answers, B does not.\n\n[[A]]", "A", "A"),
        ("Which one is better or not: [[A]]", "A", "A"),
        ("[[C]]", None, None),
        ("so assistant A is better. [[A", None, None),
        ("[[a]]", None, None),
        ("", None, None),
    ],
)
def test_the_one_distinct_tag(text: str, strict: str | None, distinct: str | None) -> None:
    assert (parse(text, PAIR, "strict"), parse(text, PAIR, "distinct")) == (strict, distinct)


CLOSED = (
    *("{}。", "「{}」", "『{}』。", "（{}）", "« {} »", "»{}«", "„{}“", "{}।", "{}…", "【{}】", "{}！", "{}؟", "{}—"),
    *("{}\u200b", "{}\ufeff", "{}\u00a0", "{}\u202f", "{}\u2060\n", "{}\u200e", "{}\u202c", "{}\u2069", "{}\u3000", "{}\0"),
    *("\\boxed{{{}}}", "\\boxed{{\\text{{{}}}}}", "**{}**", "***{}***", "`{}`", "```\n{}\n```", "$${}$$"),
    *("\\[ {} \\]", "| {} |"),
    *("<answer>{}</answer>", "{}</s>", "{}<|im_end|>", "{}<|eot_id|>\n", "{}<end_of_turn>", "{}<｜end▁of▁sentence｜>"),
    *("{}\n\n---", "{}\n***\n", "{}\n___", "{}\n======", '{{"verdict": "{}"}}'),
)
"""What judges write around the last thing they say."""
WRITTEN = (
    *("[[{}]]", "[[ {} ]]", "[[\n{}\n]]", "[[\u200b{}]]", "[[{}\u200b]]", "[\ufeff[{}]\u2060]"),
    *("\\[\\[{}\\]\\]", "［［{}］］"),
)
"""A tag with blanks, invisible characters, escapes, or full-width forms."""


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("label", ["A", "B"])
def test_closing_marks_may_follow_a_verdict(label: str, closed: str) -> None:
    text = "It is right: " + closed.format(f"[[{label}]]")
    assert parse(text, PAIR, "strict") == parse(text, PAIR, "distinct") == label


@pytest.mark.parametrize("written", WRITTEN)
def test_a_tag_may_hold_what_a_reader_does_not_see(written: str) -> None:
    for parser in ("strict", "distinct"):
        assert parse(f"right: {written.format('A')}", PAIR, parser) == "A"
        assert parse(f"{written.format('A')}, [[A]]", PAIR, parser) == "A"
        assert parse(f"{written.format('A')}, [[B]]", PAIR, parser) is None
    assert parse(f"right: {written.format('A')}", PAIR, "paper") == ("A" if "[[A]]" in written.format("A") else None)


NOT_CLOSING = (
    "（",
    "(",
    "「",
    "✅",
    "x",
    "好",
    "7",
    "<answer>",
    "<b>",
    "</" + "x" * 60 + ">",
    "</ or not, after all>",
    "\nThat is all.",
)


@pytest.mark.parametrize("after", NOT_CLOSING)
def test_what_is_no_closing_mark_may_not_follow_a_strict_verdict(after: str) -> None:
    assert parse(f"[[A]]{after}", PAIR, "strict") is None
    assert parse(f"[[A]]{after}", PAIR, "distinct") == "A"


@given(st.text())
def test_any_text_has_a_verdict_or_none(text: str) -> None:
    assert {parse(text, PAIR, parser) for parser in PARSERS} <= {"A", "B", None}


WITHOUT_BRACKETS = st.text(alphabet=st.characters(exclude_characters="[]［］\\"))


@given(WITHOUT_BRACKETS, st.sampled_from(["A", "B"]))
def test_a_tag_after_any_explanation_is_found(explanation: str, label: str) -> None:
    assert parse(f"{explanation}.[[{label}]]", PAIR, "strict") == label


@given(WITHOUT_BRACKETS, WITHOUT_BRACKETS)
def test_a_tag_anywhere_is_found(before: str, after: str) -> None:
    assert parse(f"{before}.[[B]]{after}", PAIR, "distinct") == "B"


def test_the_other_label() -> None:
    assert (other("A"), other("B")) == ("B", "A")


@pytest.mark.parametrize(
    ("name", "text", "strict", "distinct", "paper"),
    [
        ("figure8", "neither [[A]] nor [[B]]", None, None, "A"),
        ("figure8", "It quotes [[A]]. Verdict: [[B]]", None, None, "A"),
        ("figure8", "[[B]] because it is right", None, "B", "B"),
        ("figure8", "[[C]]", None, None, None),
        ("figure8", "**[[A]]**", "A", "A", "A"),
        ("figure8", 'Therefore, the final verdict is "[[B]]".', "B", "B", "B"),  # as real judges write it
        ("fastchat", "Both are fine: [[C]]", TIE, TIE, TIE),
        ("fastchat", "not [[C]] but [[B]]", None, None, "B"),
        ("fastchat", '[["A"]]', None, None, None),
        ("fastchat", "[[Assistant A]]", None, None, None),
        ("best-of-four", "[[D]]", "D", "D", "D"),
        ("best-of-four", "[[D]] or [[C]]", None, None, "C"),
        ("best-of-four", "[[E]]", None, None, None),
        ("judgebench", "My final verdict is: [[A>>B]]", "A", "A", "A"),
        ("judgebench", "[[B>A]] ... [[B>A]]", "B", "B", "B"),
        ("judgebench", "[[A=B]]", TIE, TIE, TIE),
        ("judgebench", "[[A>B]], which is [[A>>B]]", None, None, None),
        ("judgebench", "[[A>B]] since A is right", None, "A", "A"),
        ("judgebench", "[[A<B]]", None, None, None),
        ("judgebench", "[[A]] ... [[B>A]]", None, None, None),
        ("judgebench", "[[C]] ... [[B>A]]", None, None, "B"),
        ("judgebench", "[[A >> B]]", "A", "A", None),
        ("judgebench", "［［A＞B］］", "A", "A", None),
        ("judgebench", "[[ B>A ]]. [[B > A]]", "B", "B", None),
        ("judgebench", "My choice is not [[A=B]]", None, None, TIE),
        ("arena", "[[A]] ... [[B>A]]", None, None, None),
        ("arena", "[[A]]", None, None, "A"),
        ("arena", "[[A=B]]", TIE, TIE, TIE),
        ("prometheus", "Feedback: both are short. [RESULT] B", "B", "B", "B"),
        ("prometheus", "[RESULT] C or [RESULT] A", None, None, "A"),
        ("prometheus", "[RESULT] A or [RESULT] B", None, None, "A"),
        ("prometheus", "[RESULT] (A).", "A", "A", None),
        ("prometheus", "[Result] a", None, None, "A"),
        ("prometheus", "[RESULT] Both", None, None, None),
        ("prometheus", "Feedback. [RESULT]\nB", "B", "B", "B"),
        ("prometheus", "**[RESULT] B**", "B", "B", None),
        ("prometheus", "[RESULT] **B**", "B", "B", None),
        ("prometheus", "[RESULT] 'B'", "B", "B", None),
        ("prometheus", "[RESULT] Response B", "B", "B", "B"),
        ("prometheus", "[RESULT] B</s>", "B", "B", None),
        ("prometheus", "[Result]: Ｂ", "B", "B", None),
        ("prometheus", "[RESULT: B]", "B", "B", "B"),
        ("prometheus", "[RESULT] B (because it is right)", None, "B", "B"),
        ("prometheus", "[RESULT] A tie", None, None, "A"),
        ("prometheus", "[RESULT] A and B are equal", None, None, "A"),
        ("prometheus", "[RESULT] A, B", None, None, None),
        ("figure8", "It shouldn't be [[A]]", None, None, "A"),
        ("figure8", "not quite [[A]]", None, None, "A"),
        ("prometheus", "[RESULT] A/B", None, None, None),
        ("prometheus", "[RESULT] A.\n\n[RESULT] A", "A", "A", "A"),
        ("llmbar", "Output (a)", "A", "A", "A"),
        ("llmbar", "Therefore, Output (b) is better.", "B", "B", "B"),
        ("llmbar", "Output (b) is better. Output (a) repeats itself.", None, "B", "B"),
        ("llmbar", "Output (b) is better, so Output (a) is better.", None, None, "A"),
        ("llmbar", "I do not think that Output (a) is better.", None, None, "A"),
        ("llmbar", "It isn't true that Output (b) is better.", None, None, "B"),
        ("llmbar", "Output (a) does not answer, so Output (b) is better.", "B", "B", "B"),
        ("llmbar", "Neither Output (a) nor Output (b) is better.", None, None, "B"),
        ("llmbar", "Both Output (a) and Output (b) are good.", None, None, None),
        ("llmbar", "Ｏutput (a) is better", "A", "A", None),
        ("llmbar", "Not surprisingly, Output (a) is better.", "A", "A", "A"),
        ("fastchat-grade", "Rating: [[8]]", "8", "8", "8"),
        ("fastchat-grade", "Rating: [[7.5]]", "7.5", "7.5", "7.5"),
        ("fastchat-grade", "Rating: [6]", None, None, "6"),
        ("fastchat-grade", "[[5]] or [[6]]", None, None, "5"),
        ("fastchat-grade", "Rating: [[11]]", None, None, "11"),
        ("fastchat-grade", "Rating: [[ 8 ]] because it is right", None, "8", None),
        ("fastchat-grade", "[[８]]。", "8", "8", None),
        ("rating", "Good.\n\n9", "9", "9", "9"),
        ("rating", "10", "10", "10", "10"),
        ("rating", "9/10", "9", "9", "10"),
        ("rating", "8.5", "8.5", "8.5", "5"),
        ("rating", "7 out of 10", "7", "7", "10"),
        ("rating", "7 of 10", "7", "7", "10"),
        ("rating", "7 (out of 10)", "7", "7", None),
        ("rating", "Rating (1 to 10): 7.5 / 10.", "7.5", "7.5", None),
        ("rating", "between 7 and 8", None, None, "8"),
        ("rating", "between 7/10 and 8/10", None, None, "10"),
        ("rating", "7 or 8", None, None, "8"),
        ("rating", "7-8", None, None, "8"),
        ("rating", "7,5", None, None, "5"),
        ("rating", "4 out of 5", None, None, "5"),
        ("rating", "7/8", None, None, "8"),
        ("rating", "10 out of 10", "10", "10", "10"),
        ("rating", "**7**", "7", "7", None),
        ("rating", "0", None, None, None),
        ("rating", "in 2024", None, None, None),
        ("rating", "I give it 7 because", None, None, None),
        ("rating", "1 and 7 and 8", None, None, "8"),
        ("rating", "７／１０。", "7", "7", None),
        ("rating", "7½", None, None, None),
        ("rating", "7%", None, None, None),
        ("rating", "I am 7 % sure", None, None, None),
        ("rating", "Rating: 7\u200b", "7", "7", None),
        ("rating", "3 reasons, rating 7", "7", "7", "7"),
        ("judgelm", "8 9", "B", "B", "B"),
        ("judgelm", "9.5 3\nThe first one is right.", None, "A", "A"),
        ("judgelm", "7,7", TIE, TIE, TIE),
        ("judgelm", "9, 8\n", "A", "A", None),  # Its own code splits this line in three.
        ("judgelm", "8/10 9/10", "B", "B", None),
        ("judgelm", "80 9", None, None, "A"),
        ("judgelm", "8", None, None, None),
        ("judgelm", "8 9 7", None, None, None),
        ("judgelm", "The scores are\n8 9", None, None, None),
        ("judgelm", "nan 9", None, None, TIE),
        ("pandalm", "1", "A", "A", "A"),
        ("pandalm", "2\n\n### Reason: it is right", None, "B", "B"),
        ("pandalm", "Tie", TIE, TIE, TIE),
        ("pandalm", "tie</s>", TIE, TIE, TIE),
        ("pandalm", "**2**", "B", "B", None),
        ("pandalm", "1 is better", None, None, None),
        ("pandalm", "3", None, None, None),
        ("pandalm", "The first: 1", None, None, None),
        ("auto-j", "So the final decision is Response 1.", "A", "A", "A"),
        ("auto-j", "the final decision is **Response 2**", "B", "B", None),
        ("auto-j", "The final decision is Tie. Both are short.", None, TIE, TIE),
        ("auto-j", "final decision is Response 1, no: final decision is Response 2", None, None, "B"),
        ("auto-j", "final decision is Response 3", None, None, None),
        ("auto-j", "Response 1 is better", None, None, None),
        ("boxed", r"so \boxed{A}", "A", "A", "A"),
        ("boxed", r"$\boxed{\text{B}}$.", "B", "B", None),
        ("boxed", r"\boxed{Assistant A}, since it is right", None, "A", None),
        ("boxed", r"\boxed{C}", TIE, TIE, TIE),
        ("boxed", r"\boxed{A} or \boxed{B}", None, None, "B"),
        ("boxed", r"not \boxed{A}", None, None, "A"),
        ("boxed", r"\boxed{42}", None, None, None),
        ("letter", "A", "A", "A", "A"),
        ("letter", "**B**.\n", "B", "B", None),
        ("letter", "Both are short.\n\nFinal verdict: B", "B", "B", None),
        ("letter", "**Reasoning:** Both are short.\n\n**Result:** B", "B", "B", None),
        ("letter", "A\nBecause it is right", None, "A", None),
        ("letter", "A\nB", None, None, None),
        ("letter", "Assistant A:\n* it is right", None, None, None),
        ("letter", "I like A", None, None, None),
        ("letter", "<answer>A</answer>", "A", "A", None),
        ("letter", "[[A]]", None, None, None),
        ("letter", "C", TIE, TIE, TIE),
        ("letter", "D", None, None, None),
        ("decision", "A>B", "A", "A", "A"),
        ("decision", "B > A", "B", "B", None),
        ("decision", "A=B", TIE, TIE, TIE),
        ("decision", "A<B", None, None, None),
        ("decision", "A", None, None, None),
        ("prometheus-grade", "Feedback: it is short. [RESULT] 4", "4", "4", "4"),
        ("prometheus-grade", "[RESULT] **5** because", None, "5", None),
        ("prometheus-grade", "[RESULT] 7", None, None, None),
        ("prometheus-grade", "[RESULT] A", None, None, None),
        ("prometheus-grade", "Score: 3/5", None, None, "3"),
    ],
)
def test_what_each_parser_reads(name: str, text: str, strict: str | None, distinct: str | None, paper: str | None) -> None:
    assert tuple(parse(text, FORMATS[name], parser) for parser in PARSERS) == (strict, distinct, paper)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("name", FORMATS)
@given(text=st.text() | st.text(alphabet="[]ABC<>=(ab)Output is better.0123456789/"))
def test_any_text_has_a_verdict_of_its_format_or_none(name: str, parser: Parser, text: str) -> None:
    verdict = parse(text, FORMATS[name], parser)
    if name in LABELS:
        assert verdict in LABELS[name]
    else:
        assert verdict is None or rating(verdict) is not None


TAGS = {
    "figure8": ("[[A]]", "[[B]]", "[[C]]"),
    "fastchat": ("[[A]]", "[[B]]", "[[C]]"),
    "best-of-four": ("[[A]]", "[[B]]", "[[C]]", "[[D]]"),
    "judgebench": ("[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", "[[B]]"),
    "arena": ("[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]"),
    "prometheus": ("[RESULT] A", "[RESULT] B", "[RESULT] C"),
    "llmbar": ("Output (a) is better", "Output (b) is better"),
    "fastchat-grade": ("[[7]]", "[[8.5]]", "[[10]]"),
    "rating": ("7", "9/10", "8.5", "3 out of 10"),
    "judgelm": ("8 9", "9.5, 3", "7 7"),
    "pandalm": ("1", "2", "Tie"),
    "auto-j": ("final decision is Response 1", "final decision is Response 2", "final decision is Tie"),
    "boxed": (r"\boxed{A}", r"\boxed{\text{B}}", r"\boxed{Tie}"),
    "letter": ("\nA", "\nAnswer: B", "\n**C**"),
    "decision": ("A>B", "B>A", "A=B"),
    "prometheus-grade": ("[RESULT] 4", "[RESULT] 5", "[RESULT] 7"),
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
FIRST_LINE = ("judgelm", "pandalm")
"""Formats with the verdict on the first line: a later one is none."""
CITED = ("The user writes “{}”", "It says '{}', which is no argument", "{} stands in the answer", "{}\n\nThat is quoted")


@pytest.mark.slow
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
            text = "".join(chance.choices(TAGLESS[name == "letter" :], k=chance.randrange(12)))  # "Assistant A" is a letter.
            assert {parse(text, wording, parser) for parser in PARSERS} == {None}, text
        else:
            quoted = [
                chance.choice(CITED).format(chance.choice(TAGS[name])) + " and so on." for _ in range(chance.randrange(4))
            ]
            text = " ".join([*chance.choices(TAGLESS[name == "letter" :], k=2), *quoted])
            assert parse(text, wording, "strict") is None, text
            if kind == 3 and name not in FIRST_LINE:
                final = chance.choice(TAGS[name])
                for parser in ("strict", "distinct"):
                    assert parse(f"{text}\n\n{final}", wording, parser) in {None, parse(final, wording, parser)}, text


FORMAT = pytest.mark.parametrize("name", FORMATS)
MORE_PIECES = (*PIECES, *CLOSED, "not ", "never ", "\\", "{", "}", "$", "</s>", "\u200b", "</a")
TEXTS = st.lists(st.sampled_from(MORE_PIECES), max_size=10).map("".join)


@FORMAT
@given(TEXTS)
def test_a_strict_verdict_is_the_distinct_one(name: str, text: str) -> None:
    strict, distinct = (parse(text, FORMATS[name], parser) for parser in ("strict", "distinct"))
    assert strict in {None, distinct}


@given(TEXTS)
def test_a_verdict_on_a_pair_is_the_official_one_if_there_is_one(text: str) -> None:
    official = parse(text, PAIR, "paper")
    assert official is None or {parse(text, PAIR, "strict"), parse(text, PAIR, "distinct")} <= {None, official}


@given(st.text(alphabet="[].12x"))
def test_fastchats_rule_for_grades_is_its_own(text: str) -> None:
    """Its pattern takes quadratic time; ours must read the same."""
    match = re.search(r"\[\[(\d+\.?\d*)\]\]", text) or re.search(r"\[(\d+\.?\d*)\]", text)
    assert parse(text, GRADE, "paper") == (match[1] if match else None)


@given(st.text(alphabet="[]():, \nABResult/esponse5o", max_size=60))
def test_prometheus_rules_are_its_own(text: str) -> None:
    """Its patterns take quadratic time; ours must read the same."""
    relative = re.search(
        r"(?:\[RESULT\]|\[RESULT:\s*|\[Response\s+|\[Result\](?:\s+Response)?|\[Result:\s*|(?:^|\n)Result:?\s*)\s*(A|B)(?:\]|\s|$)",
        text,
        re.IGNORECASE | re.MULTILINE,
    )
    assert parse(text, RESULT, "paper") == (relative[1].upper() if relative else None)


SWAPPED = {"A": "B", "B": "A", TIE: TIE, None: None}
SWAP = str.maketrans({"A": "B", "B": "A", "a": "b", "b": "a", "Ａ": "Ｂ", "Ｂ": "Ａ"})
SIDES = ("Output (a) is better", "Output (b) is better", "Output (a)", "Output (b)")


@pytest.mark.parametrize("parser", ["strict", "distinct"])
@pytest.mark.parametrize("name", ["figure8", "fastchat", "judgebench", "arena", "prometheus", "llmbar", "boxed", "letter"])
@given(data=st.data())
def test_the_swapped_text_has_the_swapped_verdict(name: str, parser: Parser, data: st.DataObject) -> None:
    """The two labels are alike to these parsers. The official parsers look for A first."""
    pieces = [*TAGS[name], *TAGS["figure8"], "A", "B", " ", ".", " not ", "\n", "[[", "]]", "\u200b", *SIDES]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=8)))
    mirrored = re.sub(r"(?<![A-Za-z])[ABab](?![A-Za-z])", lambda label: label[0].translate(SWAP), text)
    assert parse(mirrored, FORMATS[name], parser) == SWAPPED[parse(text, FORMATS[name], parser)]


CLOSING = (
    *("。", "」", "】", "»", "…", "।", "}", "**", "`", "'", "</answer>", "</s>", "<|im_end|>"),
    *("\n", " ", "\u00a0", "\u200b", "\n---\n"),
)


@FORMAT
@given(tags=st.data(), marks=st.lists(st.sampled_from(CLOSING), max_size=6).map("".join))
def test_closing_marks_change_no_verdict(name: str, tags: st.DataObject, marks: str) -> None:
    text = "Reasons. " + " ".join(tags.draw(st.lists(st.sampled_from(TAGS[name]), min_size=1, max_size=3)))
    for parser in ("strict", "distinct"):
        assert parse(f"{text} {marks}", FORMATS[name], parser) == parse(text, FORMATS[name], parser)


REPEATED = (
    *(" ", "\n", "\u00a0", "\u200b", "\u0301\u0327", "[", "]", "(", "{", "<", "</", "<|", "\\", "\\[", "**", "，", "x", "_"),
    *("1", "9 ", "7/", "7.", "7,", "- ", "1.1", "1 and ", "and 7 ", "7 of 10 ", " of 10", "out of ", "( "),
    *("not ", "n't ", "neither nor ", "[[", "[[A", "[[A]", "[[ ", "[[A>", "[[1", "[[1.", "[[A]]", "[[A]] not "),
    *(
        "\\boxed{",
        "\\boxed{A",
        "\\boxed{\\text{",
        "final decision is ",
        "Response ",
        "Answer: ",
        "A\n",
        "1\n",
        "<s>",
        "Score ",
        "A>",
    ),
    *("Output (", "Output (a) ", "[RESULT] ", "[RESULT]\n", "[RESULT", "[RESPONSE ", "RESULT:\n", "[RESULT] A "),
)


BEGUN = {
    **dict.fromkeys(("rating", "judgelm", "pandalm"), "7"),
    **dict.fromkeys(("prometheus", "prometheus-grade"), "[RESULT] "),
    "fastchat-grade": "[[7",
    "llmbar": "Output (a)",
    "auto-j": "final decision is ",
    "boxed": r"\boxed{",
    "letter": "A",
    "decision": "A>",
}
"""The beginning of a tag of a format; of the others it is [[."""


@pytest.mark.slow
@pytest.mark.parametrize("parser", PARSERS)
@FORMAT
def test_time_grows_with_the_length_of_a_text(name: str, parser: Parser) -> None:
    wording = FORMATS[name]
    for start in ("", BEGUN.get(name, "[[")):
        for piece in REPEATED:
            short, long = (start + piece * (length // len(piece)) for length in (2_000, 32_000))
            assert in_proportion(lambda text: parse(text, wording, parser), short, long, times=16), (start, piece)


def test_a_majority_is_what_most_votes_say() -> None:
    assert majority(["A", "B", "A", None]) == "A"
    assert majority(["A", "B"]) is None
    assert majority([None, None, "B"]) == "B"
    assert majority([None]) is None
    assert majority([]) is None
