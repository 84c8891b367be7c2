"""`stj compare`: two judges on the same examples, the difference and how sure it is.

The interval is a paired bootstrap over examples of the difference in accuracy (mean of the orders). McNemar's test takes an
example as right where it was judged right in all orders (in most samples), and is exact: under no difference, each example
on which the judges disagree is a fair coin. Examples that hang together are drawn together, and are one coin: it falls for the
judge that has more of them right. An example with several votes on it (MT-Bench) counts once, with their mean.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple

from stj.errors import ArtifactError
from stj.evals.benchmarks.evaluation import judged_rows, read_evaluation
from stj.evals.benchmarks.places import BenchmarkRef, named
from stj.evals.metrics import Interval, Outcome, clustered_ci95
from stj.evals.table import percent
from stj.rows import Row, row_from_dict
from stj.storage.artifacts import Artifact
from stj.text import Column, Table


@dataclass(frozen=True, kw_only=True)
class EvalComparison:
    """Two judges, A and B, on the examples of one benchmark that both judged."""

    benchmark: str
    examples: int
    units: int
    """Independent ones: RM-Bench's items, MT-Bench's questions, else the examples themselves."""
    accuracy_a: float
    accuracy_b: float
    difference: float
    """B minus A."""
    ci95: Interval
    only_a: int
    """Units that A alone judged right in all orders, or of which it has more examples right."""
    only_b: int
    mcnemar_p: float


class _Run(NamedTuple):
    """One evaluation."""

    location: str
    artifact: Artifact
    benchmarks: Mapping[str, BenchmarkRef]
    votes: bool


class _Example(NamedTuple):
    """How one judge did on one example, over the votes on it."""

    accuracy: float
    right: bool
    unit: str


def compare_evaluations(run_a: str, run_b: str) -> list[EvalComparison]:
    """The comparison on each benchmark that both runs of `stj eval` judged, by the strict parser.

    Raises ArtifactError where a run is no finished evaluation, they have no examples in common, or what they have in common
    under one id are different examples.
    """
    first, second = (_read(location) for location in (run_a, run_b))
    names = sorted(first.benchmarks.keys() & second.benchmarks.keys())
    found = [one for one in (_on(first.benchmarks[name], first, second) for name in names) if one.examples]
    if not found:
        raise ArtifactError(f"{run_a} and {run_b} have no judged examples in common; evaluate both on the same benchmark")
    return found


def comparisons_json(comparisons: Sequence[EvalComparison]) -> list[dict[str, Any]]:
    """The comparisons as JSON values."""
    return [asdict(comparison) for comparison in comparisons]


def comparisons_table(comparisons: Sequence[EvalComparison]) -> Table:
    """A row for each benchmark, in percent; in plain text, a sentence each."""
    columns = (
        *(Column("", "benchmark"), Column("accuracy", "A"), Column("", "B"), Column("difference, points", "B - A [95%]")),
        *(Column("", "examples"), Column("", "independent"), Column("right in all", "only A"), Column("orders", "only B")),
        Column("McNemar's", "exact p"),
    )
    rows = [
        [
            *(compared.benchmark, percent(compared.accuracy_a), percent(compared.accuracy_b), _difference(compared)),
            *(f"{compared.examples:,}", f"{compared.units:,}", f"{compared.only_a}", f"{compared.only_b}"),
            f"{compared.mcnemar_p:.3g}",
        ]
        for compared in comparisons
    ]
    return Table(columns=columns, rows=rows, plain=[_sentence(compared) for compared in comparisons])


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Two-sided exact p: twice the tail of a fair binomial, at most 1."""
    flips = only_a + only_b
    tail = sum(math.comb(flips, count) for count in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / (1 << flips)))


def _difference(compared: EvalComparison) -> str:
    low, high = compared.ci95
    return f"{100 * compared.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _sentence(compared: EvalComparison) -> str:
    accuracies = f"{percent(compared.accuracy_a)} -> {percent(compared.accuracy_b)}"
    return (
        f"{compared.benchmark}: {accuracies}, difference {_difference(compared)} points on {_counted(compared)}, "
        f"McNemar's exact p = {compared.mcnemar_p:.3g}"
    )


