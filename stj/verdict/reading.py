"""The three parsers, and what a format must say so that they can read it."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from stj.verdict.plain import closes, plainly

Label = Literal["A", "B", "C", "D"]
"""Label under which a judge sees an answer: A or B in a pair, A to D among four."""
Verdict = str
"""A label, TIE, or a rating as the judge wrote it."""
Parser = Literal["strict", "distinct", "paper"]
PARSERS: tuple[Parser, ...] = ("strict", "distinct", "paper")
TIE = "tie"

NEGATION = re.compile(r"(?:\b(?:not|nor|neither|never)|n['’]t)(?: (?:be|quite|really))?[ *_`'\"‘“(]{1,8}\Z", re.IGNORECASE)
"""Before a tag: is **not** "[[A]]", shouldn't be [[A]]."""
_NEGATION_REACH = 100  # Characters before a tag among which a negation is looked for: more than any pattern needs.


@dataclass(frozen=True, kw_only=True)
class Format:
    """One way to write a verdict."""

    name: str
    """Its name on the command line."""
    form: str
    """How it is written, for a reader."""
    tag: re.Pattern[str]
    """Pattern of a verdict in a plainly written text; the groups that matched hold its value."""
    means: Callable[[str], Verdict | None]
    """Verdict of a value: its groups without their blanks, with commas between them. None for a value that was not offered."""
    paper: Callable[[str], Verdict | None]
    """Official parser of a whole text."""
    answers: int = 2
    """Number of answers that a judge sees at once: 2, 4, or 1 if it rates each answer alone."""
    negation: re.Pattern[str] = NEGATION
    """Pattern of the text before a tag that is negated."""
    opening: re.Pattern[str] | None = None
    """Pattern of what opens a verdict. If one opens behind the last readable verdict, that is not the judge's last word."""
    only_at_end: bool = False
    """Whether only its place at the end makes a tag a verdict, as for a bare number: `distinct` reads it like `strict`."""


def parse(text: str, wording: Format, parser: Parser) -> Verdict | None:
    """The verdict of a judgment in this format, read by the named parser; None if that parser finds none."""
    return wording.paper(text) if parser == "paper" else _distinct(plainly(text), wording, at_end=parser == "strict")


def distinct_verdicts(text: str, wordings: Iterable[Format]) -> list[Verdict | None]:
    """The `distinct` verdict of a judgment in each of these formats."""
    plain = plainly(text)
    return [_distinct(plain, wording, at_end=False) for wording in wordings]


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


def _distinct(text: str, wording: Format, *, at_end: bool) -> Verdict | None:
    tags = list(wording.tag.finditer(text))
    if wording.only_at_end:
        tags, at_end = tags[-1:], True
    if not tags or (at_end and not closes(text[tags[-1].end() :])):
        return None
    if wording.opening and wording.opening.search(text, tags[-1].end()):
        return None
    values = set(map(_value, tags))
    if len(values) > 1 or any(_is_negated(text, tag.start(), wording) for tag in tags):
        return None
    return wording.means(values.pop())


def _value(tag: re.Match[str]) -> str:
    return ",".join("".join(group.split()) for group in tag.groups() if group is not None)


def _is_negated(text: str, start: int, wording: Format) -> bool:
    return wording.negation.search(text[max(0, start - _NEGATION_REACH) : start]) is not None
