"""Where a judge is wrong: its accuracy by category, length difference, position and turns, over pairs of one kind.

One pass over the rows fills counts, so memory does not grow with them. What is counted of a pair:

    held-out pairs and benchmarks    all sampled judgments, or the greedy ones if there are no others; the mean of the orders
    training pairs                   only the first sample: sampling stops at a right one, so all samples together are biased
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stj.evals.consistency import Consistency
from stj.evals.intervals import Interval, Unit, UnitPart, weighted_ci95
from stj.evals.length_bins import LENGTH_BINS, length_bin
from stj.rows import TRAINING, Judgment, Row

DIMENSIONS = ("category", "length difference", "position", "turns")
_POSITIONS = ("better answer first", "better answer second")
_TURNS = ("1 turn", "2 turns", "3 or more turns")
_ORDERED = (*LENGTH_BINS, *_POSITIONS, *_TURNS)
_TOKENS = (64, 128, 256, 512, 1024, 2048)
TOKEN_BINS = (*(f"up to {end:,}" for end in _TOKENS), f"over {_TOKENS[-1]:,}")
"""Lengths of judgments in tokens, by class."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A judge's accuracy on one class of pairs."""

    dimension: str
    label: str
    """The class: a category, a range of length differences, a position, a number of turns."""
    pairs: int
    accuracy: float
    """Share of right judgments, mean over pairs. A judgment without a verdict counts as wrong."""
    ci95: Interval
    """95% interval of the accuracy over pairs."""


@dataclass(frozen=True, kw_only=True)
class JudgmentLengths:
    """Lengths of a judge's judgments in tokens, thoughts included."""

    counts: tuple[int, ...]
    """Judgments in each class of TOKEN_BINS."""
    mean: float | None
    mean_right: float | None
    """Mean of the judgments with a right verdict; None if there are none."""
    mean_wrong: float | None
    """Mean of the others, without ratings and judgments of pairs of which neither answer is known to be better."""


@dataclass(frozen=True, kw_only=True)
class JudgeCuts:
    """One judge on one task."""

    judge: str
    task: str
    """`heldout`, `training`, or the name of a benchmark."""
    cuts: tuple[Cut, ...]
    lengths: JudgmentLengths
    contradictions: dict[str, Any]
    """Verdicts against the last sentence of their judgment: among how many, how many, and ids of rows."""
    cycles: dict[str, Any]
    """Triples of answers with cyclic preferences: how many, among how many, and the ids of their rows."""


class CutCounts:
    """The counts of one judge on one task."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, str], Counter[Unit]] = {}
        self._tokens = Counter[int]()
        self._sums: dict[bool | None, list[int]] = {True: [0, 0], False: [0, 0], None: [0, 0]}
        """Judgments and their tokens by whether the verdict is right; None if that is not known."""
        self._consistency = Consistency()

    def add(self, row: Row) -> None:
        """Counts a row with judgments, if the better of its answers is known."""
        for judgment in row.judgments:
            self._tokens[_token_bin(judgment.output_tokens)] += 1
            total = self._sums[_is_right(judgment, row)]
            total[0] += 1
            total[1] += judgment.output_tokens
        self._consistency.add(row)
        counted = _counted(row)
        if row.pair is None or not row.pair.ranked or not counted:
            return
        for dimension, label in _classes(row):
            self._count(dimension, label, counted)
        for place, label in zip("AB", _POSITIONS, strict=True):
            if shown := [judgment for judgment in counted if judgment.winner == place]:
                self._count("position", label, shown)

    def result(self, judge: str, task: str) -> JudgeCuts:
        """What was counted."""
        consistency = self._consistency.plain()
        return JudgeCuts(
            judge=judge,
            task=task,
            cuts=tuple(self._cuts()),
            lengths=self._lengths(),
            contradictions=consistency["contradictions"],
            cycles=consistency["cycles"],
        )

    def _count(self, dimension: str, label: str, judgments: Sequence[Judgment]) -> None:
        """Counts a pair as a unit: pairs of the same accuracy take no more memory than one."""
        accuracy = fmean(judgment.correct for judgment in judgments)
        unit = (UnitPart("", accuracy, 1, len(judgments)),)
        self._classes.setdefault((dimension, label), Counter())[unit] += 1

    def _cuts(self) -> Iterator[Cut]:
        for dimension, label in sorted(self._classes, key=_place):
            units = self._classes[dimension, label]
            mean = math.fsum(part.total * count for (part,), count in units.items()) / units.total()
            yield Cut(dimension=dimension, label=label, pairs=units.total(), accuracy=mean, ci95=weighted_ci95(units, {"": 1}))

    def _lengths(self) -> JudgmentLengths:
        (right, right_tokens), (wrong, wrong_tokens) = self._sums[True], self._sums[False]
        judgments, tokens = map(sum, zip(*self._sums.values(), strict=True))
        return JudgmentLengths(
            counts=tuple(self._tokens[place] for place in range(len(TOKEN_BINS))),
            mean=_mean(judgments, tokens),
            mean_right=_mean(right, right_tokens),
            mean_wrong=_mean(wrong, wrong_tokens),
        )


def _is_right(judgment: Judgment, row: Row) -> bool | None:
    """Whether the verdict is right; None for a rating, and if nobody knows which answer is better."""
    known = row.pair.ranked if row.pair else judgment.purpose != "rating"
    return judgment.correct if known else None


def _counted(row: Row) -> Sequence[Judgment]:
    """The judgments by which a pair is right or wrong."""
    if row.task == TRAINING:
        return [judgment for judgment in row.judgments if judgment.index == 0][:1]
    sampled = [judgment for judgment in row.judgments if judgment.purpose == "sampled"]
    return sampled or [judgment for judgment in row.judgments if judgment.purpose == "greedy"]


def _classes(row: Row) -> Iterator[tuple[str, str]]:
    """The classes of a pair, but for its position, which differs between its judgments."""
    assert row.pair is not None
    if category := row.category.name if row.category else row.subset:
        yield "category", category
    yield "length difference", LENGTH_BINS[length_bin(len(row.pair.chosen) - len(row.pair.rejected))]
    asked = sum(turn.role == "user" for turn in row.turns)
    yield "turns", _TURNS[min(max(asked, 1), len(_TURNS)) - 1]


def _place(key: tuple[str, str]) -> tuple[int, int, str]:
    dimension, label = key
    return DIMENSIONS.index(dimension), _ORDERED.index(label) if dimension != "category" else 0, label


def _token_bin(tokens: int) -> int:
    return next((place for place, end in enumerate(_TOKENS) if tokens <= end), len(_TOKENS))


def _mean(count: int, total: int) -> float | None:
    return total / count if count else None
