"""How good a judge is: accuracy in each order, position consistency, intervals, content-blind baselines.

Every pair is shown in both orders. The paper (Table 9) reports the mean of "winner first" and "winner last", not one random
order, and position-consistent accuracy beside it (Table 3): right in both orders. Four answers are shown in four orders.

What is known of one example is an `Outcome`, a few shares; outcomes of a subset are counted, not kept, so a file of a million
recorded judgments takes no more memory than one of a thousand. Examples that hang together (RM-Bench's nine comparisons of an
item, MT-Bench's votes on a question) are a cluster: intervals are over clusters, for only those are independent.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stj.rows import Pair
from stj.verdict import TIE, Label, Verdict

_RESAMPLES = 2000
_BOOTSTRAP_SEED = 0

_LABELS: tuple[Label, ...] = ("A", "B", "C", "D")
_ORDERS = tuple(f"shown as {label}" for label in _LABELS)
_STATS = (
    *("accuracy", "position_consistent", "agreement", "unparsed"),
    *(*_ORDERS, "always_a", "longest", "shortest"),
)

Interval = tuple[float, float]
VerdictsByOrder = Mapping[Label, Sequence[Verdict | None]]
"""What was said of one example, by the label under which its better answer was shown: one verdict a sample."""
Weights = Mapping[str, float]
"""How much each subset counts in a group of subsets; any scale."""
Groups = Callable[[Mapping[str, int]], dict[str, Weights]]
"""From the sizes of the subsets to the groups: sections, and "overall"."""
Means = NDArray[np.float64]
"""Resampled means, shape (resamples,)."""
T = TypeVar("T", float, Means)


class Outcome(NamedTuple):
    """How one example came out, as shares over its samples."""

    orders: tuple[Label, ...]
    """Labels under which the better answer was shown; none where answers were rated one by one."""
    right: tuple[float, ...]
    """For each of these labels; of rated answers the one share."""
    consistent: float
    """Right in all orders."""
    agreed: float
    """The same answer preferred in all orders, right or wrong; none preferred is no agreement."""
    unparsed: float
    official: float
    """Its score by the benchmark's own rule."""
    always_a: float | None
    """Of always saying A; None where answers were rated."""
    longest: float | None
    """Of picking the longest answer: ties share; None where no answers are given."""
    shortest: float | None

    @property
    def accuracy(self) -> float:
        """Mean of the orders."""
        return math.fsum(self.right) / len(self.right)


Tally = Counter[Outcome]
"""The outcomes of a subset, counted; there are few distinct ones."""
Unit = tuple[tuple[str, float, int], ...]
"""What is drawn as a whole: of each subset it has examples in, the sum of their accuracies and how many they are."""
Official = Callable[[VerdictsByOrder], float]
"""A benchmark's own score of one example."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A judge on a subset or a group of subsets; every score is a share between 0 and 1, and no verdict is wrong."""

    examples: int
    accuracy: float
    """Mean of the orders."""
    ci95: Interval
    """Low and high end of its 95% bootstrap interval over examples, or clusters of them, stratified by subset."""
    by_order: tuple[float | None, ...]
    """With the better answer shown as A, as B, ...; None for an order that was not asked, empty where the subsets differ."""
    position_consistent: float | None
    """Share judged right in all orders; None where examples were judged in one order alone."""
    agreement: float | None
    """Share in which all orders prefer the same answer; None where examples were judged in one order alone."""
    unparsed: float
    """Share of the judgments without a verdict."""
    official: float
    """By the benchmark's own rule; examples that could not be judged count as judged without a verdict."""
    always_a: float | None
    """What a judge that always says A scores on the same judgments; None where answers are rated."""
    longest: float | None
    """What picking the answer with more characters scores; equal lengths share. None where no answers are given."""
    shortest: float | None


def outcome(said: VerdictsByOrder, sizes: Sequence[int] | None, official: Official | None = None) -> Outcome:
    """The outcome of an example; `sizes` are the lengths of its answers in characters, the better one first."""
    longest = None if sizes is None else picks(sizes, max(sizes))
    shortest = None if sizes is None else picks(sizes, min(sizes))
    return _outcome(tuple((order, tuple(said[order])) for order in sorted(said)), longest, shortest, official)


