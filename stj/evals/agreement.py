"""How far several annotators agree: percentage, Krippendorff's alpha, Cohen's kappa, each with a 95% interval over pairs.

    percentage   share of equal labels, among all two labels of a pair by different annotators
    alpha        Krippendorff's (2011), for labels without an order: 1 minus the disagreement, divided by that of the same
                 labels dealt out at random. Annotators may have labelled different pairs. For labels in an order (ordinal), two
                 labels disagree by the square of the labels between them, each end counted by half
    kappa        Cohen's (1960), of two annotators: the same with the labels of each dealt out at random

The percentage has the closed form of other shares (intervals.py): 5 of 5 are not 100% for sure. Alpha and kappa have a
bootstrap (bootstrap.py). Pairs count as independent of each other. benchmarks/agreement_coverage.py measures the coverage.

A figure without a meaning is None, with the reason. If all labels are equal, chance explains everything; the labels of a single
pair, dealt out at random, are its own labels, so that alpha would always be 0.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stj.evals.bootstrap import FEWEST, Array, Weighted, acceleration, bca, resamples
from stj.evals.intervals import Interval, Unit, UnitPart, weighted_ci95
from stj.sources.annotations import Annotations, Ints

_MOST_DISTINCT = 20_000  # Different pairs, by their counts of labels: their resamples take a minute.
_MOST_TWOS = 200  # Two annotators: kappas beyond these are of few pairs, and nobody reads them.
_MOST_COMPARED = 1_000  # Annotators: two by two they are half a million.
_SINGLE = "a single pair"
_CHUNK = 200_000  # Labels whose counts are in memory at once.


class Figure(NamedTuple):
    """A number with its interval."""

    value: float | None
    ci95: Interval | None
    why: str | None = None
    """Why the value, or else the interval, is None."""


class Votes(NamedTuple):
    """Labels without the unsure ones, as numbers."""

    pair: Ints
    annotator: Ints
    label: Ints

    @classmethod
    def of(cls, annotations: Annotations) -> "Votes":
        """All labels that are not `unsure`."""
        return cls(annotations.pair, annotations.annotator, annotations.label).at(annotations.label >= 0)

    def at(self, which: npt.NDArray[Any]) -> "Votes":
        """Some of the labels, by their places or by a mask."""
        return Votes(self.pair[which], self.annotator[which], self.label[which])


class TwoAnnotators(NamedTuple):
    """How far two annotators agree."""

    first: int
    second: int
    pairs: int
    """Number of pairs that both labelled."""
    percentage: Figure
    kappa: Figure


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the annotators of some pairs agree."""

    pairs: int
    """Number of pairs with labels by two annotators or more; the figures are of these."""
    labels: int
    """Number of all labels, without the unsure ones."""
    percentage: Figure
    alpha: Figure
    twos: Sequence[TwoAnnotators]
    """Two annotators each, those with the most pairs in common first; at most 200."""


@dataclass(frozen=True, kw_only=True)
class AnnotatorFigures:
    """The labels of one annotator, beside those of the others."""

    labels: int
    """Number of labels, without the unsure ones."""
    unsure: int
    shares: Sequence[float | None]
    """The share of each label among them; None without labels."""
    compared: int
    """Number of labels whose pair has one label that most of the others gave."""
    percentage: Figure
    """Share of these labels that are the others' majority."""
    kappa: Figure


def agreement(votes: Votes, labels: int, *, ordinal: bool = False) -> Agreement:
    """How far all annotators agree, and each two of them; `labels` is the number of different labels.

    `ordinal` if the labels have an order: alpha then counts how far two labels are apart.
    """
    _, counts = label_counts(votes, labels)
    return Agreement(
        pairs=int((counts.sum(axis=1) > 1).sum()),
        labels=len(votes.label),
        percentage=percentage(counts),
        alpha=alpha(counts, ordinal=ordinal),
        twos=list(_twos(votes, labels)),
    )


