"""Sorts any number of examples by id, or of rows by position: sorted runs on a scratch disk, then a merge.

A run is a stream of small Arrow batches, and its reader holds one batch. A Parquet reader would hold the whole file's metadata.
"""

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from stj.rows import (
    EXAMPLE_SCHEMA,
    ROW_SCHEMA,
    Example,
    Row,
    example_from_dict,
    examples_to_table,
    row_from_dict,
    rows_to_table,
)
from stj.storage.folder import explain_write_failure

_T = TypeVar("_T")

_RUN_CHARACTERS = 1 << 24  # One sorted run holds 16M characters of text.
_ROWS_AT_ONCE = 16  # The merge holds this many rows of each run.


@dataclass(frozen=True, kw_only=True)
class _Sort(Generic[_T]):
    """How things of one type are ordered, measured, written and read."""

    key: Callable[[_T], Any]
    size: Callable[[_T], int]
    """Characters of text, about."""
    schema: pa.Schema
    to_table: Callable[[Iterable[_T]], pa.Table]
    from_dict: Callable[[Mapping[str, Any]], _T]

    def sorted(self, things: Iterable[_T]) -> Iterator[_T]:
        """The things in order; they wait in TMPDIR. Raises StjError if there is no room."""
        with tempfile.TemporaryDirectory(prefix="stj-") as scratch:
            runs = [self._written(run, Path(scratch) / f"{number}.arrow") for number, run in enumerate(self._runs(things))]
            yield from heapq.merge(*map(self._read, runs), key=self.key)

    def _runs(self, things: Iterable[_T]) -> Iterator[list[_T]]:
        run: list[_T] = []
        size = 0
        for thing in things:
            run.append(thing)
            size += self.size(thing)
            if size > _RUN_CHARACTERS:
                yield run
                run, size = [], 0
        if run:
            yield run

    def _written(self, run: list[_T], path: Path) -> Path:
        run.sort(key=self.key)
        with (
            explain_write_failure(str(path.parent)),
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_stream(file, self.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer,
        ):
            for start in range(0, len(run), _ROWS_AT_ONCE):
                writer.write_table(self.to_table(run[start : start + _ROWS_AT_ONCE]))
        return path

    def _read(self, path: Path) -> Iterator[_T]:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                yield from map(self.from_dict, batch.to_pylist())


def _example_size(example: Example) -> int:
    return len(example.completion) + len(example.rejected or "") + sum(len(turn.content) for turn in example.messages)


def _row_size(row: Row) -> int:
    answers = len(row.pair.chosen) + len(row.pair.rejected) if row.pair else 0
    return answers + len(row.detail or "") + sum(len(turn.content) for turn in row.turns)


_EXAMPLES: _Sort[Example] = _Sort(
    key=attrgetter("id"),
    size=_example_size,
    schema=EXAMPLE_SCHEMA,
    to_table=examples_to_table,
    from_dict=example_from_dict,
)
_ROWS: _Sort[Row] = _Sort(
    key=attrgetter("position"), size=_row_size, schema=ROW_SCHEMA, to_table=rows_to_table, from_dict=row_from_dict
)


def sorted_by_id(examples: Iterable[Example]) -> Iterator[Example]:
    """The examples in the order of their ids; they wait in TMPDIR. Raises StjError if there is no room."""
    return _EXAMPLES.sorted(examples)


def sorted_by_position(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows in the order of their positions; they wait in TMPDIR. Raises StjError if there is no room."""
    return _ROWS.sorted(rows)
