"""The parts of a benchmark: where it lies, how its records become rows to judge, and how verdicts become outcomes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

from stj.errors import SourceError
from stj.evals.benchmarks.duels import DuelResult, Models
from stj.evals.benchmarks.unread import Unread
from stj.evals.metrics import ExampleOutcome, Groups, Official, VerdictsByOrder, example_outcome, overall_only
from stj.pair_fields import PairFields, Ties
from stj.rows import GIVEN, Pair, Row, Turn
from stj.sources.dialogue import text_of, usable, wrong_type
from stj.sources.directory import DataFiles, files_at
from stj.sources.files import read_files
from stj.sources.ids import RowId, Seen, id_of, joined_id, refuse_seen
from stj.sources.records import Fields
from stj.sources.truth import CHOSEN, better_response, is_judges_word, is_tie, named_response, required_better
from stj.verdict import PAIR, Format, Label, Verdict

NOT_APPLICABLE = "not_applicable"
"""Reason for dropping a pair that an attack cannot change."""
SelectFiles = Callable[[Sequence[PurePath]], Sequence[PurePath]]
"""From the files of a directory, by their paths in it, to those that are read."""


class SourceRecord(NamedTuple):
    """One record of a benchmark's files."""

    where: str
    """The file and the line, for error messages."""
    origin: str
    """The place of the record, by which some benchmarks name their subsets. For a file it is the file as given. For a directory
    it is the path that begins with the directory's name. For a data set of the hub it is the part."""
    values: Mapping[str, Any]
    """The record's fields."""


class HubPart(NamedTuple):
    """A split of a data set of the hub, or files that `datasets` reads."""

    path: str
    """The data set, or the kind of `files`."""
    split: str
    files: str | None = None
    """Files to read if the data set defines no splits."""
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class JudgedExample:
    """One example with a judge's verdicts."""

    id: RowId
    subset: str
    verdicts: VerdictsByOrder
    orders_known: bool = True
    """Whether the verdicts are those of single orders. If not, they are combined ones, under the label of the better answer."""
    sizes: tuple[int, ...] | None = None
    """Characters of its answers, the better one first; None if the answers are unknown."""
    ratings: tuple[float | None, ...] = ()
    """Ratings of its answers, the good ones first, if the judge rated each answer alone."""
    good: int = 1
    """Number of good answers among the rated ones."""
    unjudged: str | None = None
    """Why the example was not judged. If so, its verdicts are None or absent."""
    tied: str | None = None
    """TIED or TIED_HALF if people call the example a tie, and ties count."""
    judgments: int = 0
    """Number of texts of the judge that were read."""
    unread: tuple[Unread, ...] = ()
    """The texts among them that hold no verdict."""


class Scored(NamedTuple):
    """The outcome of one example, or of one human vote on it."""

    id: RowId
    subset: str
    outcome: ExampleOutcome | None
    """None if the example cannot be scored."""
    cluster: RowId | None = None
    """The cluster of the example: examples of one cluster are not independent."""
    unjudged: str | None = None
    """Why the example was not judged or cannot be scored."""


def score_each(benchmark: "Benchmark", judged: Iterable[JudgedExample], records: Iterable[SourceRecord]) -> Iterator[Scored]:
    """One outcome for each example."""
    for example in judged:
        result = example_outcome(
            example.verdicts, example.sizes, benchmark.official, orders_known=example.orders_known, tied=example.tied
        )
        yield Scored(example.id, example.subset, result, benchmark.cluster(example.id), example.unjudged)


def given_better(record: SourceRecord) -> Label:
    """The better response, A for the first one. Raises SourceError if no field of the record says it (stj/sources/truth.py)."""
    return required_better(record.values, record.where)


def chosen_first(record: SourceRecord) -> Label:
    """The first response, which is the benchmark's `chosen` one, unless a field names the second.

    Raises SourceError if only `winner` names the second, or a tie: it may be a judge's word.
    """
    winner = record.values.get("winner")
    alone = winner is not None and all(record.values.get(name) is None for name in ("label", *CHOSEN))
    tied = alone and is_tie(str(winner)) and not is_judges_word(record.values)
    better = None if tied else better_response(record.values, record.where)
    if tied or (alone and better == "B"):
        raise SourceError(
            f"{record.where}: field 'winner' is {winner!r}, but the first response is this benchmark's chosen "
            "one; if the second is better, say so with 'label', and if 'winner' is the judge's word, leave it out"
        )
    return better or "A"