@lru_cache(maxsize=4096)
def _outcome(
    said: tuple[tuple[Label, tuple[Verdict | None, ...]], ...],
    longest: float | None,
    shortest: float | None,
    official: Official | None,
) -> Outcome:
    """There are few distinct ones, and a file of recorded judgments asks for them again and again."""
    orders = [order for order, _ in said]
    samples = list(zip(*(own for _, own in said), strict=True))
    hits = [[verdict == order for verdict, order in zip(sample, orders, strict=True)] for sample in samples]
    right = tuple(_mean([sample[place] for sample in hits]) for place in range(len(orders)))
    agreed = [all(own_hits) or _same_answer(orders, sample) for own_hits, sample in zip(hits, samples, strict=True)]
    return Outcome(
        orders=tuple(orders),
        right=right,
        consistent=_mean([all(sample) for sample in hits]),
        agreed=_mean(agreed),
        unparsed=_mean([verdict is None for sample in samples for verdict in sample]),
        official=_mean(right) if official is None else official(dict(said)),
        always_a=_mean([order == "A" for order in orders]),
        longest=longest,
        shortest=shortest,
    )


def lengths(pair: Pair) -> tuple[int, int]:
    """Characters of the better and of the worse answer."""
    return len(pair.chosen), len(pair.rejected)


def picks(values: Sequence[float], wanted: float) -> float:
    """What picking the answers with the wanted value scores where the first is the right one: k that share it get 1/k."""
    return 1 / values.count(wanted) if values[0] == wanted else 0.0


class Tallies:
    """The outcomes of the examples that were judged, by subset, and which of them hang together."""

    def __init__(self) -> None:
        self.subsets: dict[str, Tally] = {}
        self._unjudged: dict[str, Tally] = {}
        self._alone: Counter[tuple[str, float]] = Counter()
        self._clusters: dict[str, dict[str, list[float]]] = {}

    def add(self, subset: str, one: Outcome, cluster: str | None = None) -> None:
        """Counts an outcome; those with the same cluster are no independent ones."""
        self.subsets.setdefault(subset, Tally())[one] += 1
        if cluster is None:
            self._alone[subset, one.accuracy] += 1
        else:
            self._clusters.setdefault(cluster, {}).setdefault(subset, []).append(one.accuracy)

    def add_unjudged(self, subset: str, one: Outcome) -> None:
        """Counts an example that could not be judged, to the official score alone."""
        self._unjudged.setdefault(subset, Tally())[one] += 1

    def official(self) -> dict[str, Tally]:
        """The outcomes that the official score counts: also those of examples that could not be judged."""
        names = sorted(self.subsets.keys() | self._unjudged.keys())
        return {name: self.subsets.get(name, Tally()) + self._unjudged.get(name, Tally()) for name in names}

    def units(self) -> Counter[Unit]:
        """What a bootstrap draws, counted."""
        units: Counter[Unit] = Counter({((subset, value, 1),): count for (subset, value), count in self._alone.items()})
        for parts in self._clusters.values():
            units[tuple((subset, math.fsum(own), len(own)) for subset, own in sorted(parts.items()))] += 1
        return units


def score(tallies: Tallies, groups: Groups) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """The scores of each subset, and of each group of them."""
    sizes = {name: tallies.subsets[name].total() for name in sorted(tallies.subsets)}
    numbers = {name: _numbers(tally) for name, tally in tallies.subsets.items()}
    official = {name: _mean_of(tally, lambda one: one.official) for name, tally in tallies.official().items()}
    officially = groups({name: tally.total() for name, tally in tallies.official().items()})
    draws = _draws(tallies.units())

    def of(weights: Weights, whole: Weights) -> Scores:
        members = {name: weight for name, weight in weights.items() if name in sizes}
        known = [stat for stat in _STATS if all(stat in numbers[name] for name in members)]
        means = {stat: weighted({name: numbers[name][stat] for name in members}, members) for stat in known}
        means["official"] = weighted(official, {name: weight for name, weight in whole.items() if name in official})
        return _scores(means, ci95(weighted(draws, members)), sum(sizes[name] for name in members))

    subsets = {name: of({name: 1}, {name: 1}) for name in sizes}
    return subsets, {group: of(weights, officially.get(group, weights)) for group, weights in groups(sizes).items()}


def ci95(means: Means) -> Interval:
    """The middle 95% of resampled means."""
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_ci95(values: Iterable[float]) -> Interval:
    """The 95% percentile bootstrap interval of the mean of values, one an example: 2,000 resamples from a fixed seed."""
    return clustered_ci95([value] for value in values)


def clustered_ci95(clusters: Iterable[Sequence[float]]) -> Interval:
    """The same of the mean of all values, of which those of a cluster are drawn together."""
    return ci95(_resampled(Counter((("", math.fsum(own), len(own)),) for own in clusters), 0)[""])


def weighted(values: Mapping[str, T], weights: Weights) -> T:
    """The weighted mean of the values that have a weight."""
    total = math.fsum(weights.values())
    return sum((values[name] * (weight / total) for name, weight in weights.items()), start=0 * next(iter(values.values())))


def evenly(groups: Iterable[Weights]) -> Weights:
    """The group in which each of these groups counts the same."""
    return {name: weight / math.fsum(group.values()) for group in groups for name, weight in group.items()}


