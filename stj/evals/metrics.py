"""How good a judge is: accuracy in each order, position consistency, intervals, content-blind baselines.

Every pair is shown in both orders. The paper (Table 9) reports the mean of "winner first" and "winner last", not one random
order. Position-consistent accuracy (Table 3) stands beside it: right in both orders. Four answers are shown in four orders.

An `ExampleOutcome` holds the result of one example, a few shares. The outcomes of a subset are counted, not kept: a million
recorded judgments take no more memory than a thousand. Dependent examples form a cluster: RM-Bench's nine comparisons of an
item, MT-Bench's votes on a question. Only clusters are independent, so intervals are over clusters.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from stj.evals.intervals import Interval, Unit, UnitPart, joined_part, weighted_ci95
from stj.rows import TIED_HALF, Pair
from stj.verdict import TIE, Label, Verdict

_LABELS: tuple[Label, ...] = ("A", "B", "C", "D")
_ORDERS = tuple(f"shown as {label}" for label in _LABELS)
_STATS = (
    *("accuracy", "position_consistent", "agreement", "unparsed"),
    *(*_ORDERS, "always_a", "longest", "shortest"),
)

VerdictsByOrder = Mapping[Label, Sequence[Verdict | None]]
"""The verdicts on one example, by the label under which its better answer was shown: one verdict for each sample."""
SubsetWeights = Mapping[str, float]
"""How much each subset counts in a group of subsets; any scale."""
Groups = Callable[[Mapping[str, int]], dict[str, SubsetWeights]]
"""Makes the groups (sections, and "overall") from the sizes of the subsets."""


class ExampleOutcome(NamedTuple):
    """The outcome of one example, as shares over its samples."""

    orders: tuple[Label, ...]
    """Labels under which the better answer was shown; empty if they are not known, or if the judge rated each answer alone."""
    right: tuple[float, ...]
    """Share of right verdicts under each of these labels; a single share without orders."""
    consistent: float | None
    """Share that is right in all orders; None if the orders are not known."""
    agreed: float | None
    """Share that prefers the same answer in all orders, right or wrong; no preference is not agreement. None if the orders are
    not known."""
    unparsed: float
    """Share of judgments without a verdict."""
    judgments: int
    """Number of judgments behind it."""
    official: float
    """Its score by the benchmark's own rule."""
    always_a: float | None
    """Score of a judge that always says A; None without orders."""
    longest: float | None
    """Score of picking the longest answer: ties share; None if the answers are unknown."""
    shortest: float | None
    """Score of picking the shortest answer; ties share; None if the answers are unknown."""

    @property
    def accuracy(self) -> float:
        """Mean of the orders."""
        return math.fsum(self.right) / len(self.right)

    @property
    def solved(self) -> float:
        """Share that is right in all orders that are known."""
        return self.accuracy if self.consistent is None else self.consistent


Tally = Counter[ExampleOutcome]
"""The outcomes of a subset, counted: few are distinct."""
Official = Callable[[VerdictsByOrder], float]
"""A benchmark's own score of an example."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A judge's scores on a subset or a group of subsets. Each is a share from 0 to 1; a missing verdict counts as wrong."""

    examples: int
    accuracy: float
    """Mean of the orders."""
    ci95: Interval
    """Ends of its 95% interval over examples, or over clusters of them, stratified by subset."""
    by_order: tuple[float | None, ...]
    """Accuracy with the better answer shown as A, as B, ...; None for an order without judgments, empty if subsets differ."""
    position_consistent: float | None
    """Share judged right in all orders; None if the orders of some examples are not known, or only one was judged."""
    agreement: float | None
    """Share in which all orders prefer the same answer; None if the orders of some are not known, or only one was judged."""
    unparsed: float
    """Share of the judgments without a verdict."""
    official: float
    """Score by the benchmark's own rule; an unjudged example counts as judged without a verdict."""
    always_a: float | None
    """Score of a judge that always says A, on the same judgments; None if answers were rated, or if orders are not known."""
    longest: float | None
    """Score of picking the answer with more characters; equal lengths share. None if the answers are unknown."""
    shortest: float | None
    """Score of picking the answer with fewer characters; equal lengths share. None if the answers are unknown."""


