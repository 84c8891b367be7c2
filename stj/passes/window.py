"""The reading of a limited pass: it stops at the limit, and never gets more than the rows in flight ahead of what it needs.

A row is read if it certainly counts, or lies at most `ahead` rows beyond the last one that does (passes/cut.py). So at most
`ahead` rows beyond the cut are read, whatever the answers are, and however fast each engine is.
"""

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import ray

from stj.passes.gate import RayGate
from stj.rows import Row

_POLL_S = 0.05
# If the engines have nothing to do for this long, the gate has forgotten rows: Ray has started it again. By default, finished
# rows are on disk after 20 s.
_IDLE_S = 30.0


class ReadingWindow:
    """Takes the rows of one reading task, in input order, as far as they may be read.

    Ray repeats a task whose machine died, and skips as many tables as it has. The registry knows where each table ended, so
    that the repetition yields the same tables.
    """

    def __init__(self, gate: RayGate, registry: Any, ahead: int) -> None:
        self._gate = gate
        self._registry = registry
        self._ahead = self._step = ahead
        self._idle_since: float | None = None
        self._reminded = False
        self.most_held_back = max(1, ahead // 4)
        """Rows that may wait for a table to fill up: few of those that may be read, because they reach no engine meanwhile."""

    def rows(self, read: Callable[[], Iterator[Row]]) -> Iterator[Row | None]:
        """The rows up to the limit, and None where those before must leave, however few they are. The source is closed then.

        Raises ValueError if the rows are not in input order.
        """
        ends, stopped_at = ray.get(self._registry.earlier_reading.remote())
        known = max(ends, default=-1) if stopped_at is None else stopped_at
        rows, position, may_read = read(), -1, known
        try:
            while position < known or stopped_at is None:
                if may_read <= position:
                    may_read = yield from self._permission(position)
                    if may_read <= position:
                        ray.get(self._registry.record_stop.remote(position))
                        return
                row = next(rows, None)
                if row is None:
                    return
                self._note_gap(position, row)
                position = row.position
                yield row
                if position in ends:
                    yield None
        finally:
            if close := getattr(rows, "close", None):
                close()

    def _note_gap(self, position: int, row: Row) -> None:
        if row.position <= position:
            raise ValueError(f"row {row.id} at position {row.position} comes after position {position}")
        if row.position > position + 1:
            self._gate.absent(position + 1, row.position)

    def _permission(self, position: int) -> Generator[None, None, int]:
        """The last position to read now, after a wait if there is none to read yet; `position` if reading ends there.

        If the engines run out of rows meanwhile, those that were read so far must leave: what is waited for is among them.
        """
        while True:
            may_read, final = self._gate.may_read(self._ahead)
            if may_read > position or final:
                return max(may_read, position)
            if self._engines_are_idle():
                yield None
            time.sleep(_POLL_S)

    def _engines_are_idle(self) -> bool:
        """Whether no row is on an engine. If that lasts, nothing that the gate waits for is on its way any more."""
        now = time.monotonic()
        on_engines, running = ray.get(self._registry.activity.remote())
        if on_engines or not running:
            self._idle_since, self._reminded = None, False
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > _IDLE_S:
            self._help_gate()
            self._idle_since = None
        return not on_engines

    def _help_gate(self) -> None:
        """Has the gate learn the rows on disk. If it still lacks some, which failed, reading goes further."""
        if self._reminded:
            self._ahead += self._step
        else:
            self._gate.load()
        self._reminded = not self._reminded

    def record(self, position: int) -> None:
        """Records where a table ends, before it leaves the reading task."""
        ray.get(self._registry.record_table.remote(position))
