"""FastChat's grades of single answers on MT-Bench, its `single-v1` judgments: what a judge thinks of a model, from 1 to 10.

A row holds question_id, model, turn, the judge's text as `judgment`, and as `score` what FastChat read from it: -1 for nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from stj.evals.benchmarks import mtbench
from stj.evals.benchmarks.base import SourceRecord, number_of, read_found
from stj.evals.metrics import Interval, clustered_ci95
from stj.evals.table import printable
from stj.sources.dialogue import optional_text, text_of
from stj.sources.files import Fields
from stj.sources.ids import Seen, given_id
from stj.text import Column, Table
from stj.verdict import GRADE, Parser, parse, rating

_FIELDS = Fields(required=(), optional=("question_id", "model", "turn", "judgment", "score"))
_UNREAD = -1.0
"""FastChat's score of a judgment without a grade."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The grades of a model on some questions, those without a grade left out as FastChat does."""

    grades: int
    mean: float
    ci95: Interval
    """95% bootstrap interval of the mean, over questions."""


@dataclass(frozen=True, kw_only=True)
class Grades:
    """A file of grades, as one of the parsers reads it."""

    parser: Parser
    judged: int
    unparsed: float
    """Share of the judgments without a grade."""
    as_stored: float | None
    """Share of those with a stored score that are read as it says; None where none has one."""
    groups: dict[str, Mean]
    """By model: all together, by turn and by category."""


def is_graded(file: str) -> bool:
    """Whether a file holds grades, by its first row. Raises SourceError for one that cannot be read."""
    first = next(read_found(file, "FILE", _FIELDS), None)
    return first is not None and {"judgment", "model"} <= first.record.keys()


def read_grades(file: str, parser: Parser) -> Grades:
    """The grades in a file. Raises SourceError for a row that cannot be read, or that comes twice."""
    by_group: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    judged, unparsed, stored = 0, 0, list[bool]()
    for one in _checked(read_found(file, "FILE", _FIELDS)):
        parts = mtbench.subset(one).split("/")
        text = optional_text(one.record["judgment"], "judgment", one.where)
        grade = rating(parse(text or "", GRADE, parser))
        judged += 1
        if one.record.get("score") is not None:
            score = number_of(one.record["score"], "score", one.where)
            stored.append(math.isclose(score, _UNREAD if grade is None else grade))
        if grade is None:
            unparsed += 1
            continue
        model = one.record["model"]
        for label in ("", *(f", {part}" for part in parts)):
            by_group[f"{model}{label}"][mtbench.question(one)].append(grade)
    return Grades(
        parser=parser,
        judged=judged,
        unparsed=unparsed / judged,
        as_stored=fmean(stored) if stored else None,
        groups={name: _mean(list(by_group[name].values())) for name in sorted(by_group)},
    )


def grades_json(grades: Grades) -> dict[str, Any]:
    """The grades as JSON values."""
    return {name: value for name, value in asdict(grades).items() if name != "parser"}


def grades_table(grades: Grades) -> Table:
    """A row for each group, with the mean grade and its interval."""
    stored = "" if grades.as_stored is None else f", {100 * grades.as_stored:.1f}% read as stored"
    title = f"grades, {grades.parser} parser: {grades.judged:,} judgments, {100 * grades.unparsed:.1f}% without one{stored}"
    rows = [
        (printable(name), f"{mean.mean:5.2f} [{mean.ci95[0]:.2f}, {mean.ci95[1]:.2f}]", f"{mean.grades:,}")
        for name, mean in grades.groups.items()
    ]
    width = max((len(name) for name, _, _ in rows), default=0)
    plain = [title, *(f"  {name:<{width}} {mean} of {count}" for name, mean, count in rows)]
    columns = (Column("", "model"), Column("mean grade", "[95%]"), Column("", "grades"))
    return Table(title=title, columns=columns, rows=rows, plain=plain)


def _checked(found: Iterator[SourceRecord]) -> Iterator[SourceRecord]:
    seen = Seen()
    for one in found:
        Fields(required=("question_id", "model", "turn", "judgment")).check(one.record, one.where)
        model = text_of(one.record["model"], "model", one.where)
        given_id(f"{one.record['question_id']}/{model}/{one.record['turn']}", "question_id", one.where, seen)
        yield one


def _mean(by_question: Sequence[Sequence[float]]) -> Mean:
    grades = [grade for own in by_question for grade in own]
    return Mean(grades=len(grades), mean=fmean(grades), ci95=clustered_ci95(by_question))
