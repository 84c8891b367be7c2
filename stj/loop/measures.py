"""How a run measures its judges: M_k on each benchmark, and against the judges before it on the same examples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stj.errors import StjError
from stj.evals.attack_card import AttackCard
from stj.evals.compare import ExampleResult, compare_examples
from stj.evals.intervals import Interval
from stj.evals.metrics import Scores
from stj.loop.benchmarks import BenchmarkPhase, unread_notes

HELDOUT_PAIRS = "held-out pairs"
_Results = Mapping[str, ExampleResult]


@dataclass(frozen=True, kw_only=True)
class JudgeComparison:
    """A judge of a run (B) and an earlier one (A) on the same examples, as `stj compare` compares them."""

    against: str
    """The earlier judge: "M_0", or the one before."""
    examples: int
    units: int
    """Number of independent units: the examples, or clusters of them."""
    difference: float
    """B minus A, in accuracy."""
    ci95: Interval
    """Ends of the 95% interval of the difference, over units."""
    only_a: int
    """Units that the earlier judge alone judged right in all orders, or more of them."""
    only_b: int
    """The same for this judge."""
    mcnemar_p: float
    conclusion: str
    """What the interval says: which judge is better, that they are nearly equal, or that the examples are too few."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """One judge on one benchmark."""

    judged: int = 0
    """Judged examples."""
    unjudged: int = 0
    """Examples that were not judged, or cannot be scored."""
    scores: Scores | None = None
    """The overall scores, by the parser of the run; None if a section was not judged, or if nothing can be scored."""
    attacks: AttackCard | None = None
    """What each attack does to the judge, if the benchmark is an attack card."""
    error: str | None = None
    """Why nothing can be scored."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the scores: judgments without a verdict, and what the benchmark's own code does otherwise."""
    comparisons: tuple[JudgeComparison, ...] = ()
    """Against the judge before and against M_0."""


@dataclass(kw_only=True)
class JudgeComparisons:
    """Compares each judge with the one before it and with M_0; the judges come in their order.

    Results are kept for two judges: M_0 and the latest. An example takes about 200 bytes of memory.
    """

    _first: dict[str, _Results] = field(default_factory=dict)
    _latest: dict[str, tuple[int, _Results]] = field(default_factory=dict)

    def add(self, judge: int, name: str, results: _Results) -> tuple[JudgeComparison, ...]:
        """The comparisons of M_k on the held-out pairs or a benchmark; only M_0 itself and unmeasured judges leave any out."""
        compared = tuple(self._compared(judge, name, results))
        if judge == 0:
            self._first[name] = results
        self._latest[name] = judge, results
        return compared

    def _compared(self, judge: int, name: str, results: _Results) -> Iterator[JudgeComparison]:
        before, earlier = self._latest.get(name, (None, {}))
        if before is not None and before == judge - 1:
            yield from _comparison(judge, before, name, earlier, results)
        if judge > 1 and name in self._first:
            yield from _comparison(judge, 0, name, self._first[name], results)


def benchmark_reports(phases: Sequence[BenchmarkPhase], comparisons: JudgeComparisons) -> dict[str, BenchmarkReport]:
    """The report of each benchmark that a judge has judged, by its name."""
    done = [phase for phase in phases if phase.artifact.state()[0] == "done"]
    return {phase.ref.name: _report(phase, comparisons) for phase in done}


def _report(phase: BenchmarkPhase, comparisons: JudgeComparisons) -> BenchmarkReport:
    try:
        scores = phase.scores()
        compared = comparisons.add(phase.judge, phase.ref.name, phase.results())
    except StjError as error:  # The rest of the report is still written.
        return BenchmarkReport(error=str(error))
    return BenchmarkReport(
        judged=scores.judged,
        unjudged=sum(scores.unjudged.values()),
        scores=scores.groups.get("overall"),
        notes=(*unread_notes(scores.readings), *phase.notes()),
        attacks=scores.attacks,
        comparisons=compared,
    )


def _comparison(judge: int, earlier: int, name: str, by_a: _Results, by_b: _Results) -> Iterator[JudgeComparison]:
    compared = compare_examples(name, by_a, by_b)
    if compared.examples:
        better = {"A is better": f"M_{earlier} is better", "B is better": f"M_{judge} is better"}
        yield JudgeComparison(
            against=f"M_{earlier}",
            examples=compared.examples,
            units=compared.units,
            difference=compared.difference,
            ci95=compared.ci95,
            only_a=compared.only_a,
            only_b=compared.only_b,
            mcnemar_p=compared.mcnemar_p,
            conclusion=better.get(compared.conclusion, compared.conclusion),
        )