def example_outcome(
    verdicts: VerdictsByOrder,
    sizes: Sequence[int] | None,
    official: Official | None = None,
    *,
    orders_known: bool = True,
    tied: str | None = None,
) -> ExampleOutcome:
    """The outcome of an example; `sizes` are the lengths of its answers in characters, the better one first.

    If the orders are not known, the verdicts are those of all orders together, under the label of the better answer. `tied`
    says that people call the example a tie: under TIED a sample is right if it calls a tie in all orders, or another answer
    better in each; under TIED_HALF each verdict counts one half.
    """
    longest = None if sizes is None else pick_score(sizes, max(sizes))
    shortest = None if sizes is None else pick_score(sizes, min(sizes))
    outcome = _outcome(tuple((order, tuple(verdicts[order])) for order in sorted(verdicts)), longest, shortest, official)
    outcome = _tied(outcome, verdicts, half=tied == TIED_HALF) if tied else outcome
    return outcome if orders_known else outcome._replace(orders=(), consistent=None, agreed=None, always_a=None)


@lru_cache(maxsize=4096)
def _outcome(
    verdicts: tuple[tuple[Label, tuple[Verdict | None, ...]], ...],
    longest: float | None,
    shortest: float | None,
    official: Official | None,
) -> ExampleOutcome:
    """The outcome, cached: few are distinct, and a file of recorded judgments needs each of them many times."""
    orders = [order for order, _ in verdicts]
    samples = list(zip(*(in_order for _, in_order in verdicts), strict=True))
    hits = [[verdict == order for verdict, order in zip(sample, orders, strict=True)] for sample in samples]
    right = tuple(_mean([sample[place] for sample in hits]) for place in range(len(orders)))
    agreed = [all(sample_hits) or _same_answer(orders, sample) for sample_hits, sample in zip(hits, samples, strict=True)]
    return ExampleOutcome(
        orders=tuple(orders),
        right=right,
        consistent=_mean([all(sample) for sample in hits]),
        agreed=_mean(agreed),
        unparsed=_mean([verdict is None for sample in samples for verdict in sample]),
        judgments=len(orders) * len(samples),
        official=_mean(right) if official is None else official(dict(verdicts)),
        always_a=_mean([order == "A" for order in orders]),
        longest=longest,
        shortest=shortest,
    )


def _tied(outcome: ExampleOutcome, verdicts: VerdictsByOrder, *, half: bool) -> ExampleOutcome:
    """The outcome of an example without a better answer; a missing verdict counts as wrong here too."""
    orders = sorted(verdicts)
    if half:
        right = tuple(0.5 * _mean([verdict is not None for verdict in verdicts[order]]) for order in orders)
        whole, baseline = _mean(right), 0.5
    else:
        samples = zip(*(verdicts[order] for order in orders), strict=True)
        whole, baseline = _mean([_calls_tie(orders, sample) for sample in samples]), 0.0
        right = (whole,) * len(orders)
    always_a = 0.5 if half else 1.0  # In two orders A is another answer each time.
    longest, shortest = (None if score is None else baseline for score in (outcome.longest, outcome.shortest))
    return outcome._replace(
        right=right, consistent=whole, official=whole, always_a=always_a, longest=longest, shortest=shortest
    )


def _calls_tie(orders: Sequence[Label], verdicts: Sequence[Verdict | None]) -> bool:
    """Whether a sample calls a tie in all orders, or prefers another answer in each: the same label wherever it is shown."""
    return None not in verdicts and (set(verdicts) == {TIE} or (len(orders) > 1 and len(set(verdicts)) == 1))


def lengths(pair: Pair) -> tuple[int, int]:
    """Characters of the better and of the worse answer."""
    return len(pair.chosen), len(pair.rejected)


def pick_score(values: Sequence[float], wanted: float) -> float:
    """The score of picking the answers with the wanted value if the first is right: k answers that share it get 1/k."""
    return 1 / values.count(wanted) if values[0] == wanted else 0.0


class Tallies:
    """The outcomes of the judged examples by subset, and the clusters that they form."""

    def __init__(self) -> None:
        self.subsets: dict[str, Tally] = {}
        self._unjudged: dict[str, Tally] = {}
        self._alone: Counter[UnitPart] = Counter()
        self._clusters: dict[Hashable, dict[str, list[UnitPart]]] = {}

    def add(self, subset: str, outcome: ExampleOutcome, cluster: Hashable | None = None) -> None:
        """Counts an outcome; outcomes of the same cluster are dependent."""
        self.subsets.setdefault(subset, Tally())[outcome] += 1
        part = UnitPart(subset, outcome.accuracy, 1, outcome.judgments)
        if cluster is None:
            self._alone[part] += 1
        else:
            self._clusters.setdefault(cluster, {}).setdefault(subset, []).append(part)

    def add_unjudged(self, subset: str, outcome: ExampleOutcome) -> None:
        """Counts an unjudged example, only in the official score."""
        self._unjudged.setdefault(subset, Tally())[outcome] += 1

    def official(self) -> dict[str, Tally]:
        """The outcomes that the official score counts, including those of unjudged examples."""
        names = sorted(self.subsets.keys() | self._unjudged.keys())
        return {name: self.subsets.get(name, Tally()) + self._unjudged.get(name, Tally()) for name in names}

    def units(self) -> Counter[Unit]:
        """The independent units, counted: few are distinct."""
        units: Counter[Unit] = Counter({(part,): count for part, count in self._alone.items()})
        units.update(tuple(joined_part(parts[subset]) for subset in sorted(parts)) for parts in self._clusters.values())
        return units


