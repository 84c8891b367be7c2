"""The rows of a pass on their way through Ray Data, to the engines and back: in cells, which it cannot cut in two."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
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
"""The column of cells, each a table of rows: Ray Data neither cuts a cell in two nor waits for more rows to fill it."""


def unfinished(read: Callable[[], Iterator[Row]], finished: RowBitmap) -> Iterator[Row]:
    """The rows that are not finished."""
    return (row for row in read() if not finished.has(row.task, row.position))


class RowSource(Datasource):  # type: ignore[misc]
    """The unfinished rows of a pass, streamed by one task, which reports their number at the end.

    The rows of a cell go to an engine together: `rows_per_call`, or fewer. With a window, the rows of `read` are those that a
    limit bounds. The rows of `read_after` follow in any case.
    """

    def __init__(
        self,
        read: Callable[[], Iterator[Row]],
        finished: RowBitmap,
        registry: Any,
        rows_per_call: int,
        read_after: Callable[[], Iterator[Row]] | None = None,
        window: ReadingWindow | None = None,
    ) -> None:
        self._read = read
        self._read_after = read_after
        self._finished = finished
        self._registry = registry
        self._rows_per_call = rows_per_call
        self._window = window

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(self.tables, metadata)]

    def tables(self) -> Iterator[pa.Table]:
        """Reads the rows, in small tables of cells."""
        ray.get(self._registry.record_reading.remote())
        count = 0
        for rows in self._batches():
            count += len(rows)
            yield seal(map(rows_to_table, _groups(rows, self._rows_per_call)))
        ray.get(self._registry.record_rows_read.remote(count))

    def _batches(self) -> Iterator[list[Row]]:
        size = max(1, _ROWS_PER_READ // self._rows_per_call) * self._rows_per_call
        yield from self._all(self._read, size) if self._window is None else self._limited(self._window, size)
        if self._read_after is not None:
            yield from self._all(self._read_after, size)

    def _all(self, read: Callable[[], Iterator[Row]], size: int) -> Iterator[list[Row]]:
        return _groups(unfinished(read, self._finished), size)

    def _limited(self, window: ReadingWindow, size: int) -> Iterator[list[Row]]:
        """The rows that the window lets through; less than `size` together where it says that they must leave."""
        batch: list[Row] = []
        for row in chain(window.rows(self._read), [None]):
            if row is not None and not self._finished.has(row.task, row.position):
                batch.append(row)
            if batch and (row is None or len(batch) >= min(size, window.most_held_back)):
                window.record(batch[-1].position)
                yield batch
                batch = []


def _groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """The rows, `size` together; the last group may be smaller."""
    rows = iter(rows)
    while group := list(islice(rows, size)):
        yield group


def seal(tables: Iterable[pa.Table]) -> pa.Table:
    """Packs each table into a cell of another table."""
    return pa.table({SEALED: pa.array(map(_bytes, tables), pa.large_binary())})


def unseal(cell: pa.LargeBinaryScalar) -> pa.Table:
    """Unpacks a table that `seal` packed into a cell."""
    return pa.ipc.open_stream(cell.as_buffer()).read_all()


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
