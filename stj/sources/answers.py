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

Rows of pairs (stj/sources/pairs.py) are two responses each, which have the pair's id with /a and /b behind it. Their labels
say which is better, and are no scores.

HelpSteer2's rows, with their five attributes, have a true score by each of five rubrics (stj/sources/helpsteer2.py).

Data sets in the schemas of Prometheus, its benchmarks and Flow-Judge are read as they are published (stj/sources/graded.py).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, tee
from typing import Any, NamedTuple

from stj.errors import ConfigError, SourceError
from stj.pair_fields import OWN_FIELDS, PairFields
from stj.rows import Row, Turn
from stj.rubrics import SCALES, Rubric, library, rubric, rubric_of
from stj.sources.dialogue import number_of, optional_text, text_of, turns_from, usable, wrong_type
from stj.sources.directory import files_at
from stj.sources.files import not_empty, read_files
from stj.sources.graded import GRADED_FIELDS, GradedRecord, graded_record, is_published, points_of
from stj.sources.helpsteer2 import RUBRICS, has_attributes, true_scores, turns_of
from stj.sources.ids import ContentIds, Seen, id_of, refuse_seen
from stj.sources.pairs import OPEN_RESPONSES, fields_to_read, given_pairs
from stj.sources.records import Fields, Located
from stj.sources.truth import CHOSEN

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


def read_answers(location: str, fields: PairFields = OWN_FIELDS) -> Iterator[Row]:
    """The responses of a file as rows to grade. `fields` are the names of its fields if it holds pairs.

    Raises SourceError, with file and line, if a row cannot be read, if an id comes twice, or if the file has no rows.
    """
    for _, row, _ in labelled_answers(location, fields=fields):
        yield row


def read_answer_labels(location: str, fields: PairFields = OWN_FIELDS) -> dict[str, AnswerLabel]:
    """What the file says of each response, by the row's id. Reads and checks the whole file."""
    return {row.id: label for _, row, label in labelled_answers(location, fields=fields)}


def answers_identity(location: str) -> str:
    """Hash of the file, for keys. Raises SourceError if it is missing."""
    return files_at(location, _KEY).identity()


def labelled_answers(location: str, key: str = _KEY, fields: PairFields = OWN_FIELDS) -> Iterator[tuple[str, Row, AnswerLabel]]:
    """The responses of a file, each with its file and line before it and what the file says of it behind it.

    `key` is what names the file, for errors. Raises SourceError as `read_answers` does.
    """
    of_pairs = fields_to_read(fields)
    optional = tuple(name for name in dict.fromkeys((*FIELDS.optional, *of_pairs.optional)) if name not in of_pairs.required)
    records = read_files(files_at(location, key).files, Fields(required=of_pairs.required, optional=optional))
    wanted = "each row has instruction and response, and perhaps reference, context and rubric"
    empty = f"{location}: holds no responses; {wanted}"
    records = not_empty(records, empty)
    first = next(records)
    records = chain([first], records)
    yield from _of_pairs(records, fields) if _is_pair(first[1], fields) else answer_rows(records, empty)


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


def _is_pair(values: Mapping[str, Any], fields: PairFields) -> bool:
    alone = is_published(values) or any(values.get(name) is not None for name in _RESPONSE)
    two = any(all(values.get(name) is not None for name in names) for names in (OPEN_RESPONSES, CHOSEN))
    return bool(fields.named) or (two and not alone)


def _of_pairs(records: Iterable[Located], fields: PairFields) -> Iterator[tuple[str, Row, AnswerLabel]]:
    """Both responses of each pair."""
    beside, read = tee(records)
    for (where, values), pair in zip(beside, given_pairs(read, fields), strict=True):
        rest = {name: value for name, value in values.items() if name not in fields.named}
        row = _with_inputs(Row(id=pair.row_id, position=pair.position, task=TASK, turns=pair.turns), rest, where)
        for label, response in (("a", pair.first), ("b", pair.second)):
            answer = replace(row, id=f"{pair.row_id}/{label}", subset=pair.subset, response=response)
            yield where, usable(answer), AnswerLabel(pair.subset, None, None)


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
    given = values.get("id")
    content = (*turns, Turn(role="response", content=response))
    row = Row(
        id=ids.of(content) if given is None else id_of(given, "id", where),
        position=position,
        task=TASK,
        subset=optional_text(values.get("subset"), "subset", where) or None,
        turns=turns,
        response=response,
    )
    return usable(_with_inputs(row, values, where))


def _with_inputs(row: Row, values: Mapping[str, Any], where: str) -> Row:
    """The row with what a judge sees beside the response: a reference answer, a context and a rubric."""
    reference = _first_given(values, _REFERENCE)
    return replace(
        row,
        reference=optional_text(values.get(reference), reference, where),
        context=optional_text(values.get("context"), "context", where),
        rubrics=_rubrics(values, where),
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
