"""The training data that each judge made: how much there is of it, where it comes from, and what it looks like."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stj.evals.table import percent
from stj.loop.counts import GradingCounts, by_score
from stj.loop.dashboard import CategoryYield, Dashboard
from stj.loop.mixing import SourceCounts
from stj.loop.report.cells import Cell, table_of, without_repeats
from stj.loop.report.iteration import IterationReport, training_sets
from stj.loop.report.judge_tables import JUDGE
from stj.loop.report.words import NONE, length_words, number
from stj.text import Column, Table
from stj.verdict import PARSERS

_Judges = Sequence[IterationReport]


def trained_by(iterations: _Judges) -> list[IterationReport]:
    """The judges that made training data."""
    return [iteration for iteration in iterations if iteration.pairs is not None]


def _share(value: float | None) -> str:
    return NONE if value is None else f"{percent(value)}%"


_DATA = (
    JUDGE,
    Cell[IterationReport](
        Column("instr.", "in", "training data for the next judge"), lambda data: number(data.instructions_in)
    ),
    Cell[IterationReport](Column("", "selected", priority=1), lambda data: number(data.selected)),
    Cell[IterationReport](Column("", "pairs", word="pairs made"), lambda data: number(data.pairs)),
    Cell[IterationReport](Column("draws", "/ kept"), lambda data: number(data.draws_per_kept)),
    Cell[IterationReport](Column("", "accepted"), lambda data: _share(data.accepted)),
    Cell[IterationReport](Column("", "truncated"), lambda data: _share(data.truncated), page_only=True),
    Cell[IterationReport](
        Column("kept", "A / B", priority=2),
        lambda data: f"{data.label_a}/{data.label_b}" if data.label_a or data.label_b else NONE,
    ),
    Cell[IterationReport](Column("training", "examples"), lambda data: number(data.examples)),
    Cell[IterationReport](Column("rows", "failed", priority=3), lambda data: number(data.failed)),
)


def data_table(iterations: _Judges, *, page: bool = False) -> Table:
    """From the instructions to the training examples, a row for each judge that made any."""
    return table_of(_DATA, trained_by(iterations), page=page)


def _of_grading(write: Callable[[GradingCounts], str]) -> Callable[[IterationReport], str]:
    return lambda data: NONE if data.grading is None else write(data.grading)


_GRADED = (
    JUDGE,
    Cell(
        Column("pairs", "graded", "grades of the training pairs for the next judge"),
        _of_grading(lambda counts: number(counts.graded)),
    ),
    Cell(Column("samples", "/ kept"), _of_grading(lambda counts: number(counts.draws_per_kept))),
    Cell(Column("", "accepted"), _of_grading(lambda counts: _share(counts.accepted))),
    Cell(Column("grades kept", "by score"), _of_grading(lambda counts: by_score(counts.scores) or NONE), page_only=True),
    Cell(Column("grades learned", "by score", priority=1), _of_grading(lambda counts: by_score(counts.learned) or NONE)),
    Cell(
        Column("no", "score, %", word="no score"),
        _of_grading(lambda counts: percent(counts.unparsed / (2 * counts.draws) if counts.draws else None)),
    ),
    Cell(Column("", "dropped"), _of_grading(lambda counts: counted(counts.dropped) or NONE), page_only=True),
)


def graded_table(iterations: _Judges, *, page: bool = False) -> Table:
    """The grades of the training pairs, if the run grades."""
    return table_of(_GRADED, [data for data in trained_by(iterations) if data.grading], page=page)


class _Source(NamedTuple):
    judge: str
    title: str
    counts: SourceCounts
    learned: int
    """Examples of all sources."""


_SOURCES = (
    Cell[_Source](Column("", "judge"), lambda row: row.judge),
    Cell[_Source](Column("", "source"), lambda row: row.title),
    Cell[_Source](
        Column("", "labelled by", "pairs for the next judge by source"), lambda row: row.counts.labelled_by.replace("_", " ")
    ),
    Cell[_Source](Column("", "weight", priority=1), lambda row: f"{row.counts.weight:g}"),
    Cell[_Source](Column("pairs", "judged", priority=2), lambda row: number(row.counts.judged)),
    Cell[_Source](Column("can be", "learned", priority=3), lambda row: number(row.counts.kept)),
    Cell[_Source](Column("training", "examples"), lambda row: number(row.counts.learned)),
    Cell[_Source](Column("share", "%"), lambda row: percent(row.counts.learned / row.learned if row.learned else None)),
)


def sources_table(iterations: _Judges) -> Table:
    """A row for each judge and source of pairs, if the run names its sources."""
    rows = []
    for data in trained_by(iterations):
        sources = data.sources or {}
        learned = sum(counts.learned for counts in sources.values())
        rows += [_Source(data.judge, title, counts, learned) for title, counts in sources.items()]
    return without_repeats(table_of(_SOURCES, rows, keys=2))


def _of_dashboard(write: Callable[[Dashboard], str]) -> Callable[[IterationReport], str]:
    return lambda data: NONE if data.dashboard is None else write(data.dashboard)


_DASHBOARD = (
    JUDGE,
    Cell(
        Column("verdicts", "A, %", "judgments of the training pairs"),
        _of_dashboard(lambda dashboard: percent(dashboard.verdict_a)),
    ),
    Cell(Column("kept", "A, %", word="kept A"), _of_dashboard(lambda dashboard: percent(dashboard.kept_a)), page_only=True),
    Cell(Column("no", "verdict, %"), _of_dashboard(lambda dashboard: percent(dashboard.unparsed))),
    Cell(Column("tokens of a", "judgment"), _of_dashboard(lambda dashboard: length_words(dashboard.judgment_tokens))),
    Cell(
        Column("tokens of a", "kept one"),
        _of_dashboard(lambda dashboard: length_words(dashboard.kept_tokens)),
        page_only=True,
    ),
    Cell(
        Column("characters of", "better answer", priority=1),
        _of_dashboard(lambda dashboard: length_words(dashboard.chosen_characters)),
    ),
    Cell(
        Column("characters of", "worse answer", priority=1),
        _of_dashboard(lambda dashboard: length_words(dashboard.rejected_characters)),
    ),
    Cell(Column("better one", "longer, %"), _of_dashboard(lambda dashboard: percent(dashboard.longest)), page_only=True),
)


def dashboard_table(iterations: _Judges, *, page: bool = False) -> Table:
    """What the judgments of the training pairs look like."""
    return table_of(_DASHBOARD, [data for data in trained_by(iterations) if data.dashboard], page=page)


def categories_table(iterations: _Judges) -> Table:
    """The share of pairs accepted, by the category of their instruction: a column for each judge."""
    watched = [(data.judge, data.dashboard.by_category) for data in iterations if data.dashboard]
    names = dict.fromkeys(name for _, by_category in watched for name in by_category)
    rows = [[name, *(_accepted(by_category.get(name)) for _, by_category in watched)] for name in names]
    heads = [Column("accepted, %", judge, word="accepted") for judge, _ in watched]
    return Table(columns=[Column("", "category", word="category of an instruction"), *heads], rows=rows)


def parsers_table(iterations: _Judges) -> Table:
    """Of how many pairs each parser would keep a judgment: a column for each parser."""
    rows = [
        [f"for {judge}", data.parser or NONE, *(number((data.kept_by_parser or {}).get(parser)) for parser in PARSERS)]
        for judge, data in training_sets(iterations)
        if data.kept_by_parser != {}  # nothing was compared: the judge only grades
    ]
    columns = [Column("", "data", word="training data"), Column("decided", "by")]
    return Table(columns=[*columns, *(Column("", parser, word="parser") for parser in PARSERS)], rows=rows)


def dropped_table(iterations: _Judges) -> Table:
    """Dropped rows by reason, with their share of the instructions: a column for each set of training data."""
    sets = training_sets(iterations)
    total = Counter[str]()
    for _, data in sets:
        total.update(data.dropped or {})
    rows = [[reason, *(_dropped(reason, data) for _, data in sets)] for reason, _ in total.most_common()]
    return Table(
        columns=[Column("", "reason"), *(Column("rows for", judge, word="dropped rows") for judge, _ in sets)], rows=rows
    )


def counted(counts: dict[str, int]) -> str:
    """Counts by name in words; empty without any."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _accepted(part: CategoryYield | None) -> str:
    return NONE if part is None else f"{percent(part.accepted)} (of {part.judged:,})"


def _dropped(reason: str, data: IterationReport) -> str:
    if data.dropped is None:
        return NONE
    count = data.dropped.get(reason, 0)
    return f"{count:,} ({percent(count / data.instructions_in)}%)" if data.instructions_in else f"{count:,}"
