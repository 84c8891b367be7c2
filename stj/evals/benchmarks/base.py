"""What a benchmark is: where it lies, how its records become rows to judge, and how what was said of them is scored."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from stj.errors import SourceError
from stj.evals.metrics import Groups, Official, Outcome, VerdictsByOrder, outcome, overall_only
from stj.rows import Pair, Row, Turn
from stj.sources.dialogue import text_of, usable, wrong_type
from stj.sources.files import ALL_KINDS, Fields, files_at, read_files
from stj.sources.ids import Seen, given_id
from stj.storage.folder import package_path
from stj.verdict import PAIR, Format, Label


class SourceRecord(NamedTuple):
    """One record of a benchmark's files."""

    where: str
    """For the user: the file and the line."""
    origin: str
    """What it stands in, by which some benchmarks name their subsets: the file as it was given, of a given directory the path
    from its own name on, of the hub's data set the part."""
    record: Mapping[str, Any]


class HubPart(NamedTuple):
    """A split of a data set of the hub, or files that `datasets` reads."""

    path: str
    split: str
    files: str | None = None
    """Which of its files, where it has no splits of its own; `path` may then be the kind of the files."""
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class JudgedExample:
    """What a judge said of one example."""

    id: str
    subset: str
    said: VerdictsByOrder
    sizes: tuple[int, ...] | None = None
    """Characters of its answers, the better one first, where they are known."""
    ratings: tuple[float | None, ...] = ()
    """Of its answers one by one, the good ones first, where they were rated instead."""
    good: int = 1
    """How many of the ratings are those of good answers."""
    unjudged: str | None = None
    """Why it was not judged, where it was not: all there is to read is then no verdict, or nothing."""


class Scored(NamedTuple):
    """The outcome of one example, or of one vote on it."""

    id: str
    subset: str
    outcome: Outcome | None
    """None where it cannot be scored."""
    cluster: str | None = None
    """Examples with the same one are not independent."""
    unjudged: str | None = None
    """Why it was not judged, or cannot be scored."""


def each_by_itself(benchmark: "Benchmark", judged: Iterable[JudgedExample], found: Iterable[SourceRecord]) -> Iterator[Scored]:
    """One outcome an example."""
    for one in judged:
        result = outcome(one.said, one.sizes, benchmark.official)
        yield Scored(one.id, one.subset, result, benchmark.cluster(one.id), one.unjudged)


def named_better(found: SourceRecord) -> Label:
    """What the record's `winner` or `label` says; a `chosen` response is the first one. Raises SourceError without any."""
    if found.record.get("winner") is None and found.record.get("chosen") is not None:
        return "A"
    field = "label" if "label" in found.record and "winner" not in found.record else "winner"
    Fields(required=(field,)).check(found.record, found.where)
    return better_of(found, field)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark."""

    name: str
    hub: tuple[HubPart, ...]
    """Where it is published; nowhere for a private one."""
    fields: Fields
    rows: Callable[[Iterable[SourceRecord]], Iterator[Row]]
    """Rows to judge; their `task` is the benchmark's name. Raises SourceError for a record that is not in its schema."""
    subset: Callable[[SourceRecord], str]
    """The subset of a record, of the benchmark or of recorded judgments. Raises SourceError for an unknown one."""
    score: Callable[["Benchmark", Iterable[JudgedExample], Iterable[SourceRecord]], Iterator[Scored]] = each_by_itself
    """From what was said to outcomes; the benchmark's own records are at hand for those that need them."""
    needs_records: bool = False
    """Whether `score` needs those: the truth then does not stand in the judged rows."""
    wording: Format = PAIR
    """How judges of this benchmark write their verdicts, as its own code reads them."""
    groups: Groups = overall_only
    official: Official | None = None
    """Its own score of an example; None is the mean of the orders."""
    cluster: Callable[[str], str | None] = lambda example: None
    """From an example's id to what it shares with others; None where it is independent of them."""
    compared: str = ""
    """What those subsets begin with in which an example is scored once, where others score it again."""
    samples: int = 0
    """Sampled judgments an order that its protocol asks for; 0 is one greedy judgment."""
    candidates: bool = False
    """Whether an example has more answers than two."""
    own: Callable[[Sequence[PurePath]], Sequence[PurePath]] = lambda paths: paths
    """Which files of a directory are to be read, where its publisher puts others beside them."""
    rated: Callable[[Row], bool] = lambda row: False
    """Which rows have their answers rated one by one."""
    better: Callable[[SourceRecord], Label] = named_better
    """Of a record of two judged responses, which is the better: A is the first one."""
    recorded_id: Callable[[SourceRecord], str | None] | None = None
    """The id of recorded judgments, None for one that has none; where this is not given, their own `id`."""
    said: Callable[[SourceRecord], VerdictsByOrder] | None = None
    """What a recorded row says that has no text, where the benchmark is published with such rows."""


