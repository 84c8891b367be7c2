"""`stj score`: recorded judgments, or a published table of subset accuracies, to scores. Needs no model, and no Ray.

FILE holds rows as evals/benchmarks/recorded.py says; for rewardbench also one object {subset: accuracy}, and for mtbench also
FastChat's grades of single answers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stj.errors import ConfigError
from stj.evals.benchmarks import grades, mtbench, rewardbench
from stj.evals.benchmarks.places import BenchmarkRef
from stj.evals.benchmarks.scoring import score_recorded, scores_json, scores_tables
from stj.evals.table import percent
from stj.text import Column, Table
from stj.verdict import PARSERS, Parser


def score_file(file: str, named: BenchmarkRef, parser: Parser | None) -> tuple[dict[str, Any], list[str | Table]]:
    """The scores as one JSON object, and as tables and lines for a reader; by both parsers if none is named.

    Raises SourceError for a file that cannot be scored, and ConfigError for a place that has no meaning.
    """
    if named.place and not named.benchmark.needs_records:
        raise ConfigError(f"--benchmark {named.word}: what is right stands in FILE itself; give --benchmark {named.name}")
    table = rewardbench.read_table(Path(file)) if named.name == rewardbench.NAME else None
    if table is not None:
        return _table_scores(file, table)
    parsers = (parser,) if parser else PARSERS
    if named.name == mtbench.NAME and grades.is_graded(file):
        return _grades(file, named, parsers)
    scores = [score_recorded(file, named, one) for one in parsers]
    record: dict[str, Any] = {"file": file, "benchmark": named.name}
    return record | {one.parser: scores_json(one) for one in scores}, list(scores_tables(scores))


def _grades(file: str, named: BenchmarkRef, parsers: Sequence[Parser]) -> tuple[dict[str, Any], list[str | Table]]:
    if named.place:
        raise ConfigError(f"--benchmark {named.word}: {file} holds grades of single answers, which nobody voted on")
    read = [grades.read_grades(file, one) for one in parsers]
    record: dict[str, Any] = {"file": file, "benchmark": named.name}
    return record | {one.parser: grades.grades_json(one) for one in read}, [grades.grades_table(one) for one in read]


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
    return record, [Table(columns=(Column("", ""), Column("", "accuracy")), rows=rows, plain=plain)]
