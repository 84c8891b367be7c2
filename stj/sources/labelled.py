"""Labelled judgments that are trained on as they are, each with what was written for it.

A grade is a row that `stj grade` reads (stj/sources/answers.py), with its true score and, if there is some, `feedback`. So are
Prometheus's Feedback Collection and Flow-Judge's data sets, as they are published.

A verdict on a pair is a row of Prometheus 2's Preference Collection:

    orig_instruction, orig_response_A, orig_response_B, orig_preference (A or B), orig_feedback; orig_reference_answer

A place holds grades or verdicts, not both.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from stj.config import SourceConfig
from stj.errors import SourceError
from stj.rows import GIVEN, Pair, Row, Turn
from stj.rubrics import Rubric
from stj.sources.answers import FIELDS, answer_rows, rubric_of_row
from stj.sources.dialogue import optional_text, text_of, usable, wrong_type
from stj.sources.directory import files_at
from stj.sources.files import files_size, not_empty, read_files
from stj.sources.hub import is_hub_dataset, read_hub
from stj.sources.ids import LABELLED_PREFIX, Seen, id_of, numbered, refuse_seen
from stj.sources.records import Fields, Located
from stj.verdict import Label

KEY = "examples.labelled"
_PAIR = ("orig_instruction", "orig_response_A", "orig_response_B", "orig_preference", "orig_feedback")
_OF_PAIRS = _PAIR[1:4]  # The fields that no graded response has.
_SIZES = {"prometheus-eval/Feedback-Collection": 99_952, "prometheus-eval/Preference-Collection": 199_760}
_FIELDS = Fields(required=(), optional=tuple(dict.fromkeys((*FIELDS.optional, *_PAIR, "orig_reference_answer"))))


class LabelledGrade(NamedTuple):
    """A response with its true score by a rubric."""

    row: Row
    rubric: Rubric
    score: float | None
    feedback: str
    place: str
    """File and line, or data set and row."""


class LabelledVerdict(NamedTuple):
    """A pair with its better response, `row.pair.chosen`, which is shown under the label `winner`."""

    row: Row
    winner: Label
    feedback: str
    place: str
    """File and line, or data set and row."""


def read_labelled(locations: tuple[str, ...], default: Rubric | None) -> Iterator[LabelledGrade | LabelledVerdict]:
    """The labelled judgments of files and data sets on the hub, in order, with ids that no other row has.

    `default` is the rubric of a response that names none. Raises SourceError, with file and line, if a row cannot be read.
    """
    for number, location in enumerate(locations):
        records = _records(location)
        first, rest = _first(not_empty(records, f"{KEY}={location}: holds no labelled judgments"))
        pairs, prefix = _is_pair(first[1]), f"{LABELLED_PREFIX}{number}/"
        records = _of_one_kind(chain([first], rest), pairs)
        yield from _verdicts(records, prefix) if pairs else _grades(records, location, prefix, default)


def labelled_identities(locations: tuple[str, ...]) -> list[str]:
    """Hashes of the files, or names of data sets on the hub, for keys. Raises SourceError if one is missing."""
    return [f"{place}@main/train" if is_hub_dataset(place) else files_at(place, KEY).identity() for place in locations]


def labelled_size(locations: tuple[str, ...], unknown: int) -> int:
    """Approximate number of labelled judgments; `unknown` for each data set of the hub whose size is not published here.

    Raises SourceError if a file is missing.
    """
    there = [place for place in locations if is_hub_dataset(place)]
    files = [files_at(place, KEY).files for place in locations if place not in there]
    return sum(map(files_size, files)) + sum(_SIZES.get(place, unknown) for place in there)


def _records(location: str) -> Iterator[Located]:
    if is_hub_dataset(location):
        return read_hub(SourceConfig(path=location), _FIELDS, key=KEY)
    return read_files(files_at(location, KEY).files, _FIELDS)


def _first(records: Iterator[Located]) -> tuple[Located, Iterator[Located]]:
    return next(records), records


def _is_pair(values: Mapping[str, Any]) -> bool:
    return any(values.get(name) not in (None, "") for name in _OF_PAIRS)


def _of_one_kind(records: Iterator[Located], pairs: bool) -> Iterator[Located]:
    """The records. Raises SourceError at a pair behind graded responses, or the reverse."""
    for where, values in records:
        if _is_pair(values) != pairs:
            known, other = ("pairs", "no pair") if pairs else ("graded responses", "a pair")
            raise SourceError(f"{where}: is {other}, and the rows before it are {known}; name a file of each in {KEY}=[A, B]")
        yield where, values


def _grades(records: Iterator[Located], location: str, prefix: str, default: Rubric | None) -> Iterator[LabelledGrade]:
    for where, row, label in answer_rows(records, f"{KEY}={location}: holds no responses"):
        by = rubric_of_row(row, default, where)
        score = label.of(by.name)
        yield LabelledGrade(
            row=replace(row, id=prefix + row.id, rubrics=(by,)),
            rubric=by,
            score=None if score is None else float(score),
            feedback=label.feedback or "",
            place=where,
        )


def _verdicts(records: Iterator[Located], prefix: str) -> Iterator[LabelledVerdict]:
    seen = Seen()
    for position, (where, values) in enumerate(records):
        Fields(required=_PAIR).check([name for name, value in values.items() if value is not None], where)
        own = numbered(position) if values.get("id") is None else id_of(values["id"], "id", where)
        refuse_seen((own,), "id", where, seen)
        yield _verdict(values, where, position, prefix + own)


def _verdict(values: Mapping[str, Any], where: str, position: int, row_id: str) -> LabelledVerdict:
    asked, first, second, feedback = (text_of(values[name], name, where) for name in (*_PAIR[:3], _PAIR[4]))
    preference = values["orig_preference"]
    if preference not in ("A", "B"):
        raise wrong_type(preference, "orig_preference", "A or B", where)
    winner: Label = "A" if preference == "A" else "B"
    chosen, rejected = (first, second) if winner == "A" else (second, first)
    row = Row(
        id=row_id,
        position=position,
        turns=(Turn(role="user", content=asked),),
        reference=optional_text(values.get("orig_reference_answer"), "orig_reference_answer", where) or None,
        pair=Pair(method=GIVEN, chosen=chosen, rejected=rejected, better_as=winner),
    )
    return LabelledVerdict(row=usable(row), winner=winner, feedback=feedback, place=where)
