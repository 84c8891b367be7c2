"""`stj compare`: two judges on the same examples, their difference and how certain it is.

The interval is of the paired difference in accuracy (mean of the orders), over independent units (evals/intervals.py).
McNemar's test counts an example as right if it was judged right in all orders (in most samples). The test is exact: without a
difference, each example on which the judges disagree is a fair coin. Dependent examples form a unit and count as one coin,
which goes to the judge that has more of them right. An example with several votes on it (MT-Bench) counts once, with the mean
of its votes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, NamedTuple

from stj.errors import SourceError
from stj.evals.benchmarks.base import JudgedExample
from stj.evals.benchmarks.evaluation import judged_examples
from stj.evals.benchmarks.refs import BenchmarkRef
from stj.evals.changed_rows import ChangedRows, changed_lines, changed_rows
from stj.evals.intervals import Interval, difference_ci95
from stj.evals.judged_runs import JudgedRun, read_run
from stj.evals.metrics import ExampleOutcome
from stj.evals.table import accuracy_line, percent, points
from stj.rows import Row
from stj.sources.ids import joined_id
from stj.text import Column, Table

_NEGLIGIBLE = 0.02
"""A difference in accuracy below this share is of little use: papers report gains of two points and more."""


@dataclass(frozen=True, kw_only=True)
class EvalComparison:
    """Two judges, A and B, on the examples of one benchmark that both judged."""

    benchmark: str
    examples: int
    units: int
    """Number of independent units: RM-Bench's items, MT-Bench's questions, else the examples themselves."""
    accuracy_a: float
    accuracy_b: float
    difference: float
    """B minus A."""
    ci95: Interval
    """Ends of the 95% interval of the difference, over units."""
    only_a: int
    """Units that A alone judged right in all orders. For a unit of several examples: A has more of them right than B."""
    only_b: int
    """The same for B."""
    mcnemar_p: float
    changed: ChangedRows = field(default_factory=ChangedRows)
    """The examples that only one of the judges judged right in all orders."""

    @property
    def conclusion(self) -> str:
        """What the interval says: which judge is better, that they are nearly equal, or that the examples are too few."""
        low, high = self.ci95
        if low > 0 or high < 0:
            return "B is better" if low > 0 else "A is better"
        if max(-low, high) < _NEGLIGIBLE:
            return f"no difference of {100 * _NEGLIGIBLE:.0f} points or more"
        return f"too few to tell: only a difference above {50 * (high - low):.1f} points would show"


class ExampleResult(NamedTuple):
    """One judge's result on one example, over the votes or samples on it."""

    accuracy: float
    """Mean of the orders."""
    right: bool
    """Whether it was judged right in all orders, in most samples."""
    unit: str
    """The independent unit that the example is a part of."""


def compare_evaluations(run_a: str, run_b: str) -> list[EvalComparison]:
    """The comparison on each benchmark that both runs judged: evaluations of `stj eval`, or files of results of `stj judge`.

    Raises NoArtifact if a run is neither a finished evaluation nor a file. Raises SourceError if the runs have no examples in
    common, if one id names different examples in the two runs, or if the runs read verdicts with different parsers.
    """
    first, second = (read_run(location) for location in (run_a, run_b))
    if first.parser and second.parser and first.parser != second.parser:
        raise SourceError(
            f"{run_a} was judged with judge.parser={first.parser}, {run_b} with judge.parser={second.parser}; "
            "evaluate both with the same parser"
        )
    names = sorted(first.benchmarks.keys() & second.benchmarks.keys())
    compared = [_compared_on(first.benchmarks[name], first, second) for name in names]
    comparisons = [comparison for comparison in compared if comparison.examples]
    if not comparisons:
        raise SourceError(
            f"{run_a} and {run_b} have no judged pairs in common; evaluate both on the same benchmark of "
            "pairs (grades are not compared)"
        )
    return comparisons


def comparisons_json(comparisons: Sequence[EvalComparison]) -> list[dict[str, Any]]:
    """The comparisons as JSON values."""
    return [asdict(comparison) | {"conclusion": comparison.conclusion} for comparison in comparisons]


def comparisons_table(comparisons: Sequence[EvalComparison]) -> Table:
    """A row for each benchmark, in percent; plain text has a sentence instead."""
    columns = (
        *(Column("", "benchmark"), Column("accuracy", "A"), Column("", "B", word="accuracy B")),
        *(Column("difference, points", "B - A [95%]"), Column("", "examples"), Column("", "independent", priority=3)),
        *(Column("right in all", "only A", priority=2), Column("orders", "only B", priority=2)),
        Column("McNemar's", "exact p", priority=1),
    )
    rows = [
        [
            *(compared.benchmark, percent(compared.accuracy_a), percent(compared.accuracy_b), _difference(compared)),
            *(f"{compared.examples:,}", f"{compared.units:,}", f"{compared.only_a}", f"{compared.only_b}"),
            f"{compared.mcnemar_p:.3g}",
        ]
        for compared in comparisons
    ]
    conclusions = [f"{compared.benchmark}: {compared.conclusion}" for compared in comparisons]
    note = "\n".join([*conclusions, accuracy_line()])
    return Table(
        columns=columns, rows=rows, plain=[line for compared in comparisons for line in _sentences(compared)], note=note
    )


