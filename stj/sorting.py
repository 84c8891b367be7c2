"""Training examples in the order of their ids, however many: sorted runs on a scratch disk, then merged."""

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path

import pyarrow.parquet as pq

from stj.rows import Example, example_from_dict, examples_to_table
from stj.storage import out_of_space_told

_RUN_CHARACTERS = 1 << 24  # of one sorted run: what is in memory while runs are made
_ROWS_AT_ONCE = 16  # of each run, while they are merged

_by_id = attrgetter("id")


def sorted_by_id(examples: Iterable[Example]) -> Iterator[Example]:
    """The examples in the order of their ids; they wait in TMPDIR. Raises StjError where there is no room."""
    with tempfile.TemporaryDirectory(prefix="stj-") as scratch:
        runs = [_written(run, Path(scratch) / f"{number}.parquet") for number, run in enumerate(_runs(examples))]
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
    table = examples_to_table(sorted(run, key=_by_id))
    with out_of_space_told(str(path.parent)):
        pq.write_table(table, path, row_group_size=_ROWS_AT_ONCE, compression="zstd")
    return path


def _read(path: Path) -> Iterator[Example]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            yield from map(example_from_dict, batch.to_pylist())
