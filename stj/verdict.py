"""From the text of a judgment to its verdict: the label of the better answer, a tie, a rating, or None.

The text is only the judge's output. Tags inside the responses under judgment never reach this module.

Each prompt asks for its verdict in its own `Format`. Two parsers read every format:

    strict   the verdict if the text gives only one and ends with it; training uses this parser
    paper    the benchmark's official rule, with its errors, so that scores compare with published ones

The formats are at the end of this file, each with the rules that it needs before it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Label = Literal["A", "B", "C", "D"]
"""Label under which a judge sees an answer: A or B in a pair, A to D among four."""
Verdict = str
"""A label, TIE, or a rating as the judge wrote it."""
Parser = Literal["strict", "paper"]
PARSERS: tuple[Parser, Parser] = ("strict", "paper")
TIE = "tie"

_CLOSING_MARKS = " \t\r\n*_`'\".!)”’"  # markdown, quotes and punctuation that may follow a verdict
_LETTER = re.compile(r"\[\[([A-Z])\]\]")


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write a verdict."""

    tag: re.Pattern[str]
    """Pattern of a verdict; the group that matched holds its value."""
    means: Callable[[str], Verdict | None]
    """Verdict of a group's value; None for a value that the prompt did not offer."""
    paper: Callable[[str], Verdict | None]
    """Official parser of a whole text."""


def parse(text: str, wording: Format, parser: Parser) -> Verdict | None:
    """The verdict of a judgment in this format, read by the named parser; None if that parser finds none."""
    return wording.paper(text) if parser == "paper" else _strict(text, wording)


def parse_verdict(text: str) -> Label | None:
    """The strict verdict of a judgment of a pair. Figure 8 asks for "[[A]]" or "[[B]]" after the explanation.

    None for a judgment that names both tags ("neither [[A]] nor [[B]]"), stops before its verdict, continues after it, or
    declares a tie with [[C]].
    """
    verdict = _strict(text, PAIR)
    if verdict == "A":
        return "A"
    return "B" if verdict == "B" else None


def rating(verdict: Verdict | None) -> float | None:
    """A rating as a number."""
    return None if verdict is None else float(verdict)


def majority(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """The most frequent verdict; None if two are equally frequent, or if there is no verdict."""
    given = [verdict for verdict in verdicts if verdict is not None]
    counts = sorted(((given.count(verdict), verdict) for verdict in set(given)), reverse=True)
    if not counts or (len(counts) > 1 and counts[0][0] == counts[1][0]):
        return None
    return counts[0][1]


def other(label: Label) -> Label:
    """The other label of a pair."""
    return "B" if label == "A" else "A"


def _strict(text: str, wording: Format) -> Verdict | None:
    tags = list(wording.tag.finditer(text))
    if not tags or text[tags[-1].end() :].strip(_CLOSING_MARKS):
        return None
    distinct = {tag[tag.lastindex or 0] for tag in tags}
    return wording.means(distinct.pop()) if len(distinct) == 1 else None


def _first(*rules: tuple[str, Verdict]) -> Callable[[str], Verdict | None]:
    """A parser that searches the whole text for each pattern in turn; the first pattern that matches decides."""
    compiled = [(re.compile(pattern), verdict) for pattern, verdict in rules]
    return lambda text: next((verdict for pattern, verdict in compiled if pattern.search(text)), None)


def _letters(offered: Sequence[Label]) -> Callable[[str], Verdict | None]:
    return lambda letter: letter if letter in offered else None


def _letter_or_tie(letter: str) -> Verdict | None:
    return TIE if letter == "C" else _letters(("A", "B"))(letter)


def _five_way(tag: str) -> Verdict | None:
    return {"A>>B": "A", "A>B": "A", "A=B": TIE, "B=A": TIE, "B>A": "B", "B>>A": "B", "A": "A", "B": "B"}.get(tag)


def _arena_hard(text: str) -> Verdict | None:
    """The rule of Arena-Hard, which JudgeBench uses too: one distinct tag, anywhere in the text."""
    distinct = set(re.findall(r"\[\[([AB<>=]+)\]\]", text))
    return _five_way(distinct.pop()) if len(distinct) == 1 else None


def _five_alone(tag: str) -> Verdict | None:
    return _five_way(tag) if len(tag) > 1 else None


def _prometheus(text: str) -> Verdict | None:
    """The rule of prometheus-eval for two responses: the first result that names A or B, in either case."""
    named = r"(?:\[(?:RESULT\]|RESULT:|RESPONSE\s)|^RESULT:?)\s*([AB])(?:\]|\s|$)"
    match = re.search(named, text, re.IGNORECASE | re.MULTILINE)
    return match[1].upper() if match else None


def _one_to_ten(number: str) -> Verdict | None:
    return number if 1 <= float(number) <= 10 else None


def _out_of_ten(value: str) -> Verdict | None:
    """The number of "7", "7/10" or "7 (out of 10)"; None for "7 and 8", "7,5" and "4 out of 5"."""
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)(?:{_SCALE})?", value, re.ASCII)
    return _one_to_ten(match[1]) if match else None


