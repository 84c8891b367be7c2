"""What can be viewed, as sources of rows: artifacts on disk, or rows in memory.

A source holds what one judge judged, or the pairs that no judge has seen yet. The index joins sources by the ids of their rows.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from stj.errors import NoArtifact
from stj.rows import HELDOUT, Row, row_from_dict
from stj.storage.artifacts import MANIFEST, STARTED, Artifact, read_artifact
from stj.storage.folder import Folder
from stj.viewing.examples import examples_as_rows

_ROW, _EXAMPLE = {"id", "task", "turns"}, {"id", "messages", "completion"}
_DEPTH = 4  # RUN_ROOT/iteration_1/warm_up/opinions/NAME is the deepest place of judged rows.
_BATCH_ROWS = 4096
_JUDGED = re.compile(r"iteration_(\d+)/judged")
_MEASURED = re.compile(r"heldout_(\d+)|benchmarks_(\d+)/.+")


class Source(Protocol):
    """Rows in a fixed order, numbered from 0."""

    @property
    def judge(self) -> str:
        """Who judged the rows."""
        ...

    @property
    def by_prompt(self) -> bool:
        """Whether a row's task is the prompt of a juror, and its id begins with it: so `stj judge` keeps its rows."""
        ...

    def batches(self, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows with these fields alone, as far as the source has them; a dot leads into a struct: `judgments.verdict`."""
        ...

    def row(self, number: int) -> Row:
        """One row."""
        ...


@dataclass(frozen=True)
class ArtifactSource:
    """The rows of an artifact, finished or not. Only what is asked for is read."""

    artifact: Artifact
    judge: str

    @property
    def by_prompt(self) -> bool:
        """Whether `stj judge` made the artifact."""
        return self.artifact.key.get("step") == "judge_file"

    def batches(self, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, part after part."""
        for name in self._names:
            with self.artifact.opened(name) as file:
                yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=_paths(file, fields))

    def row(self, number: int) -> Row:
        """One row."""
        return row_from_dict(self.record(number))

    def record(self, number: int) -> dict[str, Any]:
        """One row as Arrow gives it back. Its batch is kept, because the next row that is asked for is often beside it."""
        kept = self._kept.get("batch")  # Another thread may replace it meanwhile.
        if kept is None or not kept.holds(number):
            kept = self._kept["batch"] = self._batch(number)
        record: dict[str, Any] = kept.rows.slice(number - kept.start, 1).to_pylist()[0]
        return record

    def _batch(self, number: int) -> "_Batch":
        """The batch that holds a row; only the batches before it in its part are read."""
        part = bisect_right(self._ends, number)
        start = self._ends[part - 1] if part else 0
        with self.artifact.opened(self._names[part]) as file:
            return _batch_with(file, start, number)

    @cached_property
    def _kept(self) -> "dict[str, _Batch]":
        return {}

    @cached_property
    def _names(self) -> list[str]:
        return self.artifact.parts()

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self._size(name) for name in self._names))

    def _size(self, name: str) -> int:
        with self.artifact.opened(name) as file:
            rows: int = file.metadata.num_rows
            return rows


class _Batch(NamedTuple):
    """Rows of an artifact that follow each other."""

    start: int
    """Number of the first one."""
    rows: pa.RecordBatch

    def holds(self, number: int) -> bool:
        """Whether a row is among them."""
        end: int = self.start + self.rows.num_rows
        return self.start <= number < end


@dataclass(frozen=True)
class TableSource:
    """Rows in memory, as a table of ROW_SCHEMA."""

    table: pa.Table
    judge: str
    by_prompt: bool = False

    def batches(self, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, with all fields."""
        yield from self.table.to_batches(max_chunksize=_BATCH_ROWS)

    def row(self, number: int) -> Row:
        """One row."""
        return row_from_dict(self.table.slice(number, 1).to_pylist()[0])


def sources_at(folder: Folder) -> list[Source]:
    """The sources in an artifact's folder, or in the folder of a run, of evaluations, or of `stj judge`.

    Training examples are shown only if `folder` is their artifact: in a run they repeat the judgments.

    Raises NoArtifact if no artifact there holds rows.
    """
    if any(folder.exists(record) for record in (MANIFEST, STARTED)) and _columns(alone := read_artifact(folder)) >= _EXAMPLE:
        return [TableSource(examples_as_rows(alone.records()), "training examples")]
    named = [(name, artifact) for name, artifact in artifacts_in(folder) if _columns(artifact) >= _ROW]
    if not named:
        raise NoArtifact(f"{folder.uri}: no rows here: give the directory of a run, of an evaluation or of an artifact")
    whole = [ArtifactSource(artifact, _judge(name, artifact, folder)) for name, artifact in named]
    return sorted(whole, key=lambda source: _place(source.judge))


def artifacts_in(folder: Folder) -> Iterator[tuple[str, Artifact]]:
    """The artifacts in a folder and below it, finished or not, by their names relative to it."""
    return _artifacts(folder, "", _DEPTH)


def _artifacts(folder: Folder, name: str, depth: int) -> Iterator[tuple[str, Artifact]]:
    here = folder / name if name else folder
    if any(here.exists(record) for record in (MANIFEST, STARTED)):
        yield name, read_artifact(here)
        return
    for inner in here.folders() if depth else ():
        yield from _artifacts(folder, f"{name}/{inner}" if name else inner, depth - 1)


def _columns(artifact: Artifact) -> set[str]:
    """The columns of the rows; none if there are no rows, as in a model."""
    for name in artifact.parts():
        with artifact.opened(name) as file:
            return set(file.schema_arrow.names)
    return set()


def _judge(name: str, artifact: Artifact, folder: Folder) -> str:
    """The judge of a pass of a run: M_0, M_1, ...; elsewhere the name of the folder.

    The first judge of the training pairs may be another model than M_0, the seed. It is M_0 if its pass also measures it.
    """
    if measured := _MEASURED.fullmatch(name):
        return f"M_{measured[1] or measured[2]}"
    if (judged := _JUDGED.fullmatch(name)) and int(judged[1]) > 1:
        return f"M_{int(judged[1]) - 1}"
    if judged or name == "pairs":
        return "M_0" if HELDOUT in {record["task"] for record in artifact.records(["task"])} else "first judge"
    return name or folder.uri.rstrip("/").rpartition("/")[2]


def _place(judge: str) -> tuple[int, int | str]:
    number = judge.removeprefix("M_")
    if judge == "first judge":
        return 0, ""
    return (1, f"{int(number):06d}") if judge != number and number.isdigit() else (2, judge)


def _paths(file: pq.ParquetFile, fields: Sequence[str]) -> list[str]:
    """The Parquet columns of these fields: a list has a level of its own, `judgments.list.element.verdict`."""
    paths = [file.schema.column(place).path for place in range(len(file.schema))]
    wanted = tuple(fields)
    return [path for path in paths if _field(path) in wanted or _field(path).startswith(tuple(f"{name}." for name in wanted))]


def _field(path: str) -> str:
    return re.sub(r"\.list\.[^.]+", "", path)


def _batch_with(file: pq.ParquetFile, start: int, number: int) -> _Batch:
    """The batch of a file that holds a row; the file's first row has the number `start`."""
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if number >= start + rows:
            start += rows
            continue
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
            if (rows_here := _Batch(start, batch)).holds(number):
                return rows_here
            start += batch.num_rows
    raise IndexError(number)
