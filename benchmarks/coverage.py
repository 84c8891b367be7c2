"""How often the 95% intervals of evals/intervals.py hold the truth: 5 to 5,000 examples, accuracies from 0.5 to 1, clusters.

    .venv/bin/python benchmarks/coverage.py          about an hour; writes results/coverage.json

Each number is the share of 2,000 simulated evaluations whose interval holds the accuracy that made them. The standard error of
a share of 95% is 0.5 points. Beside it stands the share of the percentile bootstrap (scipy's), which stj used before: the peer.

    example     one judgment
    two orders  both orders of a pair: independent, or equal
    clusters    of 2, 9 or 25 judgments, whose accuracies vary around the truth (beta), with intraclass correlation 0.05 to 0.7
    sizes       clusters of 1 to 12 judgments, as MT-Bench's votes on a question
    subsets     23 of 20 to 160 examples, weighted as RewardBench's sections, and 6 that count the same
    difference  of two judges on the same examples, whose verdicts agree by chance or mostly
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from stj.evals.intervals import Interval, UnitPart, clustered_ci95, difference_ci95, weighted_ci95

RUNS = 2000
BOOTSTRAPS = 300  # The peer takes a thousand times as long.
EXAMPLES = (5, 10, 20, 50, 200, 1000, 5000)
ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
GOAL = 0.93
Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], Values]
"""Draws the outcomes of one evaluation, shape (units, outcomes of a unit)."""


def single(random: np.random.Generator, units: int, truth: float) -> Values:
    return (random.random((units, 1)) < truth).astype(float)


def independent_orders(random: np.random.Generator, units: int, truth: float) -> Values:
    return (random.random((units, 2)) < truth).astype(float)


def equal_orders(random: np.random.Generator, units: int, truth: float) -> Values:
    return np.repeat(single(random, units, truth), 2, axis=1)


def clusters(size: int, correlation: float) -> Draw:
    def draw(random: np.random.Generator, units: int, truth: float) -> Values:
        spread = 1 / correlation - 1
        accuracy = random.beta(truth * spread, (1 - truth) * spread, (units, 1)) if truth < 1 else np.ones((units, 1))
        return (random.random((units, size)) < accuracy).astype(float)

    return draw


DRAWS: dict[str, Draw] = {
    "example": single,
    "two orders, independent": independent_orders,
    "two orders, equal": equal_orders,
    **{f"clusters of {size}, {icc}": clusters(size, icc) for size in (2, 9, 25) for icc in (0.05, 0.3, 0.7)},
}


def interval_of(outcomes: Values) -> Interval:
    """The interval as stj computes it: of counted units."""
    size = outcomes.shape[1]
    units = Counter((UnitPart("", float(right), size, size),) for right in outcomes.sum(axis=1))
    return weighted_ci95(units, {"": 1})


def covered(draw: Draw, examples: int, truth: float, seed: int) -> float:
    """The share of the intervals that hold the truth."""
    random = np.random.default_rng(seed)
    return float(np.mean([holds(interval_of(draw(random, examples, truth)), truth) for _ in range(RUNS)]))


def covered_by_bootstrap(examples: int, truth: float, seed: int) -> float:
    """The same for the percentile bootstrap of single judgments."""
    random = np.random.default_rng(seed)
    held = 0
    for _ in range(BOOTSTRAPS):
        values = single(random, examples, truth)[:, 0]
        ends = bootstrap((values,), np.mean, n_resamples=1000, method="percentile", rng=random).confidence_interval
        held += holds((ends.low, ends.high), truth)
    return held / BOOTSTRAPS


def covered_with_sizes(examples: int, truth: float, seed: int) -> float:
    """Clusters of 1 to 12 judgments."""
    random = np.random.default_rng(seed)
    draw, held = clusters(12, 0.2), 0
    for _ in range(RUNS):
        outcomes = draw(random, examples, truth)
        held += holds(clustered_ci95([list(row[: random.integers(1, 13)]) for row in outcomes]), truth)
    return held / RUNS


def covered_with_subsets(sizes: list[int], weights: list[float], truth: float, seed: int) -> float:
    """Subsets whose accuracies differ around the truth, each with two equal orders for half of its examples."""
    random = np.random.default_rng(seed)
    spread = min(0.1, 1 - truth)
    accuracies = truth + spread * np.linspace(-1, 1, len(sizes))
    expected = float(np.average(accuracies, weights=weights))
    names = [str(place) for place in range(len(sizes))]
    held = 0
    for _ in range(RUNS):
        units: Counter[tuple[UnitPart, ...]] = Counter()
        for name, size, accuracy in zip(names, sizes, accuracies, strict=True):
            orders = np.where(random.random((size, 1)) < 0.5, random.random((size, 1)), random.random((size, 2))) < accuracy
            units.update((UnitPart(name, float(right), 1, 2),) for right in orders.mean(axis=1))
        held += holds(weighted_ci95(units, dict(zip(names, weights, strict=True))), expected)
    return held / RUNS


def covered_difference(examples: int, first: float, second: float, same: float, seed: int) -> float:
    """Two judges whose verdicts on an example rest on the same coin with probability `same`."""
    random = np.random.default_rng(seed)
    held = 0
    for _ in range(RUNS):
        coin = random.random((examples, 1))
        other = np.where(random.random((examples, 1)) < same, coin, random.random((examples, 1)))
        differences = (other < second).astype(float) - (coin < first)
        held += holds(difference_ci95(differences.tolist()), second - first)
    return held / RUNS


def holds(interval: Interval, truth: float) -> bool:
    return interval[0] - 1e-9 <= truth <= interval[1] + 1e-9


def cells() -> Iterator[dict[str, Any]]:
    """Every simulated setting with its coverage."""
    seed = 0
    for examples in EXAMPLES:
        for truth in ACCURACIES:
            seed += 1
            at = {"examples": examples, "accuracy": truth}
            yield {"what": "percentile bootstrap (peer)", **at, "covered": covered_by_bootstrap(examples, truth, seed)}
            for name, draw in DRAWS.items():
                yield {"what": name, **at, "covered": covered(draw, examples, truth, seed)}
            if examples <= 200:
                yield {"what": "clusters of 1 to 12", **at, "covered": covered_with_sizes(examples, truth, seed)}
    sizes = [20 + 6 * place for place in range(23)]
    for truth in ACCURACIES:
        sections = [float(984 if place == 0 else 100) for place in range(23)]
        yield {"what": "23 weighted subsets", "accuracy": truth, "covered": covered_with_subsets(sizes, sections, truth, seed)}
        yield {"what": "6 equal subsets", "accuracy": truth, "covered": covered_with_subsets(sizes[:6], [1.0] * 6, truth, seed)}
        for examples in EXAMPLES:
            for second in (truth, max(0.5, truth - 0.05), max(0.5, truth - 0.3)):
                for same in (0.0, 0.9):
                    share = covered_difference(examples, truth, second, same, seed)
                    at = {"examples": examples, "accuracy": truth, "second": second, "same": same}
                    yield {"what": "difference", **at, "covered": share}


def main() -> int:
    lowest: dict[str, dict[str, Any]] = {}
    everything = []
    for cell in cells():
        everything.append(cell)
        if cell["covered"] < lowest.get(cell["what"], {"covered": 2.0})["covered"]:
            lowest[cell["what"]] = cell
    for cell in lowest.values():
        print(json.dumps(cell))
    ours = [cell for cell in lowest.values() if "peer" not in cell["what"]]
    record = {"date": str(date.today()), "runs": RUNS, "goal": GOAL, "lowest": lowest, "cells": everything}
    target = Path(__file__).parent / "results/coverage.json"
    target.write_text(json.dumps(record) + "\n", encoding="utf-8")
    print(f"lowest coverage of ours {min(cell['covered'] for cell in ours):.4f}, goal {GOAL}; {target}")
    return int(any(cell["covered"] < GOAL for cell in ours))


if __name__ == "__main__":
    sys.exit(main())