def _not_negated(value: str) -> Verdict | None:
    return value.upper() if len(value) == 1 else None


def _fastchat_grade(text: str) -> Verdict | None:
    """FastChat's rule for single answers: the first [[number]], else the first [number]."""
    match = re.search(r"\[\[(\d+\.?\d*)\]\]", text, re.ASCII) or re.search(r"\[(\d+\.?\d*)\]", text, re.ASCII)
    return match[1] if match else None


def _last_whole_number(text: str) -> Verdict | None:
    """RewardBench 2's rule: a whole number from 1 to 10 at the very end; it reads "9/10" as 10 and "8.5" as 5."""
    match = re.search(r"\b([1-9]|10)\Z", text.strip())
    return match[1] if match else None


_FIVE_WAY_TAG = re.compile(r"\[\[([A-Z<>=]+)\]\]")
_NEGATION = r"\b(?:not|never|neither|nor|no|cannot|hardly|\w{2,8}n['’]t)\b[^.,;:!?\n]{0,80}"
_SCALE = r"\s*(?:/|\(?\s*(?:out\s+)?of)\s*10\b\)?"
_NUMBER = rf"\d+(?:[.,]\d+)?(?:{_SCALE})?"
_JOINED = r"\s*(?:and|or|to|(?:out\s+)?of|[,;&–—-])\s*"

PAIR = Format(tag=_LETTER, means=_letters(("A", "B")), paper=_first((r"\[\[A\]\]", "A"), (r"\[\[B\]\]", "B")))
"""Figure 8, and RewardBench's generative judges: [[A]] or [[B]]. The official parser looks for [[A]] first."""
PAIR_OR_TIE = Format(
    tag=_LETTER, means=_letter_or_tie, paper=_first((r"\[\[A\]\]", "A"), (r"\[\[B\]\]", "B"), (r"\[\[C\]\]", TIE))
)
"""FastChat's pairwise judges on MT-Bench: [[A]], [[B]], or [[C]] for a tie."""
BEST_OF_FOUR = Format(
    tag=_LETTER, means=_letters(("A", "B", "C", "D")), paper=_first(*((rf"\[\[{letter}\]\]", letter) for letter in "ABCD"))
)
"""RewardBench 2's four answers: [[A]] to [[D]]."""
FIVE_WAY = Format(tag=_FIVE_WAY_TAG, means=_five_way, paper=_arena_hard)
"""JudgeBench's Arena-Hard judges: [[A>>B]] to [[B>>A]]. Some of its judges write [[A]] or [[B]], which is read too."""
FIVE_ALONE = Format(tag=_FIVE_WAY_TAG, means=_five_alone, paper=_arena_hard)
"""Our prompt `arena`, which offers only the five verdicts [[A>>B]] to [[B>>A]]."""
RESULT = Format(tag=re.compile(r"\[RESULT\]:?[ \t]*\(?(\w*)"), means=_letters(("A", "B")), paper=_prometheus)
"""Prometheus: feedback, then [RESULT] A or [RESULT] B."""
OUTPUT = Format(
    tag=re.compile(rf"\A\s*Output \(([ab])\)(?=\W*\Z)|({_NEGATION}Output \([ab]\)) is better|Output \(([ab])\) is better"),
    means=_not_negated,
    paper=_first(
        (r"Output \(a\) is better", "A"),
        (r"Output \(b\) is better", "B"),
        (r"\A\s*Output \(a\)\W*\Z", "A"),
        (r"\A\s*Output \(b\)\W*\Z", "B"),
    ),
)
"""LLMBar: only "Output (a)", or "Therefore, Output (a) is better." The official parser looks for (a) first, negated or not."""
GRADE = Format(tag=re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]", re.ASCII), means=_one_to_ten, paper=_fastchat_grade)
"""FastChat's grades of single answers, [[1]] to [[10]]."""
RATING = Format(
    tag=re.compile(rf"(?<![\w.,/-])((?:{_NUMBER}{_JOINED})?{_NUMBER})(?=[\s*_`'\".!)”’]*\Z)", re.ASCII),
    means=_out_of_ten,
    paper=_last_whole_number,
)
"""RewardBench 2's ratings: a number from 1 to 10 at the end of the text, "7", "7/10" or "7 out of 10"."""