def annotator_figures(annotations: Annotations) -> list[AnnotatorFigures]:
    """The figures of each annotator, in the order of their names."""
    size, votes = len(annotations.labels), Votes.of(annotations)
    given = np.zeros((len(annotations.annotators), size), dtype=np.int64)
    np.add.at(given, (votes.annotator, votes.label), 1)
    unsure = np.bincount(annotations.annotator[annotations.label < 0], minlength=len(annotations.annotators))
    tables = _against_others(votes, len(annotations.annotators), size)
    return [
        AnnotatorFigures(
            labels=int(own.sum()),
            unsure=int(without),
            shares=[float(count / own.sum()) if own.sum() else None for count in own],
            compared=int(table.sum()),
            percentage=_of_table(table),
            kappa=kappa(table),
        )
        for own, without, table in zip(given, unsure, tables, strict=True)
    ]


def label_counts(votes: Votes, labels: int) -> tuple[Ints, Ints]:
    """The row of each label's pair in the counts, and the counts of each label in each pair that has one."""
    pairs, row = np.unique(votes.pair, return_inverse=True)
    counts = np.bincount(row * labels + votes.label, minlength=len(pairs) * labels)
    return row, counts.reshape(len(pairs), labels)


def percentage(counts: Ints) -> Figure:
    """Share of equal labels, among all two labels of a pair."""
    return _share(_twos_of(counts).sum(axis=1), _twos_of(counts.sum(axis=1)), "no pair has labels by two annotators")


def alpha(counts: Ints, *, ordinal: bool = False) -> Figure:
    """Krippendorff's alpha from the counts of each label in each pair: for labels without an order, or `ordinal` ones."""
    several = counts[counts.sum(axis=1) > 1]
    if not len(several):
        return Figure(None, None, "no pair has labels by two annotators")
    if len(several) == 1:
        return Figure(None, None, _SINGLE)
    if (several.sum(axis=0) > 0).sum() == 1:
        return Figure(None, None, "all labels are equal")
    units, times = np.unique(several, axis=0, return_counts=True)
    return _bootstrapped(times.astype(float), _ordinal(units) if ordinal else _nominal(units))


def _nominal(units: Ints) -> Weighted:
    sizes = units.sum(axis=1)
    agreeing = 2 * _twos_of(units).sum(axis=1) / (sizes - 1)

    def weighted(weights: Array) -> Array:
        totals = weights @ units
        labels = weights @ sizes
        return np.asarray(1 - (labels - weights @ agreeing) * (labels - 1) / (labels**2 - (totals**2).sum(axis=1)))

    return weighted


def _ordinal(units: Ints) -> Weighted:
    """The distance of two labels is that of their middle ranks among all labels. So squares need no table of all two labels:
    the squared distances of m labels sum to 2 (m times the sum of squared ranks - the squared sum of ranks)."""
    sizes = units.sum(axis=1)

    def weighted(weights: Array) -> Array:
        totals = weights @ units  # (resamples, labels)
        labels = totals.sum(axis=1)
        ranks = np.cumsum(totals, axis=1) - totals / 2
        squares = ((weights @ (units * (sizes / (sizes - 1))[:, None])) * ranks**2).sum(axis=1)
        observed = squares - (weights * (ranks @ units.T) ** 2 / (sizes - 1)).sum(axis=1)
        by_chance = labels * (totals * ranks**2).sum(axis=1) - (totals * ranks).sum(axis=1) ** 2
        return np.asarray(1 - (labels - 1) * observed / by_chance)

    return weighted


def kappa(table: Ints) -> Figure:
    """Cohen's kappa of two annotators, from the counts of the first one's label (rows) and the second one's (columns)."""
    rows, columns = np.nonzero(table)
    if not len(rows):
        return Figure(None, None, "no pair has both labels")
    if table.sum() == 1:
        return Figure(None, None, _SINGLE)
    if len(np.union1d(rows, columns)) == 1:
        return Figure(None, None, "all labels are equal")
    by_row, by_column = (np.eye(len(table))[place] for place in (rows, columns))

    def weighted(weights: Array) -> Array:
        pairs, equal = weights.sum(axis=1), weights @ (rows == columns)
        by_chance = ((weights @ by_row) * (weights @ by_column)).sum(axis=1)
        return np.asarray((pairs * equal - by_chance) / (pairs**2 - by_chance))

    return _bootstrapped(table[rows, columns].astype(float), weighted)


