"""What each judge missed: how many of the held-out rows in which way, and the ten that say most.

Which ten? Those that the judge is surest of, and wrong: they cannot be the luck of a sample.

    pairs       most votes for the worse answer first; among equals the higher probability of that verdict, if it is known
    responses   the mean grade farthest from the true score first, as a share of the scale

Among equals a draw by the run's seed and the row's id decides, so the ten do not depend on the order in which rows lie, and are
the same pairs for two judges that miss the same ones. Only the kept ones are in memory.
"""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from stj.loop.report.cells import Cell, table_of
from stj.loop.report.excerpt import Excerpt
from stj.loop.report.templates import render
from stj.loop.report.ways import PAIR_WAYS, RESPONSE_WAYS
from stj.randomness import uniform
from stj.text import Column

SHOWN = 10
"""Failures shown of each judge."""
_LAST_JUDGES = 9  # A run may have a thousand judges; the failures of the first and of these are shown.
INSTRUCTION, ANSWER, JUDGMENT, THOUGHT = 800, 1000, 1200, 500
"""Characters that are shown of each text: ten failures of six judges are then at most 0.3 MB."""

Key = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A held-out row that a judge got wrong."""

    id: str
    subset: str | None
    votes: str
    """All verdicts or grades of the judge, in words."""
    verdict: str
    """The same in a few words."""
    asked: Excerpt
    """The instruction."""
    said: tuple[Excerpt, ...]
    """What the judge wrote: the first judgment of the kind that makes the row a failure."""
    answers: tuple[Excerpt, ...]
    right_before: bool | None = None
    """Whether the judge before had it right; None if that is not known."""


@dataclass(frozen=True, kw_only=True)
class JudgeFailures:
    """What one judge missed."""

    judge: str
    rows: int
    """Held-out rows of this kind that it judged."""
    missed: dict[str, int]
    """Missed rows by the way in which it missed them (stj/loop/report/ways.py)."""
    shown: tuple[Failure, ...]

    @property
    def brief(self) -> "JudgeFailures":
        """The counts alone."""
        return replace(self, shown=())

    def plain(self) -> dict[str, Any]:
        """All but the texts, as JSON values."""
        shown = [
            {"id": each.id, "subset": each.subset, "votes": each.votes, "right_before": each.right_before}
            for each in self.shown
        ]
        return {"judge": self.judge, "rows": self.rows, "missed": self.missed, "shown": shown}

    @property
    def count(self) -> int:
        """Missed rows."""
        return sum(self.missed.values())


@dataclass(kw_only=True)
class FailureTally:
    """Counts the rows of a judge, and keeps the failures that say most; the order of the rows does not matter."""

    seed: int
    rows: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    _kept: list[tuple[Key, float, str, Failure]] = field(default_factory=list)

    def right(self) -> None:
        """Counts a row that the judge did not miss."""
        self.rows += 1

    def miss(self, row_id: str, way: str, key: Key, make: Callable[[], Failure]) -> None:
        """Counts a row that it missed in some way. Rows with the lowest keys are kept; `make` gives what is shown of one."""
        self.rows += 1
        self.missed[way] += 1
        place = (key, uniform(self.seed, row_id, "failures"), row_id)
        if len(self._kept) < SHOWN or place < self._kept[-1][:3]:
            insort(self._kept, (*place, make()), key=lambda kept: kept[:3])
            del self._kept[SHOWN:]

    def result(self, judge: str, ways: Sequence[Column], right_before: Mapping[str, bool]) -> Iterator[JudgeFailures]:
        """What the judge missed, in these ways; nothing if it judged no row."""
        if self.rows:
            shown = (replace(failure, right_before=right_before.get(failure.id)) for *_, failure in self._kept)
            missed = {way.name: self.missed[way.name] for way in ways}
            yield JudgeFailures(judge=judge, rows=self.rows, missed=missed, shown=tuple(shown))


@dataclass(frozen=True, kw_only=True)
class Failures:
    """The part of the report on what the judges missed."""

    pairs: tuple[JudgeFailures, ...] = ()
    """Of the held-out pairs."""
    responses: tuple[JudgeFailures, ...] = ()
    """Of the held-out responses."""

    name = "failures"

    @classmethod
    def of(cls, pairs: Sequence[JudgeFailures], responses: Sequence[JudgeFailures]) -> "Failures":
        """The failures of all judges; in a long run, of judges in the middle only how many there are."""
        return cls(pairs=tuple(_first_and_last(pairs)), responses=tuple(_first_and_last(responses)))

    def plain(self) -> dict[str, Any]:
        """The counts, and the ids and votes of the failures, as JSON values; texts are in the page and in the rows."""
        return {"pairs": [judge.plain() for judge in self.pairs], "responses": [judge.plain() for judge in self.responses]}

    def html(self) -> Markup:
        """The part of the page."""
        kinds = [
            ("pairs", self.pairs, table_of(_cells(PAIR_WAYS), self.pairs)),
            ("responses", self.responses, table_of(_cells(RESPONSE_WAYS), self.responses)),
        ]
        return render("failures.html.jinja", kinds=[kind for kind in kinds if kind[1]], most=SHOWN)


def _first_and_last(judges: Sequence[JudgeFailures]) -> Iterator[JudgeFailures]:
    for place, judge in enumerate(judges):
        yield judge.brief if 0 < place < len(judges) - _LAST_JUDGES else judge


def _cells(ways: Sequence[Column]) -> list[Cell[JudgeFailures]]:
    """The columns: how many rows a judge missed, and in which ways."""
    return [
        Cell(Column("", "judge"), lambda judge: judge.judge),
        Cell(Column("", "judged"), lambda judge: f"{judge.rows:,}"),
        Cell(Column("", "missed"), lambda judge: f"{judge.count:,}"),
        *(Cell(way, _missed(way.name)) for way in ways),
    ]


def _missed(way: str) -> Callable[[JudgeFailures], str]:
    return lambda judge: f"{judge.missed[way]:,}"
