"""The reading of a limited pass: it stops at the limit, and never gets more than the rows in flight ahead of what it needs.

A row is read if it certainly counts, or lies at most `ahead` rows beyond the last one that does (passes/cut.py). So at most
`ahead` rows beyond the cut are read, whatever the answers are, and however fast each engine is.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import ray

from stj.passes.gate import RayGate
from stj.rows import Row

_ROWS_PER_TABLE = 16
_POLL_S = 0.05
_IDLE_S = 30.0  # If the engines have nothing to do for this long, the gate has forgotten rows: Ray has started it again.


class ReadingWindow:
    """Takes the rows of one reading task, in input order, as far as they may be read.

    Ray repeats a task whose machine died, and skips as many tables as it has. The registry knows how far the task had come, so
    that the repetition yields the same tables.
    """

    def __init__(self, gate: RayGate, registry: Any, ahead: int) -> None:
        self._gate = gate
        self._registry = registry
        self._ahead = self._step = ahead
        self._idle_since: float | None = None
        self.rows_per_table = max(1, min(_ROWS_PER_TABLE, ahead // 4))
        """Rows that leave the reading task together: few, because those of a table that is not full reach no engine."""

    def rows(self, read: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        """The rows up to the limit. The source is closed then. Raises ValueError if the rows are not in input order."""
        known, stopped = ray.get(self._registry.earlier_reading.remote())
        rows, position, may_read = read(), -1, -1
        try:
            while position < known or not (stopped or (may_read := self._next(position, may_read)) <= position):
                row = next(rows, None)
                if row is None:
                    return
                if row.position <= position:
                    raise ValueError(f"row {row.id} at position {row.position} comes after position {position}")
                if row.position > position + 1:
                    self._gate.absent(position + 1, row.position)
                position = row.position
                yield row
        finally:
            if close := getattr(rows, "close", None):
                close()
        ray.get(self._registry.record_stop.remote(position))

    def _next(self, position: int, may_read: int) -> int:
        """The last position to read now, after a wait if there is none to read yet; `position` if reading ends there."""
        final = False
        while may_read <= position and not final:
            may_read, final = self._gate.may_read(self._ahead)
            if may_read <= position and not final:
                self._wait()
        return may_read

    def _wait(self) -> None:
        """Waits for rows to end. If none is on its way any more, reading goes further."""
        now = time.monotonic()
        if not ray.get(self._registry.is_idle.remote()):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > _IDLE_S:
            self._ahead, self._idle_since = self._ahead + self._step, None
        time.sleep(_POLL_S)

    def record(self, position: int) -> None:
        """Records that rows up to this position are read, before they leave the reading task."""
        ray.get(self._registry.record_position.remote(position))
