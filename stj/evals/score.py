"""`stj score`: scores of recorded judgments, or of a published table of subset accuracies. Needs no model and no Ray.

FILE holds rows as evals/benchmarks/recorded.py describes them. For rewardbench it may also be one object {subset: accuracy},
for mtbench FastChat's grades of single answers, and for grades it holds grades and labels (evals/benchmarks/grades.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stj.errors import ConfigError, SourceError
from stj.evals.benchmarks import fastchat_grades, grades, mtbench, rewardbench
from stj.evals.benchmarks.read_as import FORMAT_REMEDY, chosen_format, guessed_format, named_format
from stj.evals.benchmarks.recorded_consistency import recorded_consistency
from stj.evals.benchmarks.recorded_verdicts import ReadAs
from stj.evals.benchmarks.refs import BenchmarkRef
from stj.evals.benchmarks.scoring import BenchmarkScores, score_recorded, scores_json, scores_tables
from stj.evals.benchmarks.unread import MOST_UNREAD, Readings
from stj.evals.consistency import consistency_line
from stj.evals.grade_scores import score_grades
from stj.evals.table import percent
from stj.text import Column, Table
from stj.verdict import GRADE, PARSERS, Parser


def score_file(
    file: str, ref: BenchmarkRef, parser: Parser | None, format_name: str | None = None, scale: str | None = None
) -> tuple[dict[str, Any], list[str | Table]]:
    """The scores as one JSON object, and as tables and lines for a reader; by every parser if none is named.

    Judgments are read in the named format, else in that of their judge or benchmark, else in the only one that fits them all.

    Raises SourceError if the file cannot be scored, or if most of its judgments hold no verdict. Raises ConfigError if the
    benchmark takes no place but one is given, or if the format is unknown or of another kind, or if a scale is given and the
    benchmark is not `grades`.
    """
    if ref.place and not ref.benchmark.needs_records:
        raise ConfigError(f"--benchmark {ref.word}: FILE itself holds what is right; give --benchmark {ref.name}")
    if ref.name == grades.NAME:
        return score_grades(file, parser, format_name, scale)
    if scale:
        raise ConfigError(f"--scale {scale}: only --benchmark {grades.NAME} takes a scale")
    table = rewardbench.read_table(Path(file)) if ref.name == rewardbench.NAME else None
    if table is not None:
        if format_name:
            raise ConfigError(f"--format {format_name}: {file} holds accuracies, not judgments")
        return _table_scores(file, table)
    parsers = (parser,) if parser else PARSERS
    if ref.name == mtbench.NAME and fastchat_grades.is_graded(file):
        return _fastchat_grades(file, ref, parsers, format_name)
    return _judgments(file, ref, parsers, format_name)


class ReadJudgments(NamedTuple):
    """The judgments of a file, read in a format that most of them are in."""

    read_as: ReadAs
    guessed: bool
    """Whether the format is the only one that fits all judgments, and neither named nor the benchmark's own."""
    scores: Sequence[BenchmarkScores]
    """Their scores by each parser."""


def read_judgments(
    file: str, ref: BenchmarkRef, parsers: Sequence[Parser], format_name: str | None = None, *, remedy: str = FORMAT_REMEDY
) -> ReadJudgments:
    """The judgments of a file, in the named format, else that of their judge or benchmark, else the only one that fits all.

    `remedy` says, with a place for a format's name, what a user may do if it is another one.
    Raises SourceError if the file cannot be scored, or if most of its judgments hold no verdict.
    """
    chosen = chosen_format(format_name, ref.benchmark)
    read_as = ReadAs(wording=chosen or named_format(file, ref.benchmark), stored=chosen is None)
    scores = [score_recorded(file, ref, name, read_as) for name in parsers]
    guess = None if chosen else guessed_format(file, ref.benchmark, [parsed.readings for parsed in scores])
    guessed = [score_recorded(file, ref, name, ReadAs(wording=guess)) for name in parsers] if guess else []
    # The guess looked only at the first of many judgments.
    if guess and all(parsed.readings.complete for parsed in guessed):
        read_as, scores = ReadAs(wording=guess), guessed
    _refuse_unread(file, [parsed.readings for parsed in scores], remedy)
    return ReadJudgments(read_as, read_as.wording is guess, scores)


