"""Figures of grades against labels, and their intervals."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stj.evals.grade_figures import CORRELATIONS, FIGURES, SHARES, Graded, Sample, figure, undefined, weighted
from stj.evals.grade_intervals import intervals

POINTS = st.integers(1, 5).map(float)
LABELS = POINTS | st.sampled_from([1.5, 2.25, 3 + 1 / 3, 4.5])
ROWS = st.lists(st.builds(Graded, POINTS, LABELS), min_size=1, max_size=30)
SOME = [Graded(*row) for row in [(1, 1), (2, 1.5), (2, 2), (3, 3), (5, 3), (4, 4), (5, 5), (5, 4.5), (4, 5), (1, 2)]]


def figures(rows: list[Graded]) -> dict[str, float | None]:
    return {name: figure(name, Sample.of(rows)) for name in FIGURES}


def test_figures_of_a_few_rows_by_hand() -> None:
    found = figures([Graded(1, 1), Graded(2, 3), Graded(4, 4), Graded(5, 2.5)])
    assert found["mean_absolute_error"] == pytest.approx(3.5 / 4)
    assert found["exact"] == pytest.approx(2 / 3)  # Of three rows: no score can equal 2.5.
    assert found["within_one"] == pytest.approx(3 / 4)
    assert found["kendall"] == pytest.approx(stats.kendalltau([1, 2, 4, 5], [1, 3, 4, 2.5]).statistic)


def kappa_by_categories(rows: list[Graded]) -> float:
    """Cohen's kappa with quadratic weights, from the table of categories as its authors define it."""
    observed = np.zeros((6, 6))
    for score, label in rows:
        observed[int(score), int(label)] += 1
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / len(rows)
    weights = (np.arange(6)[:, None] - np.arange(6)) ** 2
    return float(1 - (weights * observed).sum() / (weights * expected).sum())


@given(st.lists(st.builds(Graded, POINTS, POINTS), min_size=1, max_size=30))
def test_kappa_of_whole_numbers_is_that_of_categories(rows: list[Graded]) -> None:
    kappa = figures(rows)["quadratic_kappa"]
    if kappa is not None:
        assert kappa == pytest.approx(kappa_by_categories(rows), abs=1e-9)
    else:
        assert len({number for row in rows for number in row}) == 1


@given(ROWS)
def test_every_figure_has_a_value_or_a_reason_and_none_is_nan(rows: list[Graded]) -> None:
    sample = Sample.of(rows)
    for name in FIGURES:
        value = figure(name, sample)
        assert (value is None) == (undefined(name, sample) is not None)
        assert value is None or math.isfinite(value)
        assert value is None or name == "mean_absolute_error" or -1 <= value <= 1


@given(ROWS)
def test_weights_give_what_scipy_gives(rows: list[Graded]) -> None:
    """The intervals rest on the weighted figures: with the weights of the sample they are those of scipy."""
    sample = Sample.of(rows)
    for name in CORRELATIONS:
        if (value := figure(name, sample)) is not None:
            assert weighted(name, sample, sample.counts[None, :])[0] == pytest.approx(value, abs=1e-9)


@given(rows=st.lists(st.builds(Graded, POINTS, LABELS), min_size=4, max_size=12), seed=st.integers(0, 99))
def test_a_resample_is_a_weight_for_each_row(rows: list[Graded], seed: int) -> None:
    drawn = random.Random(seed).choices(rows, k=len(rows))
    sample = Sample.of(rows)
    counts = [drawn.count(Graded(*row)) for row in zip(sample.scores, sample.labels, strict=True)]
    again = Sample.of(drawn)
    for name in FIGURES:
        if name != "exact" and (value := figure(name, again)) is not None:
            assert weighted(name, sample, np.array([counts], dtype=float))[0] == pytest.approx(value, abs=1e-9)


@pytest.mark.slow
@given(ROWS, st.randoms())
def test_the_order_of_rows_changes_nothing(rows: list[Graded], chance: random.Random) -> None:
    shuffled = chance.sample(rows, len(rows))
    assert figures(rows) == figures(shuffled)
    assert intervals(Sample.of(rows)) == intervals(Sample.of(shuffled))


