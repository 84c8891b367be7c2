"""Judgments without a verdict: how many, why, and which format they seem to be in. No score is zero in silence.

A judgment without a verdict counts as wrong, so a file that is read in the wrong format would score 0. If a parser reads no
verdict in more than half of the judgments, it gives no score but an error; in more than one judgment in twenty, its scores
come with a warning. Such a share may move an accuracy by more than its 95% interval on 400 examples, plus or minus 5 points.
Error and warning say which format the judgments seem to be in.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from stj.text import visible_line
from stj.verdict import FORMATS, Format, Parser, Verdict, distinct_verdicts, parse

MOST_UNREAD = 0.5
"""Share of judgments without a verdict above which a file is not scored."""
WARNED_UNREAD = 0.05
"""Share of judgments without a verdict above which the scores come with a warning."""
FEWEST_SILENT = 8
"""If none of this many judgments holds a verdict, the command fails."""
EVAL_REMEDY = "give the judge its own prompt, prompt=FILE prompt_format={}"
"""How `stj eval` asks a judge in another format. A recorded judgment is only read in another one."""
VOTE_REMEDY = "give the judge its own prompt, vote.prompt=FILE vote.prompt_format={}"
"""The same for `stj judge` and `stj calibrate`."""
_SURVEYED = 1_000  # Unread judgments that are read in every format; a judge that writes another format shows it long before.
_SURVEYED_CHARACTERS = 5_000_000  # Their characters, about 5 s of work, if a judge repeats itself up to its limit of tokens.
_END = 60  # Characters of a judgment that no format fits.


class Unread(NamedTuple):
    """A judgment that was read and holds no verdict."""

    text: str
    wording: Format
    """The format in which it was read."""
    decision: str | None = None
    """The decision that its file records beside it."""
    cut: bool = False
    """Whether the judge's output was cut at its limit of tokens."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """How the judgments of a file or an evaluation were read by one of the parsers."""

    parser: Parser
    judgments: int
    unread: int
    """Number of judgments without a verdict."""
    elsewhere: int
    """Number of unread judgments in which the `distinct` parser reads a verdict in the same format."""
    empty: int
    """Number of unread judgments without any text."""
    cut: int
    """Number of unread judgments that were cut at their limit of tokens."""
    wording: Format | None
    """The format of the first unread judgment; None if all were read."""
    surveyed: int
    """Number of unread judgments with an uncut text, at most 1,000, that were read in every format."""
    fits: dict[str, int]
    """How many of the surveyed judgments the `distinct` parser reads in each format, the best format first."""
    agreed: str | None
    """The format in which all surveyed judgments have a verdict. None if there is none, or if two such formats differ."""
    end: str
    """The end of the first surveyed judgment."""

    @property
    def share(self) -> float:
        """Share of the judgments without a verdict."""
        return self.unread / self.judgments if self.judgments else 0.0

    @property
    def complete(self) -> bool:
        """Whether all judgments that are not empty hold a verdict in the format that was read."""
        return self.unread - self.elsewhere <= self.empty

    @property
    def guess(self) -> Format | None:
        """The format to read the judgments in, if none of them could be read and all of them agree on one other format."""
        if self.unread < self.judgments or self.agreed is None or self.wording is None:
            return None
        agreed = FORMATS[self.agreed]
        return agreed if agreed.answers == self.wording.answers and agreed is not self.wording else None

    @property
    def is_warned_of(self) -> bool:
        """Whether too many judgments hold no verdict to give scores without a warning."""
        return self.share > WARNED_UNREAD

    @property
    def silent(self) -> bool:
        """Whether no judgment holds a verdict, of enough judgments to blame the judge: its model may be damaged."""
        return self.unread == self.judgments >= FEWEST_SILENT

    def warning(self, what: str, remedy: str) -> str | None:
        """A line if too many judgments of something hold no verdict; `remedy` has a place for a format's name."""
        return f"{what}, {self.shortfall()}; {self.hint(remedy)}" if self.is_warned_of else None

    def shortfall(self) -> str:
        """How many judgments hold no verdict, and why."""
        assert self.wording is not None, "all judgments were read"
        reasons = [f"{count:,} {reason}" for count, reason in ((self.empty, "are empty"), (self.cut, "were cut")) if count]
        why = f" ({', '.join(reasons)})" if reasons else ""
        of = f"{self.unread:,} of {self.judgments:,} judgments hold no verdict{why}"
        return f"{self.parser}: {of} in the format {self.wording.name}, {self.wording.form}"

    def hint(self, remedy: str) -> str:
        """Which format the unread judgments seem to be in, and what to do; `remedy` has a place for the format's name."""
        assert self.wording is not None, "all judgments were read"
        if not self.surveyed:
            return "raise its limit of tokens" if self.cut else "the judge wrote nothing that could be read"
        if not self.fits:
            return f'no known format fits; one ends with "{self.end}"'
        name, count = next(iter(self.fits.items()))
        best = FORMATS[name]
        seem = f"{count:,} of the {self.surveyed:,} looked at"
        if best is self.wording:
            return f"{seem} hold one elsewhere in the text, which the parser 'distinct' reads"
        if best.answers != self.wording.answers:
            kinds = _KINDS[best.answers], _KINDS[self.wording.answers]
            return f"{seem} seem to be {kinds[0]} in the format {best.name}, {best.form}; here {kinds[1]} are wanted"
        return f"{seem} seem to be in the format {best.name}, {best.form}: {remedy.format(best.name)}"


