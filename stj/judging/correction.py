"""Corrects a win rate for the judge's errors, which a calibration shows.

A calibration says how often the judge prefers A where A is better (sensitivity, s) and B where B is better (specificity, t),
ties as halves. If A is better in the share p of all pairs, the plain rate is m = p s + (1 - p)(1 - t). So p is
(m + t - 1) / (s + t - 1) (Rogan and Gladen 1978).

The interval holds every p that the three measured rates do not contradict, as Fieller (1954) does for a ratio. For such a p
the squared difference of both sides is at most z^2 times its variance. So it includes the uncertainty of the calibration, and
it is wide enough if s + t - 1 is small. Each rate is moved a little towards a half, and its variance is not zero at 0 and 1,
as Agresti and Coull (1998) do.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from stj.errors import ConfigError
from stj.evals.intervals import Interval
from stj.judging.calibration import Outcomes
from stj.verdict import Label

_Z = 1.959964
"""The normal distribution's middle 95% lie within this many standard deviations."""


class Rate(NamedTuple):
    """A mean of scores from 0 to 1."""

    mean: float
    pairs: int

    @property
    def centre(self) -> float:
        """The mean with z^2/2 more scores of 1, and as many of 0 (Agresti and Coull)."""
        return (self.mean * self.pairs + _Z**2 / 2) / (self.pairs + _Z**2)

    @property
    def variance(self) -> float:
        """The variance of the centre, that of scores 0 and 1: ties make it smaller, never larger."""
        return self.centre * (1 - self.centre) / (self.pairs + _Z**2)


@dataclass(frozen=True, kw_only=True)
class CorrectedRate:
    """A win rate, corrected for the judge's errors."""

    rate: float
    ci95: Interval
    sensitivity: float
    """Mean score of the better response in the calibration's pairs in which A is better."""
    specificity: float
    """The same for B. Both are one number, of all pairs, if the calibration has only pairs of one label."""
    calibration_pairs: int


def corrected(plain: Rate, outcomes: Outcomes) -> CorrectedRate:
    """The rate without the judge's errors, which its outcomes on labelled pairs show.

    Raises ConfigError if the judge does not separate better from worse, or if its errors cannot explain the plain rate.
    """
    sensitivity, specificity, pooled = _rates(outcomes)
    low, high = _interval(plain, sensitivity, specificity, pooled)
    if low > 1 or high < 0:
        raise ConfigError(
            f"A's plain win rate, {plain.mean:.1%}, is further from 50% than this judge can get: it prefers the better "
            f"labelled response in {sensitivity.mean:.1%} (A) and {specificity.mean:.1%} (B); calibrate it on pairs of the "
            "same kind"
        )
    rate = (plain.mean + specificity.mean - 1) / (sensitivity.mean + specificity.mean - 1)
    return CorrectedRate(
        rate=min(1.0, max(0.0, rate)),
        ci95=(max(0.0, low), min(1.0, high)),
        sensitivity=sensitivity.mean,
        specificity=specificity.mean,
        calibration_pairs=outcomes.total(),
    )


def _rates(outcomes: Outcomes) -> tuple[Rate, Rate, bool]:
    """Sensitivity and specificity, and whether both are of all pairs because one label is missing."""
    by_label: dict[Label, Outcomes] = {"A": Outcomes(), "B": Outcomes()}
    for outcome, count in outcomes.items():
        by_label[outcome.better][outcome] += count
    if all(by_label.values()):
        return _rate(by_label["A"]), _rate(by_label["B"]), False
    return _rate(outcomes), _rate(outcomes), True


def _rate(outcomes: Outcomes) -> Rate:
    """The mean score of the better response."""
    total = outcomes.total()
    scores = (count * (0.5 if outcome.verdict is None else float(outcome.right)) for outcome, count in outcomes.items())
    return Rate(math.fsum(scores) / total, total)


def _interval(plain: Rate, sensitivity: Rate, specificity: Rate, pooled: bool) -> Interval:
    """The rates p with (d - p g)^2 <= z^2 variance(p), a quadratic inequality in p; may leave [0, 1].

    Here d = m + t - 1 and g = s + t - 1. The variance is that of m - p s - (1 - p)(1 - t); a pooled rate enters it with the
    factor (1 - 2p)^2.
    """
    separation = sensitivity.centre + specificity.centre - 1
    distance = plain.centre + specificity.centre - 1
    first, second = _Z**2 * sensitivity.variance, _Z**2 * specificity.variance
    squared = 4 * first if pooled else first + second
    if separation <= math.sqrt(squared):
        raise ConfigError(
            f"this judge does not separate better from worse: it prefers the better labelled response in "
            f"{sensitivity.mean:.1%} ({sensitivity.pairs:,} pairs, A) and {specificity.mean:.1%} ({specificity.pairs:,}, B), "
            "as chance may; calibrate on more pairs, or with more votes"
        )
    a = separation**2 - squared
    b = -2 * distance * separation + (squared if pooled else 2 * second)
    c = distance**2 - _Z**2 * plain.variance - second
    root = math.sqrt(max(0.0, b**2 - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)
