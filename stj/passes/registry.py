"""What the driver and the engines of a pass know about each other. Every pass starts it as an actor, so it imports little."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from stj.passes.ledger import Ledger


class PassRegistry:
    """The rows on engines, the engines' starts, and what each engine has spent.

    A row that began on an engine and is asked for again, without having ended, was on that engine when it died.
    """

    def __init__(self, driver_node: str | None = None) -> None:
        self._driver_node = driver_node
        self._machines: dict[str, list[str]] = {}
        self._rows_read = 0
        self._reading = False
        self._spent: dict[str, Ledger] = {}
        self._starts = 0
        self._unfinished_starts: Counter[str] = Counter()
        self._refusal = ""
        self._engines = (0, 0)
        self._waits = ""
        self._position = -1
        self._stopped = False

    def packages_for(self, node: str) -> Any:
        """The ExpectedPackages of an engine's machine; None for the driver's own machine."""
        if self._driver_node in (None, node):
            return None
        from stj.machine.packages import expected_packages

        return expected_packages()

    def record_start_attempt(self, actor: str) -> tuple[int, int]:
        """Records that an actor starts its engine.

        Returns the attempts of all actors before this one, and the most attempts of one actor since an engine last started.
        """
        self._starts += 1
        self._unfinished_starts[actor] += 1
        return self._starts - 1, max(self._unfinished_starts.values())

    def record_start(self) -> None:
        """Records that an engine has started, which shows that engines can start."""
        self._unfinished_starts.clear()

    def record_rows(self, machine: str, begun: Sequence[str], ended: Sequence[str]) -> None:
        """Records rows that begin on an engine of this machine, and rows that ended there without an engine's death."""
        for row_id in begun:
            self._machines.setdefault(row_id, []).append(machine)
        for row_id in ended:
            self._machines.pop(row_id, None)

    def engine_deaths(self, row_ids: Sequence[str]) -> list[list[str]]:
        """For each of these rows, which are on no engine now, the machines of the engines that died with it."""
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

    def record_position(self, position: int) -> None:
        """Records that the limited rows up to this position are read."""
        self._position = max(self._position, position)

    def record_stop(self, position: int) -> None:
        """Records that reading the limited rows has stopped at the limit, after this position."""
        self._position, self._stopped = position, True

    def earlier_reading(self) -> tuple[int, bool]:
        """The last position that was read of the limited rows, -1 if none was, and whether reading stopped at the limit."""
        return self._position, self._stopped

    def forget_reading(self) -> None:
        """Makes ready for another stream of the same pass."""
        self._position, self._stopped, self._rows_read = -1, False, 0

    def is_idle(self) -> bool:
        """Whether engines have started and none has a row."""
        return self._starts > 0 and not self._unfinished_starts and not self._machines

    def is_reading(self) -> bool:
        """Whether rows are being read."""
        return self._reading

    def rows_read(self) -> int:
        """Rows that were read in this start of the pass."""
        return self._rows_read

    def record_spending(self, engine: str, spent: Ledger) -> None:
        """Records what an engine has spent since its start. Reports of its threads may arrive in any order."""
        known = self._spent.get(engine)
        if known is None or spent.engine_seconds > known.engine_seconds:
            self._spent[engine] = spent

    def record_engines(self, missing: int, total: int) -> None:
        """Records how many engines of the pass have no machine, and how many engines it has asked for."""
        self._engines = (missing, total)

    def engines(self) -> tuple[int, int]:
        """Engines without a machine, and all engines that the pass has asked for."""
        return self._engines

    def record_waits(self, words: str) -> None:
        """Records what the missing engines wait for; empty if none is missing."""
        self._waits = words

    def waits(self) -> str:
        """What the missing engines wait for, as last recorded."""
        return self._waits

    def snapshot(self) -> tuple[int, Ledger]:
        """Rows on engines now, and what all engines have spent."""
        return len(self._machines), sum(self._spent.values(), Ledger())
