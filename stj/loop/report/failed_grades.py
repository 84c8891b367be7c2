"""The held-out responses that a judge missed: the mean of its sampled grades is half a point or more from the true score."""

from collections.abc import Sequence
from statistics import fmean

from stj.loop.report.excerpt import Excerpt
from stj.loop.report.failures import ANSWER, INSTRUCTION, JUDGMENT, THOUGHT, Failure, FailureTally
from stj.loop.report.ways import NO_SCORE, TOO_HIGH, TOO_LOW
from stj.rows import Grade, Row

_LEAST = 0.5  # Points: a mean that is nearer rounds to a whole true score.


def add_response(tally: FailureTally, row: Row) -> None:
    """Counts a held-out response with a true score that was graded."""
    grades = sorted((each for each in row.grades if each.purpose in ("sampled", "greedy")), key=_order)
    sampled = [grade for grade in grades if grade.purpose == "sampled"]
    if not sampled or row.label is None:
        return
    scores = [grade.score for grade in sampled if grade.score is not None]
    if 2 * len(scores) <= len(sampled):
        tally.miss(row.id, NO_SCORE, (0, 0), lambda: _failure(row, grades))
        return
    error = fmean(scores) - row.label
    if abs(error) < _LEAST:
        tally.right()
        return
    tally.miss(row.id, TOO_HIGH if error > 0 else TOO_LOW, (-abs(error) / _range(row), 0), lambda: _failure(row, grades))


def _order(grade: Grade) -> tuple[bool, int]:
    return grade.purpose != "sampled", grade.index


def _range(row: Row) -> float:
    """Points between the ends of the row's scale, so that errors on several scales compare."""
    points = [point for rubric in row.rubrics for point in rubric.points]
    return max(1, max(points) - min(points)) if points else 1


def _failure(row: Row, grades: Sequence[Grade]) -> Failure:
    assert row.label is not None, "only responses with a true score are missed"
    label = row.label
    telling = max(
        (grade for grade in grades if grade.purpose == "sampled"),
        key=lambda grade: (-1.0 if grade.score is None else abs(grade.score - label), -grade.index),
    )
    said = [Excerpt.of(f"The judge gave {_score(telling)}; the true score is {label:g}", telling.text, JUDGMENT)]
    if telling.thought:
        said.insert(0, Excerpt.of("Its thought", telling.thought, THOUGHT))
    sampled = [_score(grade) for grade in grades if grade.purpose == "sampled"]
    greedy = [f"greedy {_score(grade)}" for grade in grades if grade.purpose == "greedy"]
    return Failure(
        id=row.id,
        subset=row.subset,
        votes=f"true score {label:g}; grades {', '.join([' '.join(sampled), *greedy])}; rubric {telling.rubric}",
        verdict=f"true score {label:g}, graded {' '.join(sampled)}",
        asked=Excerpt.of("Instruction", row.instruction, INSTRUCTION),
        said=tuple(said),
        answers=(Excerpt.of("Response", row.response or "", ANSWER),),
    )


def _score(grade: Grade) -> str:
    return "none" if grade.score is None else str(grade.score)
