"""Commits the finished rows of a pass to its artifact, every few seconds and each row once.

A suspended driver that was taken for dead may write one more file when it wakes up. An object store has no lock to stop it.
So a pass rests on the files that its own driver read and wrote, not on all files in the folder at the end.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from stj.config import EngineConfig
from stj.errors import PassFailed
from stj.passes.cluster_gate import per_cluster_parts
from stj.passes.ledger import Ledger, read_ledger
from stj.passes.limit import FAILED, count_passed, cut_of, limit_parts, selection_records
from stj.passes.row_bitmap import RowBitmap
from stj.rows import TRAINING, Row, row_from_dict, rows_to_table
from stj.stages.select import OVER_LIMIT
from stj.storage.artifacts import Artifact

_MIN_FAILED = 64  # Above it, stop if more rows failed than finished or than may fail: later rows cannot change that.
_PENDING_BYTES = 1 << 26  # Commit at this size, so that rows that arrive fast do not fill the memory.


class RowCommitter:
    """Takes finished rows, commits them, and writes the manifest at the end."""

    def __init__(
        self,
        artifact: Artifact,
        config: EngineConfig,
        on_row: Callable[[Row], None] | None,
        total: int | None = None,
        finished: RowBitmap | None = None,
    ) -> None:
        self._artifact = artifact
        self._config = config
        self._may_fail = math.inf if total is None else config.max_failed_fraction * total
        self._on_row = on_row
        artifact.remove_parts(FAILED)  # failed rows are tried again
        self.finished = RowBitmap() if finished is None else finished
        """The finished rows; the committers of one stream share it, and no two of them have the same task."""
        self._committed = 0  # rows of this artifact that are finished
        self._parts = [part for part in artifact.parts() if self._mark_finished(part)]
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._pending_rows = 0
        self._failed: dict[tuple[str, int], dict[str, Any]] = {}
        self.left_out: set[int] = set()
        """Positions of rows that came back unasked: k rows before them were believed to pass, which only the end can show."""
        self._committed_at = time.monotonic()
        self._earlier_cost = read_ledger(artifact.folder) + Ledger(starts=1)
        self.spent = Ledger()
        """Cost of this start so far, written with each commit."""

    def _mark_finished(self, part: str) -> bool:
        """Marks the rows of a part as finished; returns False and marks none if the part repeats a finished row."""
        rows = [(record["task"], record["position"]) for record in self._artifact.records(["task", "position"], [part])]
        new = not any(self.finished.has(*row) for row in rows)
        if new:
            for row in rows:
                self._committed += self.finished.add(*row)
        return new

    @property
    def failed(self) -> int:
        """Number of rows that failed in this start and have not succeeded since."""
        return len(self._failed)

    def add(self, table: pa.Table) -> pa.Table:
        """Takes finished rows and returns those that are new and did not fail.

        A row that arrives twice counts once: Ray repeats the rows of an engine that died. A row over the limit is only noted.

        Raises PassFailed if more rows have failed than have finished, or than may fail in the whole pass.
        """
        fresh: list[bool] = []
        columns = (table[name].to_pylist() for name in ("task", "position", "error", "dropped"))
        for index, (task, position, error, dropped) in enumerate(zip(*columns, strict=True)):
            if dropped == OVER_LIMIT:
                self.left_out.add(position)
                fresh.append(False)
                continue
            fresh.append(error is None and self.finished.add(task, position))
            if fresh[-1]:
                self._committed += 1
                self._failed.pop((task, position), None)
            elif error is not None and not self.finished.has(task, position):
                self._failed[task, position] = table.slice(index, 1).to_pylist()[0]
        new = table if all(fresh) else table.filter(pa.array(fresh, pa.bool_()))
        self._take(new)
        if len(self._failed) > max(_MIN_FAILED, min(self._committed, self._may_fail)):
            raise self._too_many_failed()
        return new

    def _take(self, new: pa.Table) -> None:
        if new.num_rows:
            self._pending.append(new)
            self._pending_bytes += new.nbytes
            self._pending_rows += new.num_rows
            if self._on_row is not None:
                for record in new.to_pylist():
                    self._on_row(row_from_dict(record))

    @property
    def cost(self) -> Ledger:
        """The cost over all starts."""
        return self._earlier_cost + self.spent

    @property
    def due(self) -> bool:
        """Whether it is time to commit."""
        full = self._pending_bytes > _PENDING_BYTES or self._pending_rows >= self._config.rows_in_flight
        return full or time.monotonic() - self._committed_at > self._config.commit_interval_s

    def commit(self) -> None:
        """Writes the pending rows as one immutable file. Their cost is written first, so that it is never too low."""
        self.cost.write(self._artifact.folder)
        if self._pending:
            self._parts.append(self._artifact.write_part("part", pa.concat_tables(self._pending)))
            self._pending, self._pending_bytes, self._pending_rows = [], 0, 0
        self._committed_at = time.monotonic()

    def cut(self, limit: int) -> int | None:
        """Position of the last row that the limit takes, None if fewer pass, of the committed and the failed rows."""
        failed = [record for record in self._failed.values() if record["task"] == TRAINING]
        return cut_of(chain(selection_records(self._artifact, self._parts), failed), limit)

    def useful_tokens(self) -> int:
        """Output tokens that the committed rows needed."""
        counts = _counts(self._artifact, self._parts)
        return int(counts["output_tokens"] - counts["surplus_tokens"])

    def finish(
        self,
        price: Callable[[Ledger], float | None] | None,
        limit: int | None = None,
        useful_elsewhere: int = 0,
        per_cluster: int | None = None,
        **facts: Any,
    ) -> None:
        """Adds the failed rows, applies the limits, and writes the manifest with all counts; `price` is in dollars.

        `useful_elsewhere` are output tokens of the same engines that rows of other artifacts needed.

        Raises PassFailed if no rows came in or too many rows failed.
        """
        total = self._committed + len(self._failed)
        if not total:
            raise PassFailed(f"{self._artifact.folder.uri}: no rows came in; there is nothing to do")
        if len(self._failed) > self._config.max_failed_fraction * total:
            raise self._too_many_failed()
        if self._failed:
            rows = map(row_from_dict, self._failed.values())
            self._parts.append(self._artifact.write_part(FAILED, rows_to_table(rows)))
        if limit is not None:
            self._parts = limit_parts(self._artifact, self._parts, limit)
            facts["passed_rule"] = count_passed(self._artifact, self._parts)
        if per_cluster is not None:
            self._parts = per_cluster_parts(self._artifact, self._parts, per_cluster)
        counts = _counts(self._artifact, self._parts)
        useful = counts["output_tokens"] - counts["failed_tokens"] - counts["surplus_tokens"] + useful_elsewhere
        spent = self.cost
        self._artifact.finish(self._parts, **counts, ledger=spent.facts(useful, price(spent) if price else None), **facts)

    def _too_many_failed(self) -> PassFailed:
        record = next(iter(self._failed.values()))
        return PassFailed(
            f"{self._artifact.folder.uri}: {len(self._failed)} of {self._committed + len(self._failed)} rows failed, more "
            f"than engine.max_failed_fraction={self._config.max_failed_fraction:g}; row {record['id']}: {record['error']}. "
            "The other rows are kept; run again to retry the failed ones"
        )


def _counts(artifact: Artifact, parts: Sequence[str]) -> dict[str, Any]:
    """Counts of the rows by their outcome, for the manifest."""
    dropped: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    totals = Counter(failed=0, pairs=0, prompt_tokens=0, output_tokens=0, surplus_tokens=0, failed_tokens=0)
    nested = ["judgments.list.element.index", "category.name", "pair.method"]
    for record in artifact.records(
        ["task", "dropped", "error", "kept", "prompt_tokens", "output_tokens", "surplus_tokens", *nested], parts
    ):
        totals["failed"] += record["error"] is not None
        totals["pairs"] += record["pair"] is not None and record["task"] == TRAINING
        totals["prompt_tokens"] += record["prompt_tokens"]
        totals["output_tokens"] += record["output_tokens"]
        if record["error"] is None:
            totals["surplus_tokens"] += record["surplus_tokens"]
        else:
            totals["failed_tokens"] += record["output_tokens"]
        if record["dropped"]:
            dropped[record["dropped"]] += 1
        if record["judgments"] and record["category"]:
            judged[record["category"]["name"]] += 1
            accepted[record["category"]["name"]] += record["kept"] is not None
    by_category = {name: {"judged": count, "kept": accepted[name]} for name, count in sorted(judged.items())}
    return {"dropped": dict(sorted(dropped.items())), "accepted_by_category": by_category, **totals}
