"""`stj score`: scores of recorded judgments, or of a published table of subset accuracies. Needs no model and no Ray.

FILE holds rows as evals/benchmarks/recorded.py describes them. For rewardbench it may also be one object {subset: accuracy},
and for mtbench FastChat's grades of single answers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stj.errors import ConfigError
from stj.evals.benchmarks import grades, mtbench, rewardbench
from stj.evals.benchmarks.recorded import seen_instead
from stj.evals.benchmarks.refs import BenchmarkRef
from stj.evals.benchmarks.scoring import score_recorded, scores_json, scores_tables
from stj.evals.table import percent
from stj.text import Column, Table
from stj.verdict import PARSERS, Parser


def score_file(file: str, ref: BenchmarkRef, parser: Parser | None) -> tuple[dict[str, Any], list[str | Table]]:
    """The scores as one JSON object, and as tables and lines for a reader; by every parser if none is named.

    Raises SourceError if the file cannot be scored, and ConfigError if the benchmark takes no place but one is given.
    """
    if ref.place and not ref.benchmark.needs_records:
        raise ConfigError(f"--benchmark {ref.word}: FILE itself holds what is right; give --benchmark {ref.name}")
    table = rewardbench.read_table(Path(file)) if ref.name == rewardbench.NAME else None
    if table is not None:
        return _table_scores(file, table)
    parsers = (parser,) if parser else PARSERS
    if ref.name == mtbench.NAME and grades.is_graded(file):
        return _grades(file, ref, parsers)
    scores = [score_recorded(file, ref, name) for name in parsers]
    record: dict[str, Any] = {"file": file, "benchmark": ref.name}
    items = list(scores_tables(scores))
    if not ref.benchmark.candidates and all(parsed.without_verdicts for parsed in scores):
        record["note"] = seen_instead(file, ref.benchmark)
        items.append(record["note"])
    return record | {parsed.parser: scores_json(parsed) for parsed in scores}, items


def _grades(file: str, ref: BenchmarkRef, parsers: Sequence[Parser]) -> tuple[dict[str, Any], list[str | Table]]:
    if ref.place:
        raise ConfigError(f"--benchmark {ref.word}: {file} holds grades of single answers, which have no human votes")
    parsed = [grades.read_grades(file, name) for name in parsers]
    record: dict[str, Any] = {"file": file, "benchmark": ref.name}
    by_parser = {graded.parser: grades.grades_json(graded) for graded in parsed}
    return record | by_parser, [grades.grades_table(graded) for graded in parsed]


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
    return record, [Table(columns=(Column("", ""), Column("", "accuracy, %")), rows=rows, plain=plain)]
