"""Responses to grade, from any file, for `stj grade`.

instruction, prompt or query     a string, or a dialogue as a list of {role, content}
response, answer or output       the response
reference or reference_answer    optional: a reference answer that the judge sees
context                          optional: what the response must be faithful to
rubric                           optional: the name of a library's rubric, a rubric with the keys of its file (an object, or its
                                 JSON where a cell holds only text), or a list of {score, description} beside `criteria`
label or score                   optional: the true score, which is passed on with the results: a number, or an object of
                                 numbers by the names of rubrics
id, subset                       optional; an id is unique

HelpSteer2's rows, with their five attributes, have a true score by each of five rubrics (stj/sources/helpsteer2.py).

Data sets in the schemas of Prometheus, its benchmarks and Flow-Judge are read as they are published (stj/sources/graded.py).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from stj.errors import ConfigError, SourceError
from stj.rows import Row, Turn
from stj.rubrics import SCALES, Rubric, library, rubric, rubric_of
from stj.sources.dialogue import number_of, optional_text, text_of, turns_from, usable, wrong_type
from stj.sources.directory import files_at
from stj.sources.files import not_empty, read_files
from stj.sources.graded import GRADED_FIELDS, GradedRecord, graded_record, is_published, points_of
from stj.sources.helpsteer2 import RUBRICS, has_attributes, true_scores, turns_of
from stj.sources.ids import ContentIds, Seen, id_of, refuse_seen
from stj.sources.records import Fields, Located

TASK = "grade"
"""The task of a row whose response is graded."""
_KEY = "FILE"
_INSTRUCTION = ("instruction", "prompt", "query")
_RESPONSE = ("response", "answer", "output")
_REFERENCE = ("reference", "reference_answer")
_LABEL = ("label", "score")
FIELDS = Fields(
    required=(),
    optional=tuple(
        dict.fromkeys(
            (
                *(*_INSTRUCTION, *_RESPONSE, *_REFERENCE, "context", "rubric", "criteria", *_LABEL, "id", "subset"),
                *RUBRICS,
                *GRADED_FIELDS.optional,
            )
        )
    ),
)
_NAME = 60  # Characters of a criterion that name its rubric.


TrueScore = float | str
"""A true score: a number, or its digits."""


class AnswerLabel(NamedTuple):
    """What a file says about a response, beside its texts."""

    subset: str | None
    label: TrueScore | Mapping[str, TrueScore] | None
    """The true score as the file has it; several by the names of their rubrics."""
    feedback: str | None
    """What was written with the true score."""

    def of(self, rubric: str) -> TrueScore | None:
        """The true score by a rubric."""
        return self.label.get(rubric) if isinstance(self.label, Mapping) else self.label

    def on_scale(self, by: Rubric, where: str) -> float | None:
        """The true score by a rubric as a number. Raises SourceError if it is off the rubric's scale."""
        if (given := self.of(by.name)) is None:
            return None
        score = float(given)
        if not by.points[0] <= score <= by.points[-1]:
            raise SourceError(f"{where}: the true score is {score:g}, off the scale {by.scale} of {by.name}")
        return score


def read_answers(location: str) -> Iterator[Row]:
    """The responses of a file as rows to grade.

    Raises SourceError, with file and line, if a row cannot be read, if an id comes twice, or if the file has no rows.
    """
    for _, row, _ in labelled_answers(location):
        yield row


def read_answer_labels(location: str) -> dict[str, AnswerLabel]:
    """What the file says of each response, by the row's id. Reads and checks the whole file."""
    return {row.id: label for _, row, label in labelled_answers(location)}


def answers_identity(location: str) -> str:
    """Hash of the file, for keys. Raises SourceError if it is missing."""
    return files_at(location, _KEY).identity()


def labelled_answers(location: str, key: str = _KEY) -> Iterator[tuple[str, Row, AnswerLabel]]:
    """The responses of a file, each with its file and line before it and what the file says of it behind it.

    `key` is what names the file, for errors. Raises SourceError as `read_answers` does.
    """
    records = read_files(files_at(location, key).files, FIELDS)
    wanted = "each row has instruction and response, and perhaps reference, context and rubric"
    yield from answer_rows(records, f"{location}: holds no responses; {wanted}")


def answer_rows(records: Iterable[Located], empty: str) -> Iterator[tuple[str, Row, AnswerLabel]]:
    """The responses among records, as `labelled_answers` gives them; `empty` is the error if there are none."""
    ids, seen = ContentIds(), Seen()
    for position, (where, values) in enumerate(not_empty(iter(records), empty)):
        if is_published(values):
            record = graded_record(values, where)
            row, label, feedback = (
                _published_row(record, where, position, ids),
                _own_label(values, record, where),
                record.feedback,
            )
        else:
            row, label = _row(values, where, position, ids), _label(values, where)
            feedback = optional_text(values.get("feedback"), "feedback", where)
        refuse_seen((row.id,), "id", where, seen)
        yield where, row, AnswerLabel(row.subset, label, feedback)


