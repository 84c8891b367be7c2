"""How well each judge of a run grades responses with true scores: rank correlation and exact agreement, sampled and greedy."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import numpy.typing as npt

from stj.evals.grade_figures import FIGURES, Graded, Sample, figure, weighted
from stj.evals.intervals import Interval, clustered_ci95
from stj.rows import Grade, Purpose, Row

_RESAMPLES = 2000
_BLOCK = 2_000_000  # Weights in memory at once, 16 MB: those of 20,000 responses in all resamples would take gigabytes.
_MOST_UNDEFINED = 0.01  # Share of resamples without a correlation, as with equal scores, above which it has no interval.
_SEED = 0  # Of the resamples: the same grades have the same intervals.

_Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GradeFigures:
    """The figures of one way of asking. A figure without a meaning, as the correlation of equal scores, is None."""

    spearman: float | None
    spearman_ci95: Interval | None
    exact: float | None
    """Share of grades that equal the true score, of the responses whose true score is a whole number. A grade without a score
    counts as wrong. None without such responses."""
    exact_ci95: Interval | None
    pearson: float | None
    kendall: float | None
    mean_absolute_error: float | None
    """In points of the scale, over grades with a score."""


@dataclass(frozen=True, kw_only=True)
class HeldoutGrades:
    """One judge on the held-out responses."""

    responses: int
    """Responses that were graded."""
    ungraded: int
    """Responses without grades: a request failed, or the row was dropped."""
    sampled: GradeFigures
    """The mean over the samples of each response. The intervals are over instructions: by bootstrap for the correlation, and
    in closed form for the share (stj/evals/intervals.py)."""
    greedy: GradeFigures | None
    """None if nothing was graded greedily."""
    unparsed: float
    """Share of the sampled grades without a score."""
    truncated: float
    """Share of the sampled grades that have no score because max_tokens cut them or their thoughts."""
    constant: float | None
    """Baseline: exact agreement of the most frequent true score. None without whole ones."""
    length: float | None
    """Baseline: Spearman's correlation of the response's length with the true score."""
    scales: int = 1
    """Number of different scales. If there are several, only `exact` is given: a 1 of one is not a 1 of another."""
    ungraded_by_reason: dict[str, int] = field(default_factory=dict)


class HeldoutGradesTally:
    """The grades of the held-out responses, row by row; the order of the rows does not matter."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, float, int, tuple[float | None, ...], float | None]] = {}
        self._ungraded = Counter[str]()
        self._grades = self._unparsed = self._truncated = 0
        self._scales = set[str]()
        self._greedy = False

    def add(self, row: Row) -> None:
        """Counts a held-out response."""
        sampled, greedy = _of(row, "sampled"), _of(row, "greedy")
        if not sampled or row.label is None:
            self._ungraded[row.dropped or ("failed" if row.error else "not_graded")] += 1
            return
        self._scales.update(rubric.scale for rubric in row.rubrics)
        self._greedy |= bool(greedy)
        self._grades += len(sampled)
        self._unparsed += sum(grade.score is None for grade in sampled)
        self._truncated += sum(grade.score is None and grade.finish_reason == "length" for grade in sampled)
        scores = tuple(grade.score for grade in sampled)
        best = greedy[0].score if greedy else None
        self._rows[row.id] = (row.instruction, row.label, len(row.response or ""), scores, best)

    def scores(self) -> HeldoutGrades | None:
        """The scores; None if no response was graded."""
        if not self._rows:
            return None
        rows = [self._rows[row_id] for row_id in sorted(self._rows)]
        instructions, labels, lengths, sampled, greedy = zip(*rows, strict=True)
        true = np.array(labels, dtype=float)
        asked = min(map(len, sampled))  # as many as every response has
        by_sample = [_array([scores[index] for scores in sampled]) for index in range(asked)]
        one_scale = len(self._scales) < 2
        whole = Counter(label for label in labels if label == int(label))
        return HeldoutGrades(
            responses=len(rows),
            ungraded=self._ungraded.total(),
            sampled=_figures(by_sample, true, instructions, one_scale),
            greedy=_figures([_array(greedy)], true, instructions, one_scale) if self._greedy else None,
            unparsed=self._unparsed / self._grades,
            truncated=self._truncated / self._grades,
            constant=max(whole.values()) / whole.total() if whole else None,
            length=figure("spearman", Sample.of(map(Graded, map(float, lengths), labels))) if one_scale else None,
            scales=max(1, len(self._scales)),
            ungraded_by_reason=dict(sorted(self._ungraded.items())),
        )