def read_found(
    location: str, key: str, fields: Fields, own: Callable[[Sequence[PurePath]], Sequence[PurePath]] = lambda paths: paths
) -> Iterator[SourceRecord]:
    """The records of a file, or of those files of a directory that are the benchmark's `own`, by their paths below it.

    Raises SourceError.
    """
    root = Path(package_path(location)).expanduser()
    files = files_at(location, key, ALL_KINDS)
    if not root.is_dir():
        wanted = {file: str(file) for file in files}
    else:
        wanted = {root / path: f"{root.name}/{path}" for path in own([file.relative_to(root) for file in files])}
    return (
        SourceRecord(where, origin, record) for file, origin in wanted.items() for where, record in read_files([file], fields)
    )


def pair_row(task: str, position: int, row_id: str, subset: str, turns: tuple[Turn, ...], chosen: str, rejected: str) -> Row:
    """A row of a pair of a benchmark; one whose answers are the same has no better answer, and is a tombstone."""
    row = Row(
        id=f"{task}/{row_id}",
        position=position,
        task=task,
        subset=subset,
        turns=turns,
        pair=Pair(method="given", chosen=chosen, rejected=rejected),
    )
    return row.drop("same_answers") if chosen == rejected else usable(row)


def identity(found: SourceRecord, field: str, subset: str, seen: Seen) -> str:
    """An id that is unique in its subset, as the record gives it. Raises SourceError."""
    return given_id(f"{subset}/{id_of(found.record[field], field, found.where)}", field, found.where, seen)


def id_of(value: object, field: str, where: str) -> str:
    """A field that may be an id. Raises SourceError for another type, and for an empty one."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise wrong_type(value, field, "a string or a whole number, and not empty", where)
    return str(value)


def texts_of(value: object, field: str, where: str) -> list[str]:
    """A field that is a list of strings, not empty. Raises SourceError."""
    if not isinstance(value, list) or not value:
        raise wrong_type(value, field, "a list of strings", where)
    return [text_of(member, f"{field}[]", where) for member in value]


def number_of(value: object, field: str, where: str) -> float:
    """A number, or its digits as CSV has them. Raises SourceError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong_type(value, field, "a number", where)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise wrong_type(value, field, "a number", where)
    return number


_FIRST = ("A", "response_a", "response_A", "model_a", "model_1", "A>B", "A>>B", "1", "output_1")
_SECOND = ("B", "response_b", "response_B", "model_b", "model_2", "B>A", "B>>A", "2", "output_2")


def better_of(found: SourceRecord, field: str) -> Label:
    """Which of two responses a field says is better: A is the first one.

    Raises SourceError for a tie, where there is no better one, and for any other word.
    """
    value = found.record[field]
    word = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if word in _FIRST:
        return "A"
    if word in _SECOND:
        return "B"
    if is_tie(word) or word in {"A=B", "C"}:
        raise SourceError(
            f"{found.where}: field '{field}' is {word[:60]!r}; ties are not allowed here: each pair has a better answer"
        )
    raise wrong_type(value, field, "A or B (also response_a, model_a, A>B or 1 for the first)", found.where)


def is_tie(word: str) -> bool:
    """Whether a winner's name says that there is none: tie, "tie (inconsistent)"; Katie may win."""
    return re.match(r"tie\b", word, re.IGNORECASE) is not None


def chosen_first(found: SourceRecord) -> Label:
    """The first response, the `chosen` one, unless the record names another."""
    return "A" if found.record.get("winner") is None else better_of(found, "winner")


def one_of(found: SourceRecord, field: str, known: Iterable[str]) -> str:
    """A field that names something known. Raises SourceError."""
    if field not in found.record:
        Fields(required=(field,)).check(found.record, found.where)
    value = found.record[field]
    names = list(known)
    if value not in names:
        raise wrong_type(value, field, f"one of {', '.join(names)}", found.where)
    return str(value)
