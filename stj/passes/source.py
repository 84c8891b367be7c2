"""Rows on their way into a pass and out of it: blocks that Ray Data reads, and cells that it cannot cut in two."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from stj.passes.row_bitmap import RowBitmap
from stj.rows import Row, rows_to_table

_ROWS_READ = 16  # at once: Ray takes some 20 ms for whatever is read, and an engine would wait for single rows
SEALED = "rows"


def unfinished(read: Callable[[], Iterator[Row]], finished: RowBitmap) -> Iterator[Row]:
    """The rows that are not done."""
    return (row for row in read() if not finished.has(row.task, row.position))


class RowSource(Datasource):  # type: ignore[misc]
    """Rows of a pass that are not done, read by one task that yields them as it goes, and says in the end how many."""

    def __init__(self, read: Callable[[], Iterator[Row]], finished: RowBitmap, ward: Any) -> None:
        self._read = read
        self._finished = finished
        self._ward = ward

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(self._tables, metadata)]

    def _tables(self) -> Iterator[pa.Table]:
        ray.get(self._ward.reads.remote())
        rows, count = unfinished(self._read, self._finished), 0
        while some := list(islice(rows, _ROWS_READ)):
            count += len(some)
            yield rows_to_table(some)
        ray.get(self._ward.read.remote(count))


def sealed(table: pa.Table) -> pa.Table:
    """A table as one cell of another, which cannot be cut in two."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.table({SEALED: pa.array([sink.getvalue().to_pybytes()], pa.large_binary())})


def opened(cell: pa.LargeBinaryScalar) -> pa.Table:
    return pa.ipc.open_stream(cell.as_buffer()).read_all()