def changes_lines(comparisons: Sequence[EvalComparison], limit: int) -> Iterator[str]:
    """The rows that changed, at most `limit` of each kind on each benchmark, for a reader."""
    for compared in comparisons:
        yield from changed_lines(compared.benchmark, compared.changed, limit)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided exact p: twice the tail of a fair binomial, at most 1."""
    flips = only_a + only_b
    tail = sum(math.comb(flips, count) for count in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / (1 << flips)))


def _difference(compared: EvalComparison) -> str:
    low, high = compared.ci95
    return f"{points(compared.difference)} [{points(low)}, {points(high)}]"


def _sentences(compared: EvalComparison) -> list[str]:
    """The comparison in lines of plain text; a log shows them without a scroll bar."""
    accuracies = f"{percent(compared.accuracy_a)} -> {percent(compared.accuracy_b)}"
    counted = f"{compared.examples:,} examples"
    only_a, only_b = compared.only_a, compared.only_b
    alone = f"right in all orders only in A {only_a}, only in B {only_b}"
    if compared.units != compared.examples:
        counted += f", {compared.units:,} of them independent"
        alone = f"more right in all orders in A {only_a}, in B {only_b}"
    return [
        f"{compared.benchmark}: {accuracies}, difference {_difference(compared)} points on {counted}",
        f"  {alone}; McNemar's exact p = {compared.mcnemar_p:.3g}",
    ]


def compare_examples(benchmark: str, by_a: Mapping[str, ExampleResult], by_b: Mapping[str, ExampleResult]) -> EvalComparison:
    """The comparison on the examples that both judges judged, by their ids."""
    shared = sorted(by_a.keys() & by_b.keys())
    units: dict[str, list[tuple[ExampleResult, ExampleResult]]] = {}
    for key in shared:
        units.setdefault(by_a[key].unit, []).append((by_a[key], by_b[key]))
    more = [sum(a.right for a, _ in unit) - sum(b.right for _, b in unit) for unit in units.values()]
    only_a, only_b = sum(count > 0 for count in more), sum(count < 0 for count in more)
    differences = [[b.accuracy - a.accuracy for a, b in unit] for unit in units.values()]
    count = max(1, len(shared))
    return EvalComparison(
        benchmark=benchmark,
        examples=len(shared),
        units=len(units),
        accuracy_a=math.fsum(by_a[key].accuracy for key in shared) / count,
        accuracy_b=math.fsum(by_b[key].accuracy for key in shared) / count,
        difference=math.fsum(math.fsum(unit) for unit in differences) / count,
        ci95=difference_ci95(differences) if shared else (0.0, 0.0),
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=mcnemar_p(only_a, only_b),
    )


def example_results(ref: BenchmarkRef, rows: Iterable[Row], *, votes: bool = False) -> dict[str, ExampleResult]:
    """A judge's result on each example, by the verdicts that its rows hold."""
    return results_on(ref, judged_examples(rows, ref.benchmark, None, votes=votes))


def results_on(ref: BenchmarkRef, examples: Iterable[JudgedExample]) -> dict[str, ExampleResult]:
    """A judge's result on each judged example; MT-Bench's in the setting of its overall score."""
    benchmark = ref.benchmark
    outcomes: dict[tuple[str, str], list[ExampleOutcome]] = {}
    judged = (example for example in examples if not example.unjudged)
    for scored in benchmark.score(benchmark, judged, ref.records()):
        if scored.outcome is not None and scored.subset.startswith(benchmark.compared):
            key = joined_id(scored.subset, *scored.id)
            outcomes.setdefault((key, joined_id(*(scored.cluster or (key,)))), []).append(scored.outcome)
    return {key: _mean_example(votes_on_it, unit) for (key, unit), votes_on_it in outcomes.items()}


def _compared_on(ref: BenchmarkRef, first: JudgedRun, second: JudgedRun) -> EvalComparison:
    """The comparison on one benchmark. Both runs are scored against the records that the first run names."""
    _refuse_others(ref, first, second)
    by_a, by_b = (results_on(ref, run.examples(ref)) for run in (first, second))
    compared = compare_examples(ref.name, by_a, by_b)
    right_a, right_b = ({key: example.right for key, example in examples.items()} for examples in (by_a, by_b))
    return replace(compared, changed=changed_rows(right_a, right_b, first.rows(ref)))


def _refuse_others(ref: BenchmarkRef, first: JudgedRun, second: JudgedRun) -> None:
    """Raises SourceError if an id names different examples in the two runs, since two files may number their rows alike.

    An evaluation and a file of results have nothing in common by which to check it.
    """
    if type(first) is not type(second):
        return
    shown = dict(first.shown(ref))
    for row_id, digest in second.shown(ref):
        if shown.get(row_id, digest) != digest:
            raise SourceError(
                f"{ref.name}: {row_id} has another instruction or other answers, or another winner, in {second.location} than "
                f"in {first.location}; compare judgments of the same examples"
            )


def _mean_example(votes: Sequence[ExampleOutcome], unit: str) -> ExampleResult:
    accuracy = fmean(outcome.accuracy for outcome in votes)
    right = fmean(outcome.solved for outcome in votes)
    return ExampleResult(accuracy=accuracy, right=right > 0.5, unit=unit)
