"""Grades of single answers, any judge's, beside labels: what a row of such a file says.

    label      the truth, a number; a fraction if it is the mean of several grades. Null is a row without a label
    score      the judge's grade, a number; null is a grade that was not asked for
    text       the judge's text, from which its grade is read if there is no score
    scale      the points of the row's rubric, "1-5"; optional, for files with rubrics of several scales
    rubric     name or text of the rubric, optional: a group of its own
    subset     optional: a group of its own
    response   the answer, optional: its length is a baseline
    id         optional; unique in its rubric and subset
    judge      judge, judge_name, judge_model, ...: optional; the grades of several judges are refused (judge_names.py)
    votes      a list of the judge's votes: without a score none of them could be read
    error      why the response could not be graded

A record in a published schema (stj/sources/graded.py) needs no more than the judge's `text`, or its `score` if the schema has
no field of that name. Its label, rubric, scale, response and id are read where they are.

FastChat's grades of MT-Bench have no labels, and a schema of their own (fastchat_grades.py).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, NoReturn

from stj.errors import SourceError
from stj.evals.benchmarks.asked import NOT_ASKED, without_nulls
from stj.evals.benchmarks.base import Benchmark, SourceRecord, read_records
from stj.evals.benchmarks.judge_names import JudgeNames
from stj.rows import Row
from stj.sources.dialogue import number_of, optional_text, text_of, wrong_type
from stj.sources.files import not_empty
from stj.sources.graded import GRADED_FIELDS, graded_record, is_of_schema, is_published
from stj.sources.ids import Seen, id_of, refuse_seen
from stj.sources.records import Fields, listed
from stj.sources.truth import JUDGE_FIELDS
from stj.thoughts import answer_of

NAME = "grades"
UNPARSED = "unparsed"
"""Why a row is not scored: what the judge wrote holds no readable grade."""
FAILED = "failed"
"""Why a row is not scored: the response could not be graded."""
NO_LABEL = "no label"
"""Why a row is not scored: nothing says which grade is right."""
OFF_SCALE = "off the scale"
"""Why a stored score does not count: it is no point of the scale that the user gives."""
Scale = tuple[int, ...]
"""The points of a scale: consecutive whole numbers."""
_OWN = ("id", "score", "label", "text", "rubric", "subset", "scale", "response", "votes", "error", *JUDGE_FIELDS)
_FIELDS = Fields(required=(), optional=tuple(dict.fromkeys((*_OWN, *GRADED_FIELDS.optional))))
_SCALE = re.compile(r"\s*([0-9]{1,3})\s*[-–]\s*([0-9]{1,3})\s*")
_MOST = 1_000_000  # Squares of larger numbers would lose the digits that a correlation needs.
_LABEL = "a number; for several grades give their mean"
_SCORE = "a number, or null if the grade was not asked for; give what could not be read as 'text'"


class GradeRow(NamedTuple):
    """A recorded grade, with the label that it should be."""

    label: float | None
    score: float | None
    text: str | None
    """The judge's answer, without its thought."""
    rubric: str | None
    subset: str | None
    scale: Scale | None
    """The scale of the row's rubric, or the one that the user gives."""
    characters: int | None
    """Length of the graded response."""
    without: str
    """Why it has no score if it has neither score nor text."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups of its rubric and of its subset."""
        named = (("rubric", self.rubric), ("subset", self.subset))
        return tuple(f"{kind}/{name}" for kind, name in named if name is not None)

    @property
    def unscored(self) -> str | None:
        """Why the row has no figure to add to, whatever its text says; None if it has."""
        if self.label is None:
            return NO_LABEL
        if self.score is None:
            return self.without if self.text is None else None
        return None if self.scale is None or on_scale(self.score, self.scale) else OFF_SCALE


def grade_rows(file: str, scale: Scale | None = None) -> Iterator[GradeRow]:
    """The rows of a file of grades, in order; `scale` is that of the rows that name none.

    Raises SourceError if the file cannot be read, if a row is not a grade, or if its id came before.
    """
    seen, judge = Seen(), JudgeNames()
    records = not_empty(read_records(file, "FILE", _FIELDS), f"{file}: holds no grades")
    for record in map(_in_our_fields, map(without_nulls, records)):
        judge.check(record)
        row = _row(record, scale)
        if "id" in record.values:
            row_id = id_of(record.values["id"], "id", record.where)
            refuse_seen((row.rubric or "", row.subset or "", row_id), "id", record.where, seen, shown=row_id)
        yield row