def _of(row: Row, purpose: Purpose) -> list[Grade]:
    return sorted((grade for grade in row.grades if grade.purpose == purpose), key=lambda grade: grade.index)


def _array(scores: Sequence[float | None]) -> _Scores:
    return np.array([np.nan if score is None else score for score in scores], dtype=float)


def _resamples(instructions: Sequence[str]) -> Iterator[_Scores]:
    """How often each response is in each bootstrap sample, in blocks; the responses to one instruction come together."""
    numbers = {instruction: number for number, instruction in enumerate(dict.fromkeys(instructions))}
    unit = np.array([numbers[instruction] for instruction in instructions])
    chance, shares = np.random.default_rng(_SEED), np.full(len(numbers), 1 / len(numbers))
    block = max(1, _BLOCK // len(instructions))
    for first in range(0, _RESAMPLES, block):
        drawn = chance.multinomial(len(numbers), shares, size=min(block, _RESAMPLES - first))
        yield drawn[:, unit].astype(float)


def _figures(samples: Sequence[_Scores], true: _Scores, instructions: Sequence[str], one_scale: bool) -> GradeFigures:
    names = [name for name in FIGURES if name != "exact"]
    means = {name: _mean([_figure_of(name, scores, true) for scores in samples]) if one_scale else None for name in names}
    agreed = np.mean([scores == true for scores in samples], axis=0)  # No score is NaN, which equals nothing.
    by_instruction = defaultdict[str, list[float]](list)
    for instruction, share, label in zip(instructions, agreed.tolist(), true.tolist(), strict=True):
        if label == int(label):
            by_instruction[instruction].append(share)
    shares = [share for together in by_instruction.values() for share in together]
    return GradeFigures(
        spearman=means["spearman"],
        spearman_ci95=None if means["spearman"] is None else _interval(_spearmans(samples, true, instructions)),
        exact=fmean(shares) if shares else None,
        exact_ci95=clustered_ci95(by_instruction.values(), outcomes=len(samples)) if shares else None,
        pearson=means["pearson"],
        kendall=means["kendall"],
        mean_absolute_error=means["mean_absolute_error"],
    )


def _spearmans(samples: Sequence[_Scores], true: _Scores, instructions: Sequence[str]) -> _Scores:
    """Spearman's correlation in each bootstrap sample, the mean over the samples of each response."""
    blocks = (
        np.mean([_resampled("spearman", scores, true, weights) for scores in samples], axis=0)
        for weights in _resamples(instructions)
    )
    return np.concatenate(list(blocks))


def _figure_of(name: str, scores: _Scores, true: _Scores) -> float | None:
    read = ~np.isnan(scores)
    return figure(name, Sample.of(map(Graded, scores[read].tolist(), true[read].tolist())))


def _resampled(name: str, scores: _Scores, true: _Scores, weights: _Scores) -> _Scores:
    read = ~np.isnan(scores)
    if not read.any():
        return np.full(len(weights), np.nan)
    return weighted(name, Sample(scores[read], true[read], np.ones(int(read.sum()))), weights[:, read])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) and known else None


def _interval(resampled: _Scores) -> Interval | None:
    known = resampled[~np.isnan(resampled)]
    if len(known) < (1 - _MOST_UNDEFINED) * len(resampled):
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)
