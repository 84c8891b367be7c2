"""The scores of one judge on one benchmark, from what it said: one pass, in memory that does not grow with the examples."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import Benchmark, JudgedExample, SourceRecord
from stj.evals.benchmarks.places import BenchmarkRef
from stj.evals.benchmarks.recorded import judged, read_recorded
from stj.evals.metrics import Scores, Tallies, score
from stj.evals.table import scores_table
from stj.text import Table
from stj.verdict import Parser


@dataclass(frozen=True, kw_only=True)
class BenchmarkScores:
    """One judge on one benchmark, as one of the parsers reads it."""

    benchmark: str
    parser: Parser
    judged: int
    """Examples of which there are judgments."""
    unjudged: dict[str, int]
    """How many others there are, by reason."""
    groups: dict[str, Scores]
    """"overall" and the sections, as far as all their subsets were judged."""
    subsets: dict[str, Scores]


def score_judged(
    benchmark: Benchmark, parser: Parser, examples: Iterable[JudgedExample], found: Iterable[SourceRecord]
) -> BenchmarkScores:
    """The scores of what was said; `found` are the benchmark's own records, for those that need them.

    Raises SourceError where nothing can be scored.
    """
    counted = _Counted(examples)
    tallies = Tallies()
    for one in benchmark.score(benchmark, counted, found):
        if one.outcome is None:
            counted.unjudged[one.unjudged or "not judged"] += 1
        elif one.unjudged:
            tallies.add_unjudged(one.subset, one.outcome)
        else:
            tallies.add(one.subset, one.outcome, one.cluster)
    if not tallies.subsets:
        raise SourceError(
            f"{benchmark.name}: none of {counted.judged} judged examples can be scored ({_unjudged(counted.unjudged)}); "
            "mtbench needs human votes on the same questions, models and turns, Ties both rows of a prompt"
        )
    subsets, groups = score(tallies, benchmark.groups)
    return BenchmarkScores(
        benchmark=benchmark.name,
        parser=parser,
        judged=counted.judged,
        unjudged=dict(sorted(counted.unjudged.items())),
        groups=groups,
        subsets=subsets,
    )


def score_recorded(file: str, named: BenchmarkRef, parser: Parser) -> BenchmarkScores:
    """The scores of a file of recorded judgments. Raises SourceError for a file that cannot be read."""
    benchmark = named.benchmark
    found = named.found() if named.place else ()
    return score_judged(benchmark, parser, judged(read_recorded(file), benchmark, parser), found)


def scores_json(scores: BenchmarkScores) -> dict[str, Any]:
    """The scores by one parser as JSON values."""
    return {
        "judged": scores.judged,
        "unjudged": sum(scores.unjudged.values()),
        "unjudged_by_reason": scores.unjudged,
        "groups": {name: asdict(one) for name, one in scores.groups.items()},
        "subsets": {name: asdict(one) for name, one in scores.subsets.items()},
    }


def scores_tables(scores: Iterable[BenchmarkScores]) -> Iterator[str | Table]:
    """A table for each parser, and below it a line that counts the unjudged examples by reason."""
    for parsed in scores:
        yield scores_table(f"{parsed.benchmark}, {parsed.parser} parser", parsed.groups, parsed.subsets)
        yield f"{_unjudged(parsed.unjudged)}\n"


def _unjudged(reasons: Mapping[str, int]) -> str:
    shown = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
    return f"unjudged: {sum(reasons.values()):,}{f' ({shown})' if shown else ''}"


class _Counted:
    """Examples, counted as they go by; those of which nothing is there to score go no further."""

    def __init__(self, examples: Iterable[JudgedExample]) -> None:
        self._examples = examples
        self.judged = 0
        self.unjudged: Counter[str] = Counter()

    def __iter__(self) -> Iterator[JudgedExample]:
        for example in self._examples:
            if example.unjudged:
                self.unjudged[example.unjudged] += 1
            else:
                self.judged += 1
            if example.said or example.ratings:
                yield example
