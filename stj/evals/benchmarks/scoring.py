"""The scores of one judge on one benchmark: one pass over its verdicts, in memory that does not grow with the examples."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stj.errors import SourceError
from stj.evals.attack_card import AttackCard, CardBuilder, card_table
from stj.evals.benchmarks.base import Benchmark, JudgedExample, SourceRecord
from stj.evals.benchmarks.duels import Duel, DuelResult, Models, duels_json, duels_of, duels_table
from stj.evals.benchmarks.recorded import judged_records, read_recorded
from stj.evals.benchmarks.recorded_verdicts import ReadAs
from stj.evals.benchmarks.refs import BenchmarkRef
from stj.evals.benchmarks.unread import EVAL_REMEDY, Readings, Survey
from stj.evals.metrics import Scores, Tallies, score_tallies
from stj.evals.table import accuracy_line, scores_table
from stj.text import Table
from stj.verdict import Parser

_SHOWN = 5  # subsets that a line names


@dataclass(frozen=True, kw_only=True)
class BenchmarkScores:
    """One judge on one benchmark, as one of the parsers reads it."""

    benchmark: str
    parser: Parser
    part: str = ""
    """Which rows of the benchmark were read, as in "first 100 of 2,985"; empty if all were."""
    notes: tuple[str, ...] = ()
    """What else a reader must know to compare these scores with others."""
    judged: int
    """Number of judged examples."""
    unjudged: dict[str, int]
    """Number of other examples, by reason."""
    groups: dict[str, Scores]
    """"overall" and the sections, if all their subsets were judged."""
    subsets: dict[str, Scores]
    missing: dict[str, list[str]]
    """The groups that cannot be scored, each with its subsets that were not judged."""
    duels: tuple[Duel, ...]
    """Wins, losses and ties of each pair of models, if the benchmark compares models."""
    readings: Readings
    """How the judgments were read: how many hold no verdict, and which format these seem to be in."""
    attacks: AttackCard | None = None
    """What each attack does to the judge; None for other benchmarks."""

    def warning(self, remedy: str) -> str | None:
        """A line if too many judgments hold no verdict; `remedy` has a place for a format's name."""
        return self.readings.warning(self.benchmark, remedy)


def score_judged(
    benchmark: Benchmark, parser: Parser, examples: Iterable[JudgedExample], records: Iterable[SourceRecord]
) -> BenchmarkScores:
    """The scores of judged examples; `records` are the benchmark's own, for benchmarks that need them.

    Raises SourceError if no example can be scored.
    """
    counted = _Counted(examples, benchmark, parser)
    tallies, builder = Tallies(), CardBuilder() if benchmark.attacks else None
    for scored in benchmark.score(benchmark, builder.watch(counted) if builder else counted, records):
        if scored.outcome is None:
            counted.unjudged[scored.unjudged or "not judged"] += 1
        elif scored.unjudged:
            tallies.add_unjudged(scored.subset, scored.outcome)
        else:
            tallies.add(scored.subset, scored.outcome, scored.cluster)
    if not tallies.subsets:
        raise SourceError(
            f"{benchmark.name}: none of {counted.judged} judged examples can be scored ({_unjudged(counted.unjudged)}); "
            "mtbench needs human votes on the same questions, models and turns, Ties both rows of a prompt"
        )
    subsets, groups = score_tallies(tallies, benchmark.groups)
    return BenchmarkScores(
        benchmark=benchmark.name,
        parser=parser,
        judged=counted.judged,
        unjudged=dict(sorted(counted.unjudged.items())),
        groups=groups,
        subsets=subsets,
        missing=_missing(benchmark, tallies),
        duels=duels_of(counted.duels),
        readings=counted.survey.readings(),
        attacks=builder.card() if builder else None,
    )


