"""The artifacts of one stream: most rows belong to its main artifact, and some tasks to artifacts of their own.

A judge's benchmarks go through its weights in the pass that judges anyway, but lie apart. So a benchmark that is added to a run
later does not make the judgments of the training pairs stale.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stj.config import EngineConfig
from stj.passes.commit import RowCommitter
from stj.passes.ledger import Ledger
from stj.passes.row_bitmap import RowBitmap
from stj.rows import Row
from stj.storage.artifacts import Artifact


class StreamCommitter:
    """Commits each row to the artifact of its task. The main artifact's ledger holds the cost of the whole stream."""

    def __init__(
        self,
        artifact: Artifact,
        beside: Mapping[str, Artifact],
        config: EngineConfig,
        on_row: Callable[[Row], None] | None,
        total: int | None,
    ) -> None:
        self.finished = RowBitmap()
        main_total = None if beside else total  # how many of all rows belong to each artifact is not known
        self._main = RowCommitter(artifact, config, on_row, main_total, self.finished)
        self._beside = {task: RowCommitter(place, config, on_row, None, self.finished) for task, place in beside.items()}
        self._received = RowBitmap()

    @property
    def _all(self) -> list[RowCommitter]:
        return [self._main, *self._beside.values()]

    @property
    def failed(self) -> int:
        """Number of rows that failed in this start and have not succeeded since."""
        return sum(committer.failed for committer in self._all)

    @property
    def received(self) -> int:
        """Number of different rows received in this stream, including failed ones and those over the limit."""
        return self._received.count

    @property
    def due(self) -> bool:
        """Whether it is time to commit."""
        return any(committer.due for committer in self._all)

    def spend(self, spent: Ledger) -> None:
        """Records the cost of this start so far; the next commit writes it."""
        self._main.spent = spent

    @property
    def cost(self) -> Ledger:
        """The cost of the whole stream over all its starts."""
        return self._main.cost

    def add(self, table: pa.Table) -> pa.Table:
        """Takes finished rows and returns those that are new and did not fail. Raises PassFailed if too many have failed."""
        for row in zip(table["task"].to_pylist(), table["position"].to_pylist(), strict=True):
            self._received.add(*row)
        if not self._beside:
            return self._main.add(table)
        elsewhere = pc.is_in(table["task"], pa.array(self._beside, pa.string()))
        new = [self._main.add(table.filter(pc.invert(elsewhere)))]
        new += [place.add(table.filter(pc.equal(table["task"], task))) for task, place in self._beside.items()]
        return pa.concat_tables(new)

    def cut_left_out(self, limit: int, last_read: int | None) -> bool:
        """Whether a row up to the cut is neither committed nor failed: reading stopped before it, or it came back unasked.

        `last_read` is the position at which reading stopped, None if it came to the end of the source.
        """
        missing = self._main.left_out | ({last_read + 1} if last_read is not None else set())
        cut = self._main.cut(limit)
        return bool(missing) and (cut is None or min(missing) <= cut)

    def begin_stream(self) -> None:
        """Makes ready for another stream of the same rows."""
        self._received = RowBitmap()
        self._main.left_out.clear()

    def commit(self) -> None:
        """Writes the pending rows of every artifact."""
        for committer in self._all:
            committer.commit()

    def finish(
        self,
        price: Callable[[Ledger], float | None] | None,
        limit: int | None = None,
        per_cluster: int | None = None,
        **facts: Any,
    ) -> None:
        """Writes the manifests, that of the main artifact first. Raises PassFailed if no rows came in, or too many failed."""
        elsewhere = sum(committer.useful_tokens() for committer in self._beside.values())
        self._main.finish(price, limit, elsewhere, per_cluster, **facts)
        for committer in self._beside.values():
            committer.finish(None)
