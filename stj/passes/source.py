"""The rows of a pass on their way through Ray Data: read as blocks, and returned as cells that it cannot cut in two."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from stj.passes.row_bitmap import RowBitmap
from stj.passes.window import ReadingWindow
from stj.rows import Row, rows_to_table

_ROWS_PER_READ = 16  # Ray takes about 20 ms per block that is read: with single rows an engine would wait for them.
SEALED = "rows"


def unfinished(read: Callable[[], Iterator[Row]], finished: RowBitmap) -> Iterator[Row]:
    """The rows that are not finished."""
    return (row for row in read() if not finished.has(row.task, row.position))


class RowSource(Datasource):  # type: ignore[misc]
    """The unfinished rows of a pass, streamed by one task, which reports their number at the end.

    With a window, the rows of `read` are those that a limit bounds. The rows of `read_after` follow in any case.
    """

    def __init__(
        self,
        read: Callable[[], Iterator[Row]],
        finished: RowBitmap,
        registry: Any,
        read_after: Callable[[], Iterator[Row]] | None = None,
        window: ReadingWindow | None = None,
    ) -> None:
        self._read = read
        self._read_after = read_after
        self._finished = finished
        self._registry = registry
        self._window = window

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(self.tables, metadata)]

    def tables(self) -> Iterator[pa.Table]:
        """Reads the rows, in small tables."""
        ray.get(self._registry.record_reading.remote())
        count = 0
        for batch in self._batches():
            count += len(batch)
            yield rows_to_table(batch)
        ray.get(self._registry.record_rows_read.remote(count))

    def _batches(self) -> Iterator[list[Row]]:
        if self._window is None:
            yield from self._batches_of(self._read, _ROWS_PER_READ)
        else:
            for batch in self._batches_of(partial(self._window.rows, self._read), self._window.rows_per_table):
                self._window.record(batch[-1].position)
                yield batch
        if self._read_after is not None:
            yield from self._batches_of(self._read_after, _ROWS_PER_READ)

    def _batches_of(self, read: Callable[[], Iterator[Row]], size: int) -> Iterator[list[Row]]:
        rows = unfinished(read, self._finished)
        while batch := list(islice(rows, size)):
            yield batch


def seal(table: pa.Table) -> pa.Table:
    """Packs a table into one cell of another table, which cannot be cut in two."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pa.table({SEALED: pa.array([sink.getvalue().to_pybytes()], pa.large_binary())})


def unseal(cell: pa.LargeBinaryScalar) -> pa.Table:
    """Unpacks the table that `seal` packed into a cell."""
    return pa.ipc.open_stream(cell.as_buffer()).read_all()
