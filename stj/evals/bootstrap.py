"""95% intervals by bootstrap, bias-corrected and accelerated (BCa; Efron, 1987), of figures that have no closed form.

BCa and not percentiles, because the figures of few rows are skewed (benchmarks/grade_coverage.py measures both).

A resample draws as many rows as there are, with replacement. There are 2,000, from seed 0: the same rows have the same
interval, in any order. A figure is a function of the distinct rows and of how often each comes, so that one call computes it
of many resamples: a row of `weights` is a resample, and NaN is a figure without a meaning.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from stj.evals.intervals import Interval

RESAMPLES = 2_000
FEWEST = 10
"""Rows: with fewer, equal values in a resample are common, and an interval says little."""
MOST_DISTINCT = 2_000
"""Distinct rows of which each is left out in turn, for the acceleration; with more it is about 0."""
_SEED = 0
_TAIL = 0.025
_MOST_UNDEFINED = 0.01  # Share of resamples without the figure, as with equal values, above which it has no interval.
_BLOCK = 4_000_000  # Weights in memory at once, 32 MB.

Array = npt.NDArray[np.float64]
Weighted = Callable[[Array], Array]
"""A figure of each resample, from the weights of the distinct rows in it."""


def resamples(counts: Array) -> Iterator[Array]:
    """The resamples of rows that come this often, in blocks: in a block, each row is one resample."""
    chance, rows = np.random.default_rng(_SEED), int(counts.sum())
    block = max(1, _BLOCK // len(counts))
    for first in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - first)
        yield chance.multinomial(rows, counts / rows, size=size).astype(float)


def acceleration(counts: Array, figure: Weighted) -> float:
    """From the figure without each row in turn; 0 for many different rows, where it would be about 0."""
    if len(counts) > MOST_DISTINCT:
        return 0.0
    left_out = figure(counts - np.eye(len(counts)))
    apart = np.average(left_out, weights=counts) - left_out
    cubes, squares = (float((counts * apart**power).sum()) for power in (3, 2))
    return cubes / (6 * squares**1.5) if np.isfinite(cubes) and squares > 0 else 0.0


def bca(value: float | None, resampled: Array, accelerated: Callable[[], float]) -> tuple[Interval | None, str | None]:
    """The interval of a value, from the same figure of all resamples; or the reason that it has none."""
    known = resampled[np.isfinite(resampled)]
    if len(known) < (1 - _MOST_UNDEFINED) * RESAMPLES:
        return None, f"{RESAMPLES - len(known):,} of {RESAMPLES:,} resamples have none"
    if value is None or np.ptp(known) == 0:
        return None, f"all resamples give {known[0]:g}"
    low, high = (float(np.quantile(known, share)) for share in _shares(value, known, accelerated()))
    return (min(low, value), max(high, value)), None


def _shares(value: float, resampled: Array, accelerated: float) -> list[float]:
    """The shares of the resamples below the two ends of the interval."""
    from scipy.special import ndtr, ndtri

    below = (np.mean(resampled < value) + np.mean(resampled <= value)) / 2
    bias = ndtri(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled)))
    moved = (bias + ndtri(tail) for tail in (_TAIL, 1 - _TAIL))
    return [float(ndtr(bias + shift / (1 - accelerated * shift))) for shift in moved]