_KINDS = {1: "grades of single answers", 2: "judgments of pairs", 4: "judgments of four answers"}


class Survey:
    """The judgments read so far, and what the unread ones look like."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._judgments = self._unread = self._elsewhere = self._empty = self._cut = 0
        self._first: Format | None = None
        self._end = ""
        self._looked_at = self._characters = 0
        self._verdicts: dict[str, list[Verdict | None]] = {name: [] for name in FORMATS}

    def add(self, judgments: int, unread: Iterable[Unread]) -> None:
        """Counts judgments, and those of them without a verdict."""
        self._judgments += judgments
        for judgment in unread:
            self._unread += 1
            self._first = self._first or judgment.wording
            if judgment.cut:
                self._cut += 1
            elif judgment.text.strip() or judgment.decision:
                self._elsewhere += self._parser != "distinct" and _is_held(judgment)
                self._look(judgment)
            else:
                self._empty += 1

    def readings(self) -> Readings:
        """What the judgments look like so far."""
        counts = {name: len(verdicts) - verdicts.count(None) for name, verdicts in self._verdicts.items()}
        first = self._first.name if self._first else ""
        # Of equally good formats the one that was read comes first, then the one that offers the fewest verdicts.
        best = sorted(counts, key=lambda name: (-counts[name], name != first))
        fits = {name: counts[name] for name in best if counts[name]}
        return Readings(
            parser=self._parser,
            judgments=self._judgments,
            unread=self._unread,
            elsewhere=self._elsewhere,
            empty=self._empty,
            cut=self._cut,
            wording=self._first,
            surveyed=self._looked_at,
            fits=fits,
            agreed=self._agreed(),
            end=self._end,
        )

    def _look(self, judgment: Unread) -> None:
        if self._looked_at == _SURVEYED or self._characters > _SURVEYED_CHARACTERS:
            return
        self._looked_at += 1
        self._characters += len(judgment.text)
        self._end = self._end or visible_line(judgment.text.strip()[-_END:])
        for name, verdict in zip(FORMATS, distinct_verdicts(_written(judgment), FORMATS.values()), strict=True):
            self._verdicts[name].append(verdict)

    def _agreed(self) -> str | None:
        answers = self._first.answers if self._first else 0
        whole = [
            name
            for name, verdicts in self._verdicts.items()
            if verdicts and None not in verdicts and FORMATS[name].answers == answers
        ]
        same = all(self._verdicts[name] == self._verdicts[whole[0]] for name in whole)
        return whole[0] if whole and same else None


def _is_held(judgment: Unread) -> bool:
    return parse(_written(judgment), judgment.wording, "distinct") is not None


def _written(judgment: Unread) -> str:
    """The text, or the decision of a judge that writes none. Beside a text it says nothing about what the judge writes."""
    return judgment.text if judgment.text.strip() else judgment.decision or ""
