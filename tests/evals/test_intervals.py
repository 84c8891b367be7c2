"""95% intervals: the textbook's numbers, the edges, what dependence does, and coverage by a small simulation."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stj.evals.intervals import UnitPart, clustered_ci95, difference_ci95, mean_ci95, weighted_ci95

SHARES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40)
CLUSTERS = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=5), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(5, 5, 0.4782, 1.0), (0, 10, 0.0, 0.3085), (8, 10, 0.4439, 0.9748), (81, 263, 0.2527, 0.3676), (1, 1, 0.025, 1.0)],
)
def test_clopper_pearson_of_the_textbook(right: int, of: int, low: float, high: float) -> None:
    assert mean_ci95([1.0] * right + [0.0] * (of - right)) == pytest.approx((low, high), abs=1e-4)


def test_the_values_of_a_cluster_are_not_independent() -> None:
    """100 clusters of nine equal values carry as much information as 100 examples, not 900."""
    values = [1.0] * 70 + [0.0] * 30
    together = clustered_ci95([value] * 9 for value in values)
    assert together == pytest.approx(mean_ci95(values), abs=0.005)


def test_independent_orders_narrow_the_interval() -> None:
    """200 pairs whose two orders are independent are worth about 400 judgments."""
    coin = random.Random(0)
    values = [((coin.random() < 0.8) + (coin.random() < 0.8)) / 2 for _ in range(200)]
    low, high = mean_ci95(values, outcomes=2)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 400), rel=0.15)


def test_a_heavy_small_subset_widens_the_interval() -> None:
    """A subset of 10 examples that counts half makes the mean less certain than its 1,010 examples suggest."""
    units = {
        (UnitPart(name, value, 1, 1),): count
        for name, value, count in [("small", 1, 8), ("small", 0, 2), ("large", 1, 800), ("large", 0, 200)]
    }
    low, high = weighted_ci95(units, {"small": 1, "large": 1})
    assert high - low > 0.2
    alone = weighted_ci95(units, {"large": 1})
    assert alone == pytest.approx(mean_ci95([1.0] * 800 + [0.0] * 200))


@given(SHARES)
def test_no_interval_is_a_point_and_each_holds_its_mean(values: list[float]) -> None:
    low, high = mean_ci95(values, outcomes=2)
    assert 0 <= low <= math.fsum(values) / len(values) <= high <= 1
    assert high - low > 0.005


@given(CLUSTERS)
def test_right_and_wrong_exchanged_mirror_the_interval(clusters: list[list[float]]) -> None:
    low, high = clustered_ci95(clusters)
    mirrored = clustered_ci95([1 - value for value in cluster] for cluster in clusters)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(SHARES, st.randoms(use_true_random=False))
def test_the_order_of_the_values_does_not_matter(values: list[float], shuffler: random.Random) -> None:
    shuffled = shuffler.sample(values, len(values))
    assert mean_ci95(shuffled) == mean_ci95(values)


@given(st.lists(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=4), min_size=1, max_size=30))
def test_a_difference_exchanged_is_mirrored(clusters: list[list[float]]) -> None:
    low, high = difference_ci95(clusters)
    assert -1 <= low < high <= 1
    mirrored = difference_ci95([-value for value in cluster] for cluster in clusters)
    assert mirrored == pytest.approx((-high, -low))


@settings(max_examples=12)
@given(st.sampled_from([5, 12, 40]), st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_nineteen_in_twenty_intervals_hold_the_truth(examples: int, truth: float) -> None:
    """The probability is summed exactly over all counts for one judgment an example; benchmarks/coverage.py does the rest."""
    covered = 0.0
    for right in range(examples + 1):
        low, high = mean_ci95([1.0] * right + [0.0] * (examples - right))
        if low <= truth <= high:
            covered += math.comb(examples, right) * truth**right * (1 - truth) ** (examples - right)
    assert covered >= 0.95


def test_units_that_are_equal_may_be_counted() -> None:
    units = Counter({(UnitPart("s", 1.0, 1, 1),): 3, (UnitPart("s", 0.0, 1, 1),): 2})
    assert weighted_ci95(units, {"s": 4}) == mean_ci95([1, 1, 1, 0, 0])