def _judgments(
    file: str, ref: BenchmarkRef, parsers: Sequence[Parser], format_name: str | None
) -> tuple[dict[str, Any], list[str | Table]]:
    read_as, is_guess, scores = read_judgments(file, ref, parsers, format_name)
    wording = read_as.wording
    record = {"file": file, "benchmark": ref.name, "format": wording.name, "format_guessed": is_guess}
    readable = [parsed for parsed in scores if parsed.readings.share <= MOST_UNREAD]
    unread = {parsed.parser: _unread(parsed.readings, FORMAT_REMEDY) for parsed in scores if parsed not in readable}
    items = list(scores_tables(readable, FORMAT_REMEDY))
    items += [f"{ref.name}: no score by {why}\n" for why in unread.values()]
    if is_guess:
        items.append(f"format: {wording.name}, {wording.form}: guessed, because it fits all judgments; --format sets another")
    elif wording is not ref.benchmark.wording:
        items.append(f"format: {wording.name}, {wording.form}")
    consistency = recorded_consistency(file, ref.benchmark, read_as)
    items += filter(None, [consistency_line(ref.name, consistency)])
    record |= {parsed.parser: scores_json(parsed, FORMAT_REMEDY) for parsed in readable}
    return record | {name: {"error": why} for name, why in unread.items()} | consistency, items


def _refuse_unread(file: str, readings: Sequence[Readings], remedy: str) -> None:
    """Raises SourceError if each parser reads no verdict in most judgments."""
    best = min(readings, key=lambda read: (read.share, read.parser != "distinct"))
    if best.share > MOST_UNREAD:
        raise SourceError(f"{file}: {_unread(best, remedy)}")


def _unread(readings: Readings, remedy: str) -> str:
    """How many judgments a parser could not read, and what to do. Where only `paper` scores a file, the others say so."""
    return f"{readings.shortfall()}; {readings.hint(remedy)}"


def _fastchat_grades(
    file: str, ref: BenchmarkRef, parsers: Sequence[Parser], format_name: str | None
) -> tuple[dict[str, Any], list[str | Table]]:
    if ref.place:
        raise ConfigError(f"--benchmark {ref.word}: {file} holds grades of single answers, which have no human votes")
    wording = chosen_format(format_name, ref.benchmark, answers=1) or GRADE
    parsed = [fastchat_grades.read_grades(file, name, wording) for name in parsers]
    _refuse_unread(file, [graded.readings for graded in parsed], FORMAT_REMEDY)
    record: dict[str, Any] = {"file": file, "benchmark": ref.name, "format": wording.name, "format_guessed": False}
    items: list[str | Table] = []
    for graded in parsed:
        warning = graded.readings.warning(ref.name, FORMAT_REMEDY)
        record[graded.parser] = {**({"warning": warning} if warning else {}), **fastchat_grades.grades_json(graded)}
        items += [fastchat_grades.grades_table(graded), *([f"warning: {warning}"] if warning else [])]
    return record, items


def _table_scores(file: str, table: dict[str, float]) -> tuple[dict[str, Any], list[str | Table]]:
    groups = rewardbench.score_table(table)
    record = {
        "file": file,
        "benchmark": rewardbench.NAME,
        "groups": {name: {"accuracy": value} for name, value in groups.items()},
        "subsets": {name: {"accuracy": value} for name, value in table.items()},
    }
    rows = [(name, percent(value)) for name, value in groups.items()]
    plain = [f"{name:<10} {value:>5}" for name, value in rows]
    return record, [Table(columns=(Column("", "", word="unit of a row"), Column("", "accuracy, %")), rows=rows, plain=plain)]
