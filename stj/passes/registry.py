"""What the driver and the engines of a pass know about each other. Every pass starts it as an actor, so it imports little."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stj.passes.ledger import Ledger
from stj.passes.restarts import EngineRestart

_SILENCE_S = 10.0  # A running engine reports every second.


@dataclass(frozen=True, kw_only=True)
class EngineStates:
    """How many engines of a pass wait for a machine, start, and run."""

    waiting: int
    starting: int
    running: int
    starts: int
    """Starts of engines so far; more than there are engines if some died."""


class PassRegistry:
    """The rows on engines, the engines' starts, and what each engine has spent.

    A row that began on an engine and is asked for again, without having ended, was on that engine when it died.
    """

    def __init__(self, driver_node: str | None = None) -> None:
        self._driver_node = driver_node
        self._machines: dict[str, list[str]] = {}
        self._on_engines: set[str] = set()
        self._rows_read = 0
        self._reading = False
        self._spent: dict[str, Ledger] = {}
        self._starts = 0
        self._unfinished_starts: Counter[str] = Counter()
        self._failed_starts = 0
        self._homes: dict[str, str] = {}
        self._last_words: dict[str, str] = {}
        self._restarts: list[EngineRestart] = []
        self._refusal = ""
        self._engines = (0, 0)
        self._waits = ""
        self._table_ends: set[int] = set()
        self._stopped_at: int | None = None
        self._heard_at: dict[str, float] = {}

    def packages_for(self, node: str) -> Any:
        """The ExpectedPackages of an engine's machine; None for the driver's own machine."""
        if self._driver_node in (None, node):
            return None
        from stj.machine.packages import expected_packages

        return expected_packages()

    def record_start_attempt(self, actor: str, machine: str = "", most: int = 0) -> tuple[int, int]:
        """Records that an actor starts its engine on a machine. If it did so before, the engine died, and Ray restarts it.

        Returns the attempts of all actors before this one, and the most attempts of one actor since an engine last started.
        """
        self._starts += 1
        self._unfinished_starts[actor] += 1
        attempt = self._unfinished_starts[actor]
        if actor in self._homes and attempt <= most:
            cause = self._last_words.pop(actor, "")
            self._restarts.append(EngineRestart(machine=self._homes[actor], cause=cause, attempt=attempt, attempts=most))
        self._homes[actor] = machine
        return self._starts - 1, max(self._unfinished_starts.values())

    def record_start(self) -> None:
        """Records that an engine has started, which shows that engines can start."""
        self._unfinished_starts.clear()
        self._failed_starts = 0

    def record_failed_start(self, cause: str, most: int) -> None:
        """Records that an engine did not start. Ray Data starts another one, unless this was the last attempt."""
        self._failed_starts += 1
        if self._failed_starts < most:
            attempt = self._failed_starts + 1
            self._restarts.append(EngineRestart(machine=None, cause=cause, attempt=attempt, attempts=most))

    def record_death(self, actor: str, cause: str) -> None:
        """Records the last words of an actor whose engine has died."""
        self._last_words[actor] = cause

    def restarts(self, known: int) -> list[EngineRestart]:
        """The engines that died or did not start, after those that are known."""
        return self._restarts[known:]

    def record_rows(self, machine: str, begun: Sequence[str], ended: Sequence[str]) -> None:
        """Records rows that begin on an engine of this machine, and rows that ended there without an engine's death."""
        for row_id in begun:
            self._machines.setdefault(row_id, []).append(machine)
        for row_id in ended:
            self._machines.pop(row_id, None)
        self._on_engines.update(begun)
        self._on_engines.difference_update(ended)

    def engine_deaths(self, row_ids: Sequence[str]) -> list[list[str]]:
        """For each of these rows, which are on no engine now, the machines of the engines that died with it."""
        self._on_engines.difference_update(row_ids)
        return [self._machines.get(row_id, []) for row_id in row_ids]

    def record_refusal(self, reason: str) -> None:
        """Records why an API would refuse every further row."""
        self._refusal = reason

    def refusal(self) -> str:
        """Why an API would refuse every further row; empty if it would not."""
        return self._refusal

    def record_reading(self) -> None:
        """Records that a task reads rows."""
        self._reading = True

    def record_rows_read(self, rows: int) -> None:
        """Records that reading has ended after `rows` rows; Ray may repeat the reading."""
        self._rows_read, self._reading = rows, False

    def record_table(self, position: int) -> None:
        """Records that limited rows leave their reading task as one table, up to this position."""
        self._table_ends.add(position)

    def record_stop(self, position: int) -> None:
        """Records that reading the limited rows has stopped at the limit, after this position."""
        self._stopped_at = position

    def earlier_reading(self) -> tuple[set[int], int | None]:
        """The last positions of all tables of limited rows so far, and where reading stopped at the limit, if it has."""
        return set(self._table_ends), self._stopped_at

    def forget_reading(self) -> None:
        """Makes ready for another stream of the same pass."""
        self._table_ends, self._stopped_at, self._rows_read = set(), None, 0

    def activity(self) -> tuple[int, bool]:
        """Rows on engines now, and whether an engine has lately reported that it runs."""
        return len(self._on_engines), bool(self._running())

    def is_reading(self) -> bool:
        """Whether rows are being read."""
        return self._reading

    def rows_read(self) -> int:
        """Rows that were read in this start of the pass."""
        return self._rows_read

    def record_spending(self, engine: str, spent: Ledger) -> None:
        """Records what an engine has spent since its start. Reports of its threads may arrive in any order."""
        self._heard_at[engine] = time.monotonic()
        known = self._spent.get(engine)
        if known is None or spent.engine_seconds > known.engine_seconds:
            self._spent[engine] = spent

    def record_engines(self, missing: int, total: int) -> None:
        """Records how many engines of the pass have no machine, and how many engines it has asked for."""
        self._engines = (missing, total)

    def engines(self) -> tuple[int, int]:
        """Engines without a machine, and all engines that the pass has asked for."""
        return self._engines

    def engine_states(self) -> EngineStates:
        """The engines by what they do now."""
        missing, total = self._engines
        running = min(self._running(), total - missing) if total else self._running()
        starting = max(0, total - missing - running)
        return EngineStates(waiting=missing, starting=starting, running=running, starts=self._starts)

    def _running(self) -> int:
        """Engines that have lately reported that they run."""
        return sum(time.monotonic() - heard_at < _SILENCE_S for heard_at in self._heard_at.values())

    def record_waits(self, words: str) -> None:
        """Records what the missing engines wait for; empty if none is missing."""
        self._waits = words

    def waits(self) -> str:
        """What the missing engines wait for, as last recorded."""
        return self._waits

    def snapshot(self) -> tuple[int, Ledger]:
        """Rows on engines now, and what all engines have spent."""
        return len(self._on_engines), sum(self._spent.values(), Ledger())