@dataclass(frozen=True, kw_only=True)
class ReferenceAnswers:
    """Reference answers that a benchmark shows beside some of its rows, from files that lie beside its own."""

    select_files: SelectFiles
    """The files of a directory that hold them, and no rows."""
    fields: Fields
    shown: Callable[[Iterator[Row], Iterable[SourceRecord]], Iterator[Row]]
    """The rows, with the reference answers of these records. Raises SourceError if a record breaks the schema."""
    wanted: Callable[[Row], bool]
    """Whether the benchmark's own code shows a reference answer beside the row."""
    where: str
    """The rows that want one, and where their reference answers are published, for a reader."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: everything needed to load and score it."""

    name: str
    hub: tuple[HubPart, ...]
    """Its published data sets; empty for a private benchmark."""
    size: int | None = None
    """Number of rows of its published data; None if that is not known without reading them."""
    fields: Fields
    rows: Callable[[Iterable[SourceRecord]], Iterator[Row]]
    """Makes rows to judge, with the benchmark's name as `task`. Raises SourceError if a record breaks the schema."""
    subset: Callable[[SourceRecord], str]
    """The subset of a benchmark's record or of recorded judgments. Raises SourceError if the subset is unknown."""
    score: Callable[["Benchmark", Iterable[JudgedExample], Iterable[SourceRecord]], Iterator[Scored]] = score_each
    """Makes outcomes from judged examples and, if `needs_records`, from the benchmark's own records."""
    needs_records: bool = False
    """Whether `score` needs the benchmark's records because the judged rows do not hold the truth."""
    wording: Format = PAIR
    """The form in which judges of this benchmark write their verdicts, as its own code reads them."""
    recorded_wording: Callable[[SourceRecord], Format | None] = lambda record: None
    """The form of a recorded judgment, if its record names the judge; None means `wording`."""
    groups: Groups = overall_only
    subsets: tuple[str, ...] = ()
    """All its subsets, if some groups need all of theirs: then scores say which are missing."""
    duel: Callable[[JudgedExample], tuple[Models, DuelResult]] | None = None
    """The models that an example compares, and the result, if its examples compare models."""
    official: Official | None = None
    """The benchmark's own score of an example; None means the mean of the orders."""
    row_parts: Callable[[str], RowId] = lambda text: (text,)
    """The parts of a row's id in an artifact, without the benchmark's name."""
    cluster: Callable[[RowId], RowId | None] = lambda example: None
    """The cluster of an example's id; None if the example is independent of all others."""
    compared: str = ""
    """Prefix of the subsets that `stj compare` counts, if other subsets score the same examples again."""
    samples: int = 0
    """Judgments sampled in each order, by the benchmark's protocol; 0 means one greedy judgment."""
    candidates: bool = False
    """Whether an example has more than two answers."""
    limit_records: bool = False
    """Whether a limit counts records: each of them makes several rows."""
    edition: Callable[[], str] = lambda: ""
    """What else decides the rows, for keys, if they hold more than the records."""
    attacks: bool = False
    """Whether the rows are pairs before and after attacks (stj/evals/benchmarks/attacks.py)."""
    select_files: SelectFiles = lambda paths: paths
    """Selects the files of a directory to read, if the publisher keeps other files beside them."""
    read_as: Callable[[PairFields, Ties], "Benchmark"] | None = None
    """The same for a file whose fields have other names, if the benchmark is of any file of pairs."""
    rated: Callable[[Row], bool] = lambda row: False
    """Whether the judge rates each answer of a row alone."""
    reference_answers: ReferenceAnswers | None = None
    """Its reference answers; None if it shows none."""
    without_better: Callable[[SourceRecord], str | None] = lambda record: None
    """Why a recorded judgment has no better answer to score it by; None if it has one."""
    better: Callable[[SourceRecord], Label] = given_better
    """The better response of a recorded judgment: A is the first one."""
    recorded_id: Callable[[SourceRecord], RowId | None] | None = None
    """The id of a recorded judgment, None if it has none. Without this function it is the record's `id`."""
    recorded_verdict: Callable[[SourceRecord], Verdict] | None = None
    """The combined verdict of a recorded judgment without text, A for the better answer, if its publisher has such rows."""


def read_records(
    location: str,
    key: str,
    fields: Fields,
    select_files: SelectFiles = lambda paths: paths,
) -> Iterator[SourceRecord]:
    """The records of a file, or of the selected files of a directory. `select_files` takes paths relative to the directory.

    Raises SourceError if a file cannot be read.
    """
    data = record_files(location, key, select_files)
    origins = {
        file: f"{data.root.name}/{file.relative_to(data.root)}" if file != data.root else str(file) for file in data.files
    }
    return (
        SourceRecord(where, origin, values) for file, origin in origins.items() for where, values in read_files([file], fields)
    )


def record_files(location: str, key: str, select_files: SelectFiles = lambda paths: paths) -> DataFiles:
    """The file, or the selected files of a directory. Raises SourceError if there is nothing to read."""
    data = files_at(location, key)
    if data.files == (data.root,):
        return data
    return DataFiles(root=data.root, files=tuple(data.root / path for path in select_files(data.names())))


def pair_row(task: str, position: int, row_id: RowId, subset: str, turns: tuple[Turn, ...], chosen: str, rejected: str) -> Row:
    """A benchmark's row of a pair. Two equal answers are judged like any other pair, as in the code of the benchmarks' authors:
    RewardBench, JudgeBench, LLMBar, RM-Bench and FastChat all ask the judge and count its verdict."""
    row = Row(
        id=f"{task}/{joined_id(*row_id)}",
        position=position,
        task=task,
        subset=subset,
        turns=turns,
        pair=Pair(method=GIVEN, chosen=chosen, rejected=rejected),
    )
    return usable(row)


def unique_id(record: SourceRecord, field: str, subset: str, seen: Seen) -> RowId:
    """The record's subset and its id in it. Raises SourceError if the id is invalid or repeated."""
    row_id = (subset, id_of(record.values[field], field, record.where))
    refuse_seen(row_id, field, record.where, seen)
    return row_id


def texts_of(value: object, field: str, where: str) -> list[str]:
    """A list of strings. Raises SourceError if the value is anything else, or is empty."""
    if not isinstance(value, list) or not value:
        raise wrong_type(value, field, "a list of strings", where)
    return [text_of(member, f"{field}[]", where) for member in value]


def better_of(record: SourceRecord, field: str) -> Label:
    """The better of two responses by a field of the record: A is the first one. Raises SourceError if it names none."""
    return named_response(record.values[field], field, record.where)


def one_of(record: SourceRecord, field: str, known: Iterable[str]) -> str:
    """A field's value. Raises SourceError if it is not one of the known values."""
    if field not in record.values:
        Fields(required=(field,)).check(record.values, record.where)
    value = record.values[field]
    names = list(known)
    if value not in names:
        raise wrong_type(value, field, f"one of {', '.join(names)}", record.where)
    return str(value)