def _bootstrapped(times: Array, weighted: Weighted) -> Figure:
    """A figure of distinct pairs that come this often, with its interval."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(weighted(times[None, :])[0])
        if times.sum() < FEWEST:
            return Figure(value, None, f"fewer than {FEWEST} pairs")
        if len(times) > _MOST_DISTINCT:
            return Figure(value, None, f"more than {_MOST_DISTINCT:,} different pairs")
        drawn = np.concatenate([weighted(weights) for weights in resamples(times)])
        return Figure(value, *bca(value, drawn, lambda: acceleration(times, weighted)))


def _of_table(table: Ints) -> Figure:
    """Share of equal labels of two annotators."""
    times = np.array([np.trace(table), table.sum() - np.trace(table)])
    return _share(np.repeat([1, 0], times), np.ones(times.sum(), dtype=np.int64), "no pair has both labels")


def _share(equal: Ints, twos: Ints, why: str) -> Figure:
    """How many of the `twos` of each pair are equal, as a share of all; None, for this reason, if there are none."""
    if not twos.sum():
        return Figure(None, None, why)
    kinds, times = np.unique(np.stack([equal, twos], axis=1)[twos > 0], axis=0, return_counts=True)
    units: Counter[Unit] = Counter()
    for (right, examples), count in zip(kinds.tolist(), times.tolist(), strict=True):
        units[(UnitPart("", right, examples, examples),)] = count
    return Figure(float(equal.sum() / twos.sum()), weighted_ci95(units, {"": 1}))


def _twos_of(counts: Ints) -> Ints:
    return counts * (counts - 1) // 2


def _twos(votes: Votes, labels: int) -> Iterator[TwoAnnotators]:
    """Each two annotators with pairs in common, those with the most first."""
    if not len(votes.pair):
        return
    order = np.argsort(votes.annotator, kind="stable")
    present, starts = np.unique(votes.annotator[order], return_index=True)
    of = dict(zip(present.tolist(), np.split(order, starts[1:]), strict=True))
    for first, second in _most_in_common(votes):
        _, left, right = np.intersect1d(votes.pair[of[first]], votes.pair[of[second]], assume_unique=True, return_indices=True)
        cells = votes.label[of[first][left]] * labels + votes.label[of[second][right]]
        table = np.bincount(cells, minlength=labels**2).reshape(labels, labels)
        yield TwoAnnotators(first, second, len(cells), _of_table(table), kappa(table))


def _most_in_common(votes: Votes) -> list[tuple[int, int]]:
    """The two annotators with the most pairs in common, then the next two."""
    from scipy.sparse import csr_array, triu  # Takes 0.2 s to import, which other commands need not wait for.

    busiest = np.argsort(-np.bincount(votes.annotator), kind="stable")[:_MOST_COMPARED]
    votes = votes.at(np.isin(votes.annotator, busiest))
    labelled = csr_array((np.ones(len(votes.pair), dtype=np.int64), (votes.annotator, votes.pair)))
    common = triu(labelled @ labelled.T, k=1).tocoo()
    first, second = common.coords
    most = np.lexsort((second, first, -common.data))[:_MOST_TWOS]
    return list(zip(first[most].tolist(), second[most].tolist(), strict=True))


def _against_others(votes: Votes, annotators: int, labels: int) -> Iterator[Ints]:
    """For each annotator, how often each label (rows) met each majority of the other annotators (columns)."""
    majority = _others_majority(votes, labels)
    order = np.argsort(votes.annotator, kind="stable")
    order = order[majority[order] >= 0]
    ends = np.searchsorted(votes.annotator[order], np.arange(annotators + 1))
    for first, last in pairwise(ends):
        own = order[first:last]
        cells = votes.label[own] * labels + majority[own]
        yield np.bincount(cells, minlength=labels**2).reshape(labels, labels)


def _others_majority(votes: Votes, labels: int) -> Ints:
    """For each label, the one that most other annotators gave its pair; -1 if there is none, or two come first together."""
    row, counts = label_counts(votes, labels)
    majority = np.full(len(row), -1, dtype=np.int64)
    for start in range(0, len(row), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        others = counts[row[chunk]]
        others[np.arange(len(others)), votes.label[chunk]] -= 1
        best = others.max(axis=1)
        known = (best > 0) & ((others == best[:, None]).sum(axis=1) == 1)
        majority[chunk] = np.where(known, others.argmax(axis=1), -1)
    return majority
