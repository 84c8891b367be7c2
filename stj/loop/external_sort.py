"""Sorts any number of training examples by id: sorted runs on a scratch disk, then a merge.

A run is a stream of small Arrow batches, and its reader holds one batch. A Parquet reader would hold the whole file's metadata.
"""

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from stj.rows import EXAMPLE_SCHEMA, Example, example_from_dict, examples_to_table
from stj.storage.folder import explain_write_failure

_RUN_CHARACTERS = 1 << 24  # One sorted run holds 16M characters of text.
_ROWS_AT_ONCE = 16  # The merge holds this many rows of each run.

_by_id = attrgetter("id")


def sorted_by_id(examples: Iterable[Example]) -> Iterator[Example]:
    """The examples in the order of their ids; they wait in TMPDIR. Raises StjError if there is no room."""
    with tempfile.TemporaryDirectory(prefix="stj-") as scratch:
        runs = [_written(run, Path(scratch) / f"{number}.arrow") for number, run in enumerate(_runs(examples))]
        yield from heapq.merge(*map(_read, runs), key=_by_id)


def _runs(examples: Iterable[Example]) -> Iterator[list[Example]]:
    run: list[Example] = []
    size = 0
    for example in examples:
        run.append(example)
        size += len(example.completion) + len(example.rejected or "") + sum(len(turn.content) for turn in example.messages)
        if size > _RUN_CHARACTERS:
            yield run
            run, size = [], 0
    if run:
        yield run


def _written(run: list[Example], path: Path) -> Path:
    run.sort(key=_by_id)
    with (
        explain_write_failure(str(path.parent)),
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, EXAMPLE_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer,
    ):
        for start in range(0, len(run), _ROWS_AT_ONCE):
            writer.write_table(examples_to_table(run[start : start + _ROWS_AT_ONCE]))
    return path


def _read(path: Path) -> Iterator[Example]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            yield from map(example_from_dict, batch.to_pylist())