def _counted(compared: EvalComparison) -> str:
    only_a, only_b = compared.only_a, compared.only_b
    if compared.units == compared.examples:
        return f"{compared.examples:,} examples; right in all orders only in A {only_a}, only in B {only_b}"
    units = f"{compared.examples:,} examples, {compared.units:,} of them independent"
    return f"{units}; more right in all orders in A {only_a}, in B {only_b}"


def _on(benchmark: BenchmarkRef, first: _Run, second: _Run) -> EvalComparison:
    """The comparison on one benchmark; both are scored against the records that the first names."""
    _refuse_others(benchmark, first, second)
    one, two = (_examples(run, benchmark) for run in (first, second))
    shared = sorted(one.keys() & two.keys())
    units: dict[str, list[tuple[_Example, _Example]]] = {}
    for key in shared:
        units.setdefault(one[key].unit, []).append((one[key], two[key]))
    more = [sum(a.right for a, _ in unit) - sum(b.right for _, b in unit) for unit in units.values()]
    only_a, only_b = sum(count > 0 for count in more), sum(count < 0 for count in more)
    differences = [[b.accuracy - a.accuracy for a, b in unit] for unit in units.values()]
    count = max(1, len(shared))
    return EvalComparison(
        benchmark=benchmark.name,
        examples=len(shared),
        units=len(units),
        accuracy_a=math.fsum(one[key].accuracy for key in shared) / count,
        accuracy_b=math.fsum(two[key].accuracy for key in shared) / count,
        difference=math.fsum(math.fsum(own) for own in differences) / count,
        ci95=clustered_ci95(differences) if shared else (0.0, 0.0),
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=mcnemar_p(only_a, only_b),
    )


def _read(location: str) -> _Run:
    artifact, facts = read_evaluation(location)
    refused = [name for name, scores in facts["scores"].items() if "error" in scores]
    benchmarks = {one.name: one for one in map(named, facts["benchmarks"]) if one.name not in refused}
    return _Run(location, artifact, benchmarks, votes=facts["votes"] > 1)


def _rows(run: _Run, benchmark: BenchmarkRef) -> Iterator[Row]:
    return (row for row in map(row_from_dict, run.artifact.records()) if row.task == benchmark.name)


def _refuse_others(benchmark: BenchmarkRef, first: _Run, second: _Run) -> None:
    """Raises ArtifactError where an example of both runs is not the same: files number their rows alike."""
    shown = {row.id: _digest(row) for row in _rows(first, benchmark)}
    for row in _rows(second, benchmark):
        if shown.get(row.id, digest := _digest(row)) != digest:
            raise ArtifactError(
                f"{benchmark.name}: {row.id} has another instruction or other answers in {second.location} than in "
                f"{first.location}; compare evaluations of the same examples"
            )


def _digest(row: Row) -> bytes:
    shown = [row.instruction, asdict(row.pair) if row.pair else None, asdict(row.candidates) if row.candidates else None]
    return hashlib.blake2b(json.dumps(shown).encode(), digest_size=16).digest()


def _examples(run: _Run, named: BenchmarkRef) -> dict[str, _Example]:
    """What became of each example, of MT-Bench in the setting that is its overall score."""
    benchmark = named.benchmark
    outcomes: dict[tuple[str, str | None], list[Outcome]] = {}
    judged = (one for one in judged_rows(_rows(run, named), benchmark, "strict", votes=run.votes) if not one.unjudged)
    for one in benchmark.score(benchmark, judged, named.found()):
        if one.outcome is not None and one.subset.startswith(benchmark.compared):
            outcomes.setdefault((f"{one.subset}/{one.id}", one.cluster), []).append(one.outcome)
    return {key: _together(votes, cluster or key) for (key, cluster), votes in outcomes.items()}


def _together(votes: Sequence[Outcome], unit: str) -> _Example:
    accuracy, right = (fmean(values) for values in zip(*((one.accuracy, one.consistent) for one in votes), strict=True))
    return _Example(accuracy=accuracy, right=right > 0.5, unit=unit)