def rubric_of_row(row: Row, default: Rubric | None, where: str) -> Rubric:
    """The row's own rubric, or else the default. Raises SourceError if there is neither."""
    by = row.rubrics[0] if row.rubrics else default
    if by is None:
        raise SourceError(f"{where}: has no rubric, and grading.rubric=written writes none for it; give the row one")
    return by


def _row(values: Mapping[str, Any], where: str, position: int, ids: ContentIds) -> Row:
    asked, answered = (_first_given(values, names) for names in (_INSTRUCTION, _RESPONSE))
    Fields(required=(asked, answered)).check([name for name, value in values.items() if value is not None], where)
    turns = (
        turns_of(text_of(values[asked], asked, where)) if has_attributes(values) else turns_from(values[asked], asked, where)
    )
    response = text_of(values[answered], answered, where)
    reference = _first_given(values, _REFERENCE)
    given = values.get("id")
    content = (*turns, Turn(role="response", content=response))
    return usable(
        Row(
            id=ids.of(content) if given is None else id_of(given, "id", where),
            position=position,
            task=TASK,
            subset=optional_text(values.get("subset"), "subset", where) or None,
            turns=turns,
            response=response,
            reference=optional_text(values.get(reference), reference, where),
            context=optional_text(values.get("context"), "context", where),
            rubrics=_rubrics(values, where),
        )
    )


def _published_row(record: GradedRecord, where: str, position: int, ids: ContentIds) -> Row:
    turns = (Turn(role="user", content=record.instruction),)
    content = (*turns, Turn(role="response", content=record.response))
    return usable(
        Row(
            id=ids.of(content) if record.id is None else record.id,
            position=position,
            task=TASK,
            subset=record.subset,
            turns=turns,
            response=record.response,
            reference=record.reference,
            context=record.context,
            rubrics=(_rubric(record.criterion or "", record.descriptions, where),),
        )
    )


def _rubric(criterion: str, descriptions: Mapping[int, str], where: str) -> Rubric:
    """A rubric of points. Raises SourceError if its scale is none that a judge is asked for."""
    scale = next((name for name, points in SCALES.items() if points == tuple(descriptions)), None)
    if scale is None:
        known = ", ".join(SCALES)
        raise SourceError(f"{where}: the rubric describes the points {list(descriptions)}; a scale is one of {known}")
    name = " ".join(criterion.split())[:_NAME] or "rubric"
    try:
        return rubric_of({"criterion": criterion, "scale": scale, "points": descriptions}, where, name)
    except ConfigError as error:
        raise SourceError(str(error)) from None


def _first_given(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of the names that has a value, else the first name."""
    return next((name for name in names if values.get(name) is not None), names[0])


def _rubrics(values: Mapping[str, Any], where: str) -> tuple[Rubric, ...]:
    """The row's own rubric. A name is of the library: a file's row must not read other files."""
    value = values.get("rubric")
    if value is None:
        return ()
    if isinstance(value, list):
        Fields(required=("criteria",)).check([name for name, given in values.items() if given is not None], where)
        return (_rubric(text_of(values["criteria"], "criteria", where), points_of(value, where), where),)
    try:
        value = _parsed(value)
        if isinstance(value, Mapping):
            return (rubric_of(_without_nulls(value), f"{where}: field 'rubric'"),)
        if isinstance(value, str) and value in library():
            return (rubric(value, "rubric"),)
    except ConfigError as error:
        raise SourceError(str(error)) from None
    raise wrong_type(value, "rubric", f"the name of a rubric ({', '.join(library())}) or an object", where)


def _parsed(value: object) -> object:
    """The object whose JSON the value is, else the value."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """A rubric without the nulls that Parquet puts where another row's rubric has a key or a point more."""
    kept = {name: value for name, value in values.items() if value is not None}
    points = kept.get("points")
    if isinstance(points, Mapping):
        kept["points"] = {point: text for point, text in points.items() if text is not None}
    return kept


def _own_label(values: Mapping[str, Any], record: GradedRecord, where: str) -> TrueScore | Mapping[str, TrueScore] | None:
    """The label of a published record; one that a user has added wins, as in `stj score`."""
    return record.label if values.get("label") is None else _label(values, where)


def _label(values: Mapping[str, Any], where: str) -> TrueScore | Mapping[str, TrueScore] | None:
    """The label as the file has it; None for an empty cell. Raises SourceError if it is no finite number, nor its digits."""
    name = _first_given(values, _LABEL)
    value = values.get(name)
    if value is None and has_attributes(values):
        return true_scores(values, where)
    if value is None or value == "":
        return None
    if isinstance(value, Mapping):
        given = {str(rubric): label for rubric, label in value.items() if label is not None}
        return {rubric: _number(label, f"{name}.{rubric}", where) for rubric, label in given.items()}
    return _number(value, name, where)


def _number(value: object, name: str, where: str) -> TrueScore:
    number_of(value, name, where)
    assert isinstance(value, int | float | str), "number_of takes nothing else"
    return value
