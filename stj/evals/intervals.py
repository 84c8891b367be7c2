"""95% intervals: of a mean score, and of the difference between two judges on the same examples.

A percentile bootstrap claims too much for few examples: five right of five give [1, 1]. Both intervals here are closed forms
from the literature. They hold for few examples, near 0% and 100%, and for dependent examples (benchmarks/coverage.py).

    a mean          Korn and Graubard (1998): the exact interval of Clopper and Pearson for the effective number of outcomes.
                    An outcome is one judgment, right or wrong. The variance between units gives the effective number.
    a difference    Bonett and Price (2012): Student's interval after two units are added, one that A alone has right and one
                    that B alone has right.

A unit is independent of all others: an example in all its orders, or a cluster of examples.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_BELOW_HIGH_END = 0.975  # Probability below the upper end of a 95% interval.

Interval = tuple[float, float]


class UnitPart(NamedTuple):
    """The examples of one unit in one subset."""

    subset: str
    total: float
    """The sum of their values, each from 0 to 1."""
    examples: int
    outcomes: int
    """Number of judgments behind these values."""


Unit = tuple[UnitPart, ...]
"""One independent unit, with a part for each of its subsets."""


def joined_part(parts: Sequence[UnitPart]) -> UnitPart:
    """Parts of one subset as one part; their order does not matter."""
    totals, examples, outcomes = zip(*(part[1:] for part in parts), strict=True)
    return UnitPart(parts[0].subset, math.fsum(totals), sum(examples), sum(outcomes))


def mean_ci95(values: Iterable[float], outcomes: int = 1) -> Interval:
    """The 95% interval of the mean of independent values from 0 to 1; each is a mean of `outcomes` judgments."""
    return clustered_ci95(([value] for value in values), outcomes)


def clustered_ci95(clusters: Iterable[Sequence[float]], outcomes: int = 1) -> Interval:
    """The 95% interval of the mean of all values from 0 to 1; only values of different clusters are independent."""
    parts = (UnitPart("", math.fsum(values), len(values), outcomes * len(values)) for values in clusters)
    return weighted_ci95(Counter((part,) for part in parts), {"": 1})


def weighted_ci95(units: Mapping[Unit, int], weights: Mapping[str, float]) -> Interval:
    """The 95% interval of a weighted mean of subsets, from counted units; each subset is a stratum of its own."""
    sample = _Sample(units, weights)
    low, high = _clopper_pearson(sample.mean, sample.effective_outcomes())
    return min(low, sample.mean), max(high, sample.mean)  # Rounding must not leave the mean outside.


def difference_ci95(clusters: Iterable[Sequence[float]]) -> Interval:
    """The 95% interval of the mean of differences from -1 to 1; only differences of different clusters are independent."""
    units = [(math.fsum(values), float(len(values))) for values in clusters]
    size = math.fsum(examples for _, examples in units) / len(units)
    units += [(size, size), (-size, size)]
    examples = size * len(units)
    mean = math.fsum(total for total, _ in units) / examples
    squares = math.fsum((total - mean * count) ** 2 for total, count in units)
    reach = _student(len(units) - 1) * math.sqrt(squares * len(units) / (len(units) - 1)) / examples
    return max(-1.0, mean - reach), min(1.0, mean + reach)


class _Sample:
    """Units and the weights of their subsets: the weighted mean, and how many independent outcomes it is worth."""

    def __init__(self, units: Mapping[Unit, int], weights: Mapping[str, float]) -> None:
        self._units: Counter[Unit] = Counter()
        for unit, count in units.items():
            if parts := tuple(part for part in unit if part.subset in weights):
                self._units[parts] += count
        examples: Counter[str] = Counter()
        totals: dict[str, list[float]] = {}
        for count, part in self._parts():
            examples[part.subset] += count * part.examples
            totals.setdefault(part.subset, []).append(count * part.total)
        whole = math.fsum(weights[name] for name in examples)
        self._means = {name: math.fsum(values) / examples[name] for name, values in totals.items()}
        self._share = {name: weights[name] / whole / examples[name] for name in examples}  # Of one example in the mean.
        self.mean = min(1.0, math.fsum(weights[name] / whole * mean for name, mean in self._means.items()))

    def effective_outcomes(self) -> float:
        """The number of independent outcomes whose mean is as precise: from their variance, and at most all outcomes.

        It is the number of units if all outcomes are right or all are wrong: nothing says how dependent those of a unit are.
        Little says it if few units differ from the rest, so the number of units then counts as one unit's evidence.
        """
        units = 1 / math.fsum(count * self._weight(unit) ** 2 for unit, count in self._units.items())  # Kish
        differing = self._differing_units()
        if not differing:
            return units
        squares = (count * (self._share[part.subset] * part.examples) ** 2 / part.outcomes for count, part in self._parts())
        each = max(self._variance() / (self.mean * (1 - self.mean)), math.fsum(squares))
        if each < 1 / units:
            each = (differing * each + 1 / units) / (differing + 1)
        return 1 / each

    def _variance(self) -> float:
        """The variance of the mean, from the units of each stratum; Student's distribution makes it larger for few units.

        It is mean * (1 - mean) / n for n units of one outcome each in one stratum, so that their interval is the exact one. The
        degrees of freedom are Satterthwaite's: those of the strata that vary most.
        """
        strata = list(_strata(self._units))
        several = [stratum for stratum in strata if stratum.total() > 1]
        alone = sum((stratum for stratum in strata if stratum.total() == 1), start=Counter[Unit]())
        parts = [(self._between(stratum, self._means) or self._unseen(stratum), stratum.total()) for stratum in several]
        if alone:  # One unit does not show a stratum's variance; together they show the variance around the whole mean.
            parts.append((self._between(alone, dict.fromkeys(self._means, self.mean)), alone.total()))
        variance = math.fsum(part for part, _ in parts)
        squares = math.fsum(part**2 / max(1, units - 1) for part, units in parts)
        units = variance**2 / squares if squares else 1.0
        outcomes = sum(count * part.outcomes for count, part in self._parts())
        return variance * (1 - 1 / outcomes) * (_student(units) / _student(max(1, outcomes - 1))) ** 2

    def _between(self, stratum: Counter[Unit], means: Mapping[str, float]) -> float:
        """The share of one stratum in the variance of the mean, around these means of its subsets."""

        def deviation(part: UnitPart) -> float:
            return self._share[part.subset] * (part.total - means[part.subset] * part.examples)

        squares = (count * math.fsum(map(deviation, unit)) ** 2 for unit, count in stratum.items())
        return math.fsum(squares) * stratum.total() / max(1, stratum.total() - 1)

    def _unseen(self, stratum: Counter[Unit]) -> float:
        """The share of a stratum whose units are all equal: as if two more had been drawn, one of which differs (Laplace).

        It is at most the share that the whole mean suggests: most strata of a good judge are all right.
        """
        units = stratum.total()
        differing = 1 / (units + 2)
        variance = min(differing * (1 - differing), self.mean * (1 - self.mean))
        return math.fsum(count * self._weight(unit) for unit, count in stratum.items()) ** 2 * variance / units

    def _differing_units(self) -> int:
        """The number of units with a right outcome, or of those with a wrong one, whichever is smaller."""
        right = sum(count for unit, count in self._units.items() if any(part.total > 0 for part in unit))
        wrong = sum(count for unit, count in self._units.items() if any(part.total < part.examples for part in unit))
        return min(right, wrong)

    def _weight(self, unit: Unit) -> float:
        return math.fsum(self._share[part.subset] * part.examples for part in unit)

    def _parts(self) -> Iterator[tuple[int, UnitPart]]:
        return ((count, part) for unit, count in self._units.items() for part in unit)


def _strata(units: Counter[Unit]) -> Iterator[Counter[Unit]]:
    """The units, split so that two strata share no subset, neither directly nor through other subsets."""
    joined: dict[str, frozenset[str]] = {}
    for names in {frozenset(part.subset for part in unit) for unit in units}:
        whole = names.union(*(joined.get(name, names) for name in names))
        joined |= dict.fromkeys(whole, whole)
    strata: dict[str, Counter[Unit]] = {}
    for unit, count in units.items():
        strata.setdefault(min(joined[unit[0].subset]), Counter())[unit] = count
    return (strata[first] for first in sorted(strata))


def _clopper_pearson(mean: float, outcomes: float) -> Interval:
    """The exact binomial interval; the number of outcomes need not be whole."""
    from scipy.special import betaincinv  # Takes 0.1 s to import, which other commands need not wait for.

    right = mean * outcomes
    wrong = outcomes - right
    low = 0.0 if mean <= 0 else float(betaincinv(right, wrong + 1, 1 - _BELOW_HIGH_END))
    high = 1.0 if mean >= 1 else float(betaincinv(right + 1, wrong, _BELOW_HIGH_END))
    return low, high


def _student(degrees: float) -> float:
    """The end of Student's 95% interval in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, _BELOW_HIGH_END))
