"""FastChat's grades of single answers on MT-Bench, its `single-v1` judgments: a judge's grades of a model, from 1 to 10.

A row holds question_id, model, turn, the judge's text as `judgment`, and as `score` the grade that FastChat read from it. The
score is -1 if FastChat read none. A row with neither was not asked.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks import mtbench
from stj.evals.benchmarks.asked import NOT_ASKED, without_nulls
from stj.evals.benchmarks.base import SourceRecord, read_records
from stj.evals.benchmarks.judge_names import JudgeNames
from stj.evals.benchmarks.unread import Readings, Survey, Unread
from stj.evals.intervals import Interval, clustered_ci95
from stj.sources.dialogue import number_of, text_of
from stj.sources.ids import Seen, refuse_seen
from stj.sources.records import Fields
from stj.sources.truth import JUDGE_FIELDS
from stj.text import Column, Table, visible_line
from stj.thoughts import answer_of
from stj.verdict import GRADE, Format, Parser, parse, rating

_FIELDS = Fields(required=(), optional=("question_id", "model", "turn", "judgment", "score", *JUDGE_FIELDS))
_LOWEST, _HIGHEST = 1, 10  # The grades that the prompt asks for.
_UNREAD = -1.0
"""FastChat's stored score of a judgment without a grade."""


@dataclass(frozen=True, kw_only=True)
class MeanGrade:
    """The mean grade of a model on some questions; judgments without a grade are left out, as FastChat does."""

    grades: int
    """Number of grades."""
    mean: float
    ci95: Interval
    """95% interval of the mean, over questions."""


@dataclass(frozen=True, kw_only=True)
class Grades:
    """A file of grades, as one of the parsers reads it."""

    parser: Parser
    judged: int
    unjudged: int
    """Number of rows whose grade was not asked for."""
    unparsed: float
    """Share of the judgments without a grade."""
    as_stored: float | None
    """Share of judgments whose grade equals the stored score; None if no judgment has a stored score."""
    groups: dict[str, MeanGrade]
    """Means for each model: over all questions, by turn and by category."""
    readings: Readings
    """How the judgments were read."""


def is_graded(file: str) -> bool:
    """Whether a file's first row is a grade. Raises SourceError if the file cannot be read."""
    first = next(read_records(file, "FILE", _FIELDS), None)
    return first is not None and {"judgment", "model"} <= first.values.keys()


def read_grades(file: str, parser: Parser, wording: Format = GRADE) -> Grades:
    """The grades in a file, read in this format.

    Raises SourceError if a row cannot be read or comes twice, or if no grade was asked for.
    """
    by_group: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    judged, unjudged, unparsed, stored, survey = 0, 0, 0, list[bool](), Survey(parser)
    for record in _checked(read_records(file, "FILE", _FIELDS)):
        parts = mtbench.subset(record).split("/")
        if record.values.keys().isdisjoint(("judgment", "score")):
            unjudged += 1
            continue
        answer = answer_of(text_of(record.values.get("judgment", ""), "judgment", record.where))
        grade = rating(parse(answer, wording, parser))
        judged += 1
        survey.add(1, [Unread(answer, wording)] if grade is None else [])
        if record.values.get("score") is not None:
            score = number_of(record.values["score"], "score", record.where)
            stored.append(math.isclose(score, _UNREAD if grade is None else grade))
        if grade is None:
            unparsed += 1
            continue
        model = record.values["model"]
        for label in ("", *(f", {part}" for part in parts)):
            by_group[f"{model}{label}"][mtbench.question(record)].append(grade)
    if not judged:
        raise SourceError(f"{file}: no grade was asked for: no row has a text in 'judgment'")
    return Grades(
        parser=parser,
        judged=judged,
        unjudged=unjudged,
        unparsed=unparsed / judged,
        as_stored=fmean(stored) if stored else None,
        groups={name: _mean(list(by_group[name].values())) for name in sorted(by_group)},
        readings=survey.readings(),
    )


def grades_json(grades: Grades) -> dict[str, Any]:
    """The grades as JSON values."""
    return {name: value for name, value in asdict(grades).items() if name not in ("parser", "readings")}


def grades_table(grades: Grades) -> Table:
    """A row for each group, with the mean grade and its interval."""
    stored = "" if grades.as_stored is None else f", {100 * grades.as_stored:.1f}% read as stored"
    unjudged = f", {grades.unjudged:,} {NOT_ASKED}" if grades.unjudged else ""
    missing = f"{100 * grades.unparsed:.1f}% without one"
    title = f"grades, {grades.parser} parser: {grades.judged:,} judgments, {missing}{unjudged}{stored}"
    rows = [
        (visible_line(name), f"{mean.mean:5.2f} [{mean.ci95[0]:.2f}, {mean.ci95[1]:.2f}]", f"{mean.grades:,}")
        for name, mean in grades.groups.items()
    ]
    width = max((len(name) for name, _, _ in rows), default=0)
    plain = [title, *(f"  {name:<{width}} {mean} of {count}" for name, mean, count in rows)]
    columns = (Column("", "model"), Column("mean grade", "[95%]"), Column("", "grades", word="scores"))
    return Table(title=title, columns=columns, rows=rows, plain=plain)


def _checked(records: Iterator[SourceRecord]) -> Iterator[SourceRecord]:
    seen, judge = Seen(), JudgeNames()
    for record in map(without_nulls, records):
        Fields(required=("question_id", "model", "turn")).check(record.values, record.where)
        model = text_of(record.values["model"], "model", record.where)
        judge.check(record)
        row_id = (str(record.values["question_id"]), model, str(record.values["turn"]))
        refuse_seen(row_id, "question_id", record.where, seen)
        yield record


def _mean(by_question: Sequence[Sequence[float]]) -> MeanGrade:
    """The mean, and its interval: a grade from 1 to 10 counts as nine outcomes, its steps."""
    grades = [grade for question in by_question for grade in question]
    lowest = min(_LOWEST, *grades)
    steps = max(_HIGHEST, *grades) - lowest  # The official rule reads any number.
    shares = ([(grade - lowest) / steps for grade in question] for question in by_question)
    low, high = (lowest + steps * end for end in clustered_ci95(shares, outcomes=_HIGHEST - _LOWEST))
    return MeanGrade(grades=len(grades), mean=fmean(grades), ci95=(low, high))