def score_tallies(tallies: Tallies, groups: Groups) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """The scores of each subset, and of each group of subsets."""
    sizes = {name: tallies.subsets[name].total() for name in sorted(tallies.subsets)}
    numbers = {name: _numbers(tally) for name, tally in tallies.subsets.items()}
    official = {name: _mean_of(tally, lambda outcome: outcome.official) for name, tally in tallies.official().items()}
    officially = groups({name: tally.total() for name, tally in tallies.official().items()})
    units = tallies.units()

    def of(weights: SubsetWeights, whole: SubsetWeights) -> Scores:
        members = {name: weight for name, weight in weights.items() if name in sizes}
        known = [stat for stat in _STATS if all(stat in numbers[name] for name in members)]
        means = {stat: weighted({name: numbers[name][stat] for name in members}, members) for stat in known}
        means["official"] = weighted(official, {name: weight for name, weight in whole.items() if name in official})
        return _scores(means, weighted_ci95(units, members), sum(sizes[name] for name in members))

    subsets = {name: of({name: 1}, {name: 1}) for name in sizes}
    return subsets, {group: of(weights, officially.get(group, weights)) for group, weights in groups(sizes).items()}


def weighted(values: Mapping[str, float], weights: SubsetWeights) -> float:
    """The weighted mean of the values that have a weight."""
    total = math.fsum(weights.values())
    return sum(values[name] * (weight / total) for name, weight in weights.items())


def evenly(groups: Iterable[SubsetWeights]) -> SubsetWeights:
    """A group in which each of these groups counts the same."""
    return {name: weight / math.fsum(group.values()) for group in groups for name, weight in group.items()}


def overall_only(sizes: Mapping[str, int]) -> dict[str, SubsetWeights]:
    """The groups of a benchmark without sections: every example counts the same."""
    return {"overall": sizes}


def _same_answer(orders: Sequence[Label], verdicts: Sequence[Verdict | None]) -> bool:
    """Whether both orders of a pair prefer the worse answer, or both call it a tie."""
    return len(orders) == 2 and (tuple(verdicts) == tuple(reversed(orders)) or set(verdicts) == {TIE})


def _numbers(tally: Tally) -> dict[str, float]:
    """The numbers of a subset that are linear in its examples; unknown numbers are left out."""
    numbers = {
        "accuracy": _mean_of(tally, lambda outcome: outcome.accuracy),
        "unparsed": _mean_of(tally, lambda outcome: outcome.unparsed),
    }
    if all(len(outcome.orders) != 1 and outcome.consistent is not None for outcome in tally):
        numbers["position_consistent"] = _mean_of(tally, lambda outcome: outcome.consistent or 0.0)
        numbers["agreement"] = _mean_of(tally, lambda outcome: outcome.agreed or 0.0)
    for order, label in zip(_ORDERS, _LABELS, strict=True):
        if shown := Tally({outcome: count for outcome, count in tally.items() if label in outcome.orders}):
            numbers[order] = _mean_of(shown, _right_as(label))
    if all(outcome.always_a is not None for outcome in tally):
        numbers["always_a"] = _mean_of(tally, lambda outcome: outcome.always_a or 0.0)
    if all(outcome.longest is not None and outcome.shortest is not None for outcome in tally):
        numbers["longest"] = _mean_of(tally, lambda outcome: outcome.longest or 0.0)
        numbers["shortest"] = _mean_of(tally, lambda outcome: outcome.shortest or 0.0)
    return numbers


def _right_as(label: Label) -> Callable[[ExampleOutcome], float]:
    return lambda outcome: outcome.right[outcome.orders.index(label)]


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


def _mean_of(tally: Tally, value: Callable[[ExampleOutcome], float]) -> float:
    return math.fsum(value(outcome) * count for outcome, count in tally.items()) / tally.total()  # fsum: equal in any order


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
