"""Responses to grade, from any file, for `stj grade`.

instruction, prompt or query     a string, or a dialogue as a list of {role, content}
response, answer or output       the response
reference or reference_answer    optional: a reference answer that the judge sees
context                          optional: what the response must be faithful to
rubric                           optional: the name of a library's rubric, or a rubric with the keys of its file
label                            optional: the true score, which is passed on with the results
id, subset                       optional; an id is unique
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stj.errors import ConfigError, SourceError
from stj.rows import Row, Turn
from stj.rubrics import Rubric, library, rubric, rubric_of
from stj.sources.dialogue import number_of, optional_text, text_of, turns_from, usable, wrong_type
from stj.sources.directory import files_at
from stj.sources.files import not_empty, read_files
from stj.sources.ids import ContentIds, Seen, id_of, refuse_seen
from stj.sources.records import Fields

TASK = "grade"
"""The task of a row whose response is graded."""
_KEY = "FILE"
_INSTRUCTION = ("instruction", "prompt", "query")
_RESPONSE = ("response", "answer", "output")
_REFERENCE = ("reference", "reference_answer")
FIELDS = Fields(required=(), optional=(*_INSTRUCTION, *_RESPONSE, *_REFERENCE, "context", "rubric", "label", "id", "subset"))


class AnswerLabel(NamedTuple):
    """What a file says about a response, beside its texts."""

    subset: str | None
    label: float | str | None
    """The true score as the file has it."""


def read_answers(location: str) -> Iterator[Row]:
    """The responses of a file as rows to grade.

    Raises SourceError, with file and line, if a row cannot be read, if an id comes twice, or if the file has no rows.
    """
    for row, _ in _answers(location):
        yield row


def read_answer_labels(location: str) -> dict[str, AnswerLabel]:
    """What the file says of each response, by the row's id. Reads and checks the whole file."""
    return {row.id: AnswerLabel(row.subset, values.get("label")) for row, values in _answers(location)}


def answers_identity(location: str) -> str:
    """Hash of the file, for keys. Raises SourceError if it is missing."""
    return files_at(location, _KEY).identity()


def _answers(location: str) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    ids, seen = ContentIds(), Seen()
    records = read_files(files_at(location, _KEY).files, FIELDS)
    wanted = "each row has instruction and response, and perhaps reference, context and rubric"
    for position, (where, values) in enumerate(not_empty(records, f"{location}: holds no responses; {wanted}")):
        row = _row(values, where, position, ids)
        refuse_seen((row.id,), "id", where, seen)
        yield row, values


def _row(values: Mapping[str, Any], where: str, position: int, ids: ContentIds) -> Row:
    asked, answered = (_first_given(values, names) for names in (_INSTRUCTION, _RESPONSE))
    Fields(required=(asked, answered)).check([name for name, value in values.items() if value is not None], where)
    turns = turns_from(values[asked], asked, where)
    response = text_of(values[answered], answered, where)
    reference = _first_given(values, _REFERENCE)
    _check_label(values.get("label"), where)
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
            rubrics=_rubrics(values.get("rubric"), where),
        )
    )


def _first_given(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of the names that has a value, else the first name."""
    return next((name for name in names if values.get(name) is not None), names[0])


def _rubrics(value: object, where: str) -> tuple[Rubric, ...]:
    """The row's own rubric. A name is of the library: a file's row must not read other files."""
    try:
        if value is None:
            return ()
        if isinstance(value, Mapping):
            return (rubric_of(value, f"{where}: field 'rubric'"),)
        if isinstance(value, str) and value in library():
            return (rubric(value, "rubric"),)
    except ConfigError as error:
        raise SourceError(str(error)) from None
    raise wrong_type(value, "rubric", f"the name of a rubric ({', '.join(library())}) or an object", where)


def _check_label(value: object, where: str) -> None:
    """`stj score` would refuse the results of another label, after hours of grading."""
    if value is not None:
        number_of(value, "label", where)