def score_recorded(file: str, ref: BenchmarkRef, parser: Parser, read_as: ReadAs | None = None) -> BenchmarkScores:
    """The scores of a file of recorded judgments, read in the benchmark's own format if no other is given.

    Raises SourceError if the file cannot be read or scored.
    """
    benchmark = ref.benchmark
    records = ref.records() if ref.place else ()
    return score_judged(benchmark, parser, judged_records(read_recorded(file), benchmark, parser, read_as), records)


def scores_json(scores: BenchmarkScores, remedy: str = EVAL_REMEDY) -> dict[str, Any]:
    """The scores by one parser as JSON values, with a warning if many judgments hold no verdict."""
    warning = scores.warning(remedy)
    return {
        **({"warning": warning} if warning else {}),
        "judged": scores.judged,
        "unjudged": sum(scores.unjudged.values()),
        "unjudged_by_reason": scores.unjudged,
        **({"missing": scores.missing} if scores.missing else {}),
        "groups": {name: asdict(group) for name, group in scores.groups.items()},
        "subsets": {name: asdict(subset) for name, subset in scores.subsets.items()},
        **duels_json(scores.duels),
        **({"attacks": {name: asdict(result) for name, result in scores.attacks.items()}} if scores.attacks else {}),
    }


def scores_tables(scores: Iterable[BenchmarkScores], remedy: str = EVAL_REMEDY) -> Iterator[str | Table]:
    """A table for each parser, and below it a line that counts the unjudged examples by reason, and perhaps a warning.

    The last line says what an accuracy is.
    """
    parsed: BenchmarkScores | None = None
    for parsed in scores:
        part = f" ({parsed.part})" if parsed.part else ""
        title = f"{parsed.benchmark}{part}, {parsed.parser}"
        if parsed.attacks:
            yield card_table(title, parsed.attacks)
        else:
            yield scores_table(f"{title} parser", parsed.groups, parsed.subsets)
        yield from duels_table(parsed.duels)
        warning = parsed.warning(remedy)
        lines = [_unjudged(parsed.unjudged), *parsed.notes, *map(_absent, parsed.missing.items())]
        yield "\n".join([*lines, *([f"warning: {warning}"] if warning else []), ""])
    if parsed:
        yield f"{accuracy_line()}\n"


def _unjudged(reasons: Mapping[str, int]) -> str:
    shown = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
    return f"unjudged: {sum(reasons.values()):,}{f' ({shown})' if shown else ''}"


def _missing(benchmark: Benchmark, tallies: Tallies) -> dict[str, list[str]]:
    """The groups of all subsets that these subsets do not make, with those that they lack."""
    made = benchmark.groups({name: tally.total() for name, tally in tallies.subsets.items()})
    whole = benchmark.groups(dict.fromkeys(benchmark.subsets, 1)) if benchmark.subsets else {}
    lacking = {name: [part for part in weights if part not in tallies.subsets] for name, weights in whole.items()}
    return {name: parts for name, parts in lacking.items() if name not in made}


def _absent(group: tuple[str, Sequence[str]]) -> str:
    name, parts = group
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return f"no {name}: nothing was judged of {', '.join(parts[:_SHOWN])}{more}"


class _Counted:
    """Counts examples as they pass through, and drops those with nothing to score."""

    def __init__(self, examples: Iterable[JudgedExample], benchmark: Benchmark, parser: Parser) -> None:
        self._examples = examples
        self._duel = benchmark.duel
        self.duels: Counter[tuple[Models, DuelResult]] = Counter()
        self.survey = Survey(parser)
        self.judged = 0
        self.unjudged: Counter[str] = Counter()

    def __iter__(self) -> Iterator[JudgedExample]:
        for example in self._examples:
            self.survey.add(example.judgments, example.unread)
            if example.unjudged:
                self.unjudged[example.unjudged] += 1
            else:
                self.judged += 1
                if self._duel:
                    self.duels[self._duel(example)] += 1
            if example.verdicts or example.ratings:
                yield example