@pytest.mark.parametrize(
    ("rows", "name", "why"),
    [
        ([(4, 1), (4, 2), (4, 3)], "pearson", "all scores are 4"),
        ([(1, 2.5), (2, 2.5), (3, 2.5)], "kendall", "all labels are 2.5"),
        ([(1, 1), (2, 2)], "spearman", "fewer than 3 rows"),
        ([(1, 1.5), (2, 2.5)], "exact", "no label is a whole number"),
        ([(3, 3), (3, 3)], "quadratic_kappa", "all scores and labels are 3"),
        ([], "mean_absolute_error", "no rows"),
        ([(0.1 + 0.2, 1), (0.3, 2), (0.3, 3)], "pearson", "all scores are 0.3"),
    ],
)
def test_a_figure_without_a_meaning_has_a_reason(rows: list[tuple[float, float]], name: str, why: str) -> None:
    sample = Sample.of(Graded(*row) for row in rows)
    assert figure(name, sample) is None
    assert undefined(name, sample) == why


def test_a_constant_score_has_no_kappa_beyond_chance() -> None:
    found = figures([Graded(3, 1), Graded(3, 3), Graded(3, 5)])
    assert found["quadratic_kappa"] == 0
    assert found["mean_absolute_error"] == pytest.approx(4 / 3)


@given(st.lists(st.builds(Graded, POINTS, LABELS), min_size=1, max_size=60))
def test_an_interval_holds_its_figure_or_has_a_reason(rows: list[Graded]) -> None:
    sample = Sample.of(rows)
    found, reasons = intervals(sample)
    assert list(found) == list(FIGURES)
    for name, ends in found.items():
        assert (ends is None) == (name in reasons)
        value = figure(name, sample)
        assert ends is None or (value is not None and ends[0] <= value <= ends[1])


def test_an_interval_is_narrower_for_more_rows() -> None:
    few, many = (intervals(Sample.of(SOME * times))[0] for times in (2, 20))
    for name in FIGURES:
        widths = [ends[1] - ends[0] for ends in (few[name], many[name]) if ends is not None]
        assert widths[1] < widths[0] / 2


def test_an_interval_is_about_that_of_theory() -> None:
    """Fisher's interval of Pearson's r, for two normal variables."""
    chance = np.random.default_rng(3)
    first, noise = chance.normal(size=(2, 400))
    rows = [Graded(float(a), float(b)) for a, b in zip(first, first + noise, strict=True)]
    fisher = stats.pearsonr(first, first + noise).confidence_interval(0.95)
    assert intervals(Sample.of(rows))[0]["pearson"] == pytest.approx((fisher.low, fisher.high), abs=0.02)


@pytest.mark.parametrize(
    ("rows", "name", "why"),
    [
        (SOME[:9], "pearson", "fewer than 10 rows"),
        ([Graded(1, 1)] * 30 + [Graded(2, 2)] * 30, "kendall", "all resamples give 1"),
        ([Graded(1, 1)] * 40 + [Graded(2, 3)], "pearson", "of 2,000 resamples have none"),
    ],
)
def test_an_interval_that_would_claim_too_much_is_none(rows: list[Graded], name: str, why: str) -> None:
    found, reasons = intervals(Sample.of(rows))
    assert found[name] is None
    assert why in reasons[name]


def test_all_right_of_few_is_no_certainty() -> None:
    found, _ = intervals(Sample.of([Graded(number, number) for number in (1, 2, 3, 4, 5)]))
    for name in SHARES:
        ends = found[name]
        assert ends is not None
        assert ends == pytest.approx((0.478, 1), abs=0.001)


@pytest.mark.slow
def test_many_different_rows_take_seconds_and_little_memory() -> None:
    chance = np.random.default_rng(0)
    rows = [Graded(float(a), float(a + b)) for a, b in chance.normal(size=(5_000, 2))]
    found, reasons = intervals(Sample.of(rows))
    assert found["spearman"] is not None
    assert reasons["kendall"] == "more than 2,000 different rows"