def fields_of(file: str) -> str:
    """The names of the fields of a file's first row, for an error."""
    return listed(list(next(read_records(file, "FILE", Fields(required=()))).values))


def scale_of(words: str) -> Scale | None:
    """The points of a scale in words, "1-5" or "binary"; None for other words."""
    if words.strip() == "binary":
        return (0, 1)
    ends = _SCALE.fullmatch(words)
    low, high = (int(ends[1]), int(ends[2])) if ends else (0, 0)
    return tuple(range(low, high + 1)) if low < high else None


def on_scale(number: float, scale: Scale) -> bool:
    """Whether a number lies between the ends of a scale."""
    return scale[0] <= number <= scale[-1]


def scale_words(scale: Scale) -> str:
    """The two ends of a scale: "1-5"."""
    return f"{scale[0]}-{scale[-1]}"


def _in_our_fields(record: SourceRecord) -> SourceRecord:
    """The record; one in a published schema with its truth in our fields, unless it has a label of ours."""
    if "label" in record.values or not is_published(record.values):
        return record
    graded = graded_record(record.values, record.where)
    own = {name: value for name, value in record.values.items() if name in _OWN and not is_of_schema(record.values, name)}
    points = list(graded.descriptions)
    truth = {
        "id": graded.id,
        "subset": graded.subset,
        "label": graded.label,
        "rubric": graded.criterion,
        "response": graded.response,
        "scale": scale_words((points[0], points[-1])) if points else None,
    }
    return record._replace(values={name: value for name, value in truth.items() if value is not None} | own)


def _row(record: SourceRecord, scale: Scale | None) -> GradeRow:
    values, where = record.values, record.where
    texts = {name: optional_text(values.get(name), name, where) for name in ("text", "subset", "response")}
    row = GradeRow(
        label=_number(values.get("label"), "label", _LABEL, where),
        score=_number(values.get("score"), "score", _SCORE, where),
        text=None if texts["text"] is None else answer_of(texts["text"]),
        rubric=_rubric(values.get("rubric"), where),
        subset=texts["subset"],
        scale=_scale(values["scale"], where) if "scale" in values else scale,
        characters=None if texts["response"] is None else len(texts["response"]),
        without=FAILED if "error" in values else UNPARSED if values.get("votes") else NOT_ASKED,
    )
    if row.scale and row.label is not None and not on_scale(row.label, row.scale):
        raise SourceError(f"{where}: field 'label' is {row.label:g}, which is off the scale {scale_words(row.scale)}")
    return row


def _number(value: object, field: str, wanted: str, where: str) -> float | None:
    if value is None:
        return None
    try:
        number = number_of(value, field, where)
    except SourceError:
        raise wrong_type(value, field, wanted, where) from None
    if abs(number) > _MOST:
        raise wrong_type(value, field, f"{wanted}, from -{_MOST:,} to {_MOST:,}", where)
    return number


def _rubric(value: object, where: str) -> str | None:
    """The name of a rubric, or of an object's; without one its criterion."""
    if isinstance(value, Mapping):
        return text_of(value.get("name") or value.get("criterion"), "rubric.name", where)
    return optional_text(value, "rubric", where)


def _scale(value: object, where: str) -> Scale:
    scale = scale_of(value) if isinstance(value, str) else None
    if scale is None:
        raise wrong_type(value, "scale", 'a scale of whole numbers, as "1-5"', where)
    return scale


def _only_recorded(record: SourceRecord | None = None) -> NoReturn:
    where = f"{record.where}: " if record else ""
    raise SourceError(f"{where}grades that are recorded already are scored by `stj score FILE --benchmark {NAME}`")


def _no_rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    _only_recorded()


GRADES = Benchmark(name=NAME, hub=(), fields=Fields(required=("label",)), rows=_no_rows, subset=_only_recorded)
"""Only for `stj score`: its rows are graded already."""