def overall_only(sizes: Mapping[str, int]) -> dict[str, Weights]:
    """The groups of a benchmark without sections: every example counts the same."""
    return {"overall": sizes}


def _same_answer(orders: Sequence[Label], said: Sequence[Verdict | None]) -> bool:
    """Whether a pair's two orders prefer the same answer though it is the worse one, or both call it a tie."""
    return len(orders) == 2 and (tuple(said) == tuple(reversed(orders)) or set(said) == {TIE})


def _numbers(tally: Tally) -> dict[str, float]:
    """The numbers of a subset that are linear in its examples; those that are not known are left out."""
    numbers = {
        "accuracy": _mean_of(tally, lambda one: one.accuracy),
        "unparsed": _mean_of(tally, lambda one: one.unparsed),
    }
    if all(len(one.orders) != 1 for one in tally):
        numbers["position_consistent"] = _mean_of(tally, lambda one: one.consistent)
        numbers["agreement"] = _mean_of(tally, lambda one: one.agreed)
    for order, label in zip(_ORDERS, _LABELS, strict=True):
        if shown := Tally({one: count for one, count in tally.items() if label in one.orders}):
            numbers[order] = _mean_of(shown, _right_as(label))
    if all(one.always_a is not None for one in tally):
        numbers["always_a"] = _mean_of(tally, lambda one: one.always_a or 0.0)
    if all(one.longest is not None and one.shortest is not None for one in tally):
        numbers["longest"] = _mean_of(tally, lambda one: one.longest or 0.0)
        numbers["shortest"] = _mean_of(tally, lambda one: one.shortest or 0.0)
    return numbers


def _right_as(label: Label) -> Callable[[Outcome], float]:
    return lambda one: one.right[one.orders.index(label)]


def _scores(numbers: Mapping[str, float], interval: Interval, examples: int) -> Scores:
    asked = max((place for place, order in enumerate(_ORDERS, start=1) if order in numbers), default=0)
    return Scores(
        examples=examples,
        accuracy=numbers["accuracy"],
        ci95=interval,
        by_order=tuple(numbers.get(order) for order in _ORDERS[:asked]),
        position_consistent=numbers.get("position_consistent"),
        agreement=numbers.get("agreement"),
        unparsed=numbers["unparsed"],
        official=numbers["official"],
        always_a=numbers.get("always_a"),
        longest=numbers.get("longest"),
        shortest=numbers.get("shortest"),
    )


def _draws(units: Counter[Unit]) -> dict[str, Means]:
    """Resampled means of every subset; those that have units in common are drawn together."""
    draws: dict[str, Means] = {}
    for stream, stratum in enumerate(_strata(units)):
        draws |= _resampled(stratum, stream)
    return draws


def _strata(units: Counter[Unit]) -> Iterator[Counter[Unit]]:
    """The units by the subsets that they have in common, directly or through others."""
    joined: dict[str, frozenset[str]] = {}
    for names in {frozenset(name for name, _, _ in unit) for unit in units}:
        whole = names.union(*(joined.get(name, names) for name in names))
        joined |= dict.fromkeys(whole, whole)
    strata: dict[str, Counter[Unit]] = {}
    for unit, count in units.items():
        strata.setdefault(min(joined[unit[0][0]]), Counter())[unit] = count
    return (strata[first] for first in sorted(strata))


def _resampled(units: Counter[Unit], stream: int) -> dict[str, Means]:
    """Means of 2,000 bootstrap resamples of each subset, shape (resamples,), from a seed of their own.

    How often each distinct unit is drawn is multinomial, so a resample costs what there are distinct units, not examples.
    """
    distinct = sorted(units)
    counts = np.array([units[unit] for unit in distinct])
    random = np.random.default_rng([_BOOTSTRAP_SEED, stream])
    drawn = random.multinomial(counts.sum(), counts / counts.sum(), size=_RESAMPLES)  # (resamples, distinct)
    parts = [{name: (total, size) for name, total, size in unit} for unit in distinct]
    means: dict[str, Means] = {}
    for name in sorted(set().union(*parts)):
        totals, sizes = np.array([part.get(name, (0.0, 0)) for part in parts]).T
        examples = drawn @ sizes
        # a resample without any unit of this subset says nothing of it: there the mean stands
        mean = np.full(_RESAMPLES, counts @ totals / (counts @ sizes))
        means[name] = np.divide(drawn @ totals, examples, out=mean, where=examples > 0)
    return means


def _mean_of(tally: Tally, value: Callable[[Outcome], float]) -> float:
    return math.fsum(value(one) * count for one, count in tally.items()) / tally.total()  # fsum: the same in any order


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
