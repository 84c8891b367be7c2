"""How well grades agree with labels: correlations, distance, and agreement.

    pearson, spearman, kendall   correlations; Kendall's is tau-b, which allows for ties
    mean_absolute_error          mean distance of a score from its label, in points of the scale
    exact                        share of scores that equal their label, among the rows whose label is a whole number
    within_one                   share of scores at most one point from their label
    quadratic_kappa              Cohen's kappa with quadratic weights: 1 minus the mean squared distance, divided by that of
                                 scores and labels paired at random. It needs no categories: fractions count as they are.

Nothing is rounded. A label between two points, such as the mean of several grades, has no whole score that equals it.

A figure without a meaning is None, with a reason: a correlation if all scores or all labels are equal, or of fewer than 3 rows.

Every figure is a function of the distinct rows and of how often each comes. A resample of the rows is another weight for each,
so one call computes a figure of all resamples.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CORRELATIONS = ("pearson", "spearman", "kendall")
SHARES = ("exact", "within_one")
FIGURES = (*CORRELATIONS, "mean_absolute_error", *SHARES, "quadratic_kappa")
"""All figures, in the order in which they are shown."""
_FEWEST_CORRELATED = 3  # A correlation of two rows is always 1 or -1.
_SLACK = 1e-9  # Points: 4.333333 less 3.333333 may be a little more than one.
_FLAT = 1e-12  # A range below this share of the values, or a variance below this share of the squared range, is rounding.

Array = npt.NDArray[np.float64]


class Graded(NamedTuple):
    """A judge's score, and the label that it should be."""

    score: float
    label: float


@dataclass(frozen=True)
class Sample:
    """The distinct rows of a sample, and how often each comes."""

    scores: Array
    labels: Array
    counts: Array

    @classmethod
    def of(cls, rows: Iterable[Graded]) -> "Sample":
        """These rows; their order does not matter."""
        counted = sorted(Counter(rows).items())
        scores, labels, counts = ([row.score for row, _ in counted], [row.label for row, _ in counted], [n for _, n in counted])
        return cls(np.array(scores, dtype=float), np.array(labels, dtype=float), np.array(counts, dtype=float))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.counts.sum())

    def used_by(self, name: str) -> "Sample":
        """The rows that a figure uses: all, or for `exact` those with a whole label."""
        whole = self.labels == np.round(self.labels)
        return Sample(self.scores[whole], self.labels[whole], self.counts[whole]) if name == "exact" else self


def figure(name: str, sample: Sample) -> float | None:
    """One of FIGURES; None if it has no meaning for these rows."""
    if undefined(name, sample):
        return None
    used = sample.used_by(name)
    return _correlation(name, used) if name in CORRELATIONS else float(weighted(name, used, used.counts[None, :])[0])


def undefined(name: str, sample: Sample) -> str | None:
    """Why a figure has no meaning for these rows; None if it has one."""
    used = sample.used_by(name)
    if not used.rows:
        return "no label is a whole number" if sample.rows else "no rows"
    if name in CORRELATIONS and used.rows < _FEWEST_CORRELATED:
        return f"fewer than {_FEWEST_CORRELATED} rows"
    equal = {what: values[0] for what, values in (("scores", used.scores), ("labels", used.labels)) if _are_equal(values)}
    if name in CORRELATIONS and equal:
        return next(f"all {what} are {value:g}" for what, value in equal.items())
    if name == "quadratic_kappa" and len(equal) > 1 and equal["scores"] == equal["labels"]:
        return f"all scores and labels are {equal['labels']:g}"
    return None


def weighted(name: str, sample: Sample, weights: Array) -> Array:
    """One of FIGURES for each resample: a row of `weights` has a weight for each distinct row. NaN if it has no meaning."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _WEIGHTED[name](sample.scores, sample.labels, weights)


def _correlation(name: str, sample: Sample) -> float:
    from scipy import stats  # Takes seconds to import, which other commands need not wait for.

    scores, labels = (np.repeat(values, sample.counts.astype(int)) for values in (sample.scores, sample.labels))
    rules = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
    return float(rules[name](scores, labels).statistic)


def _are_equal(values: Array) -> bool:
    return bool(np.ptp(values) <= _FLAT * max(1.0, np.abs(values).max()))


def _mean(values: Array, weights: Array) -> Array:
    return np.asarray((weights * values).sum(axis=1) / weights.sum(axis=1))


def _spread(values: Array, weights: Array) -> tuple[Array, Array]:
    """The distance of each value from the mean of its resample, and the variance of each resample; a flat one is 0."""
    apart = values - _mean(values, weights)[:, None]
    variance = _mean(apart**2, weights)
    return apart, np.where(variance > _FLAT * np.ptp(values) ** 2, variance, 0.0)


def _pearson(scores: Array, labels: Array, weights: Array) -> Array:
    of_scores, of_labels = _spread(scores, weights), _spread(labels, weights)
    together = _mean(of_scores[0] * of_labels[0], weights)
    return np.asarray(np.clip(together / np.sqrt(of_scores[1] * of_labels[1]), -1, 1))


def _spearman(scores: Array, labels: Array, weights: Array) -> Array:
    return _pearson(_ranks(scores, weights), _ranks(labels, weights), weights)


def _ranks(values: Array, weights: Array) -> Array:
    """The mean rank of each distinct row, in each resample."""
    tied, place = _tied(values, weights)
    return np.asarray((np.cumsum(tied, axis=1) - (tied - 1) / 2)[:, place])


def _tied(values: Array, weights: Array) -> tuple[Array, npt.NDArray[np.intp]]:
    """The weight of each distinct value in each resample, smallest first; and the place of each row's value among them."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    return np.add.reduceat(weights[:, order], starts, axis=1), place


def _kendall(scores: Array, labels: Array, weights: Array) -> Array:
    signs = np.sign(scores[:, None] - scores) * np.sign(labels[:, None] - labels)
    concordant = ((weights @ signs) * weights).sum(axis=1) / 2
    pairs = _pairs(weights.sum(axis=1))
    untied = [pairs - _pairs(_tied(values, weights)[0]).sum(axis=1) for values in (scores, labels)]
    return np.asarray(np.clip(concordant / np.sqrt(untied[0] * untied[1]), -1, 1))


def _pairs(rows: Array) -> Array:
    return rows * (rows - 1) / 2


def _mean_absolute_error(scores: Array, labels: Array, weights: Array) -> Array:
    return _mean(np.abs(scores - labels), weights)


def _exact(scores: Array, labels: Array, weights: Array) -> Array:
    return _mean((scores == labels).astype(float), weights)


def _within_one(scores: Array, labels: Array, weights: Array) -> Array:
    return _mean((np.abs(scores - labels) <= 1 + _SLACK).astype(float), weights)


def _quadratic_kappa(scores: Array, labels: Array, weights: Array) -> Array:
    of_scores, of_labels = _spread(scores, weights), _spread(labels, weights)
    apart = _mean(scores, weights) - _mean(labels, weights)
    together = _mean(of_scores[0] * of_labels[0], weights)
    return np.asarray(2 * together / (of_scores[1] + of_labels[1] + apart**2))


_WEIGHTED: dict[str, Callable[[Array, Array, Array], Array]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "kendall": _kendall,
    "mean_absolute_error": _mean_absolute_error,
    "exact": _exact,
    "within_one": _within_one,
    "quadratic_kappa": _quadratic_kappa,
}
