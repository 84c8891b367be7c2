"""What the actors of a pass share, each in an actor of its own: a module that is imported in no time, at every pass."""

from collections import Counter
from collections.abc import Sequence

from stj.passes.ledger import Ledger
from stj.stages.select import SelectionLimit


class PassRegistry:
    """What the driver and the engines know of each other: the rows on engines, and what each engine has spent.

    A row that was begun, and not ended when somebody asks again, was on an engine when that died.
    """

    def __init__(self) -> None:
        self._begun: dict[str, list[str]] = {}
        self._read = 0
        self._reading = False
        self._spent: dict[str, Ledger] = {}
        self._starts = 0
        self._unstarted: Counter[str] = Counter()

    def starting(self, actor: str) -> tuple[int, int]:
        """Notes that an actor starts its engine.

        Gives the starts of all actors before this one, and how often one of them, this or another, did since any has started.
        """
        self._starts += 1
        self._unstarted[actor] += 1
        return self._starts - 1, max(self._unstarted.values())

    def started(self) -> None:
        """Notes that engines do start."""
        self._unstarted.clear()

    def deaths(self, row_ids: Sequence[str]) -> list[list[str]]:
        """Of each of these rows, which are on no engine, the machines of the engines that died with it."""
        return [self._begun.get(row_id, []) for row_id in row_ids]

    def note(self, node: str, begun: Sequence[str], ended: Sequence[str]) -> None:
        """Notes rows that go onto an engine of this machine, and rows to which nothing happened there."""
        for row_id in begun:
            self._begun.setdefault(row_id, []).append(node)
        for row_id in ended:
            self._begun.pop(row_id, None)

    def reads(self) -> None:
        """Notes that reading has begun."""
        self._reading = True

    def is_reading(self) -> bool:
        """Whether rows are being read."""
        return self._reading

    def read(self, rows: int) -> None:
        """Notes how many rows there were to do; reading may be repeated."""
        self._read, self._reading = rows, False

    def rows_read(self) -> int:
        """How many rows there were to do."""
        return self._read

    def report(self, engine: str, spent: Ledger) -> None:
        """Notes what an engine has spent since its start."""
        self._spent[engine] = spent

    def look(self) -> tuple[int, Ledger]:
        """Rows on engines now, and what all engines have spent."""
        return len(self._begun), sum(self._spent.values(), Ledger())


class Gatekeeper:
    """The limit, and the rows that are known to have passed."""

    def __init__(self, limit: int, finished: list[int]) -> None:
        self._limit = SelectionLimit(limit)
        for position in finished:
            self._limit.passed(position)

    def over(self, position: int) -> bool:
        """Whether k passing rows before this one are known."""
        return self._limit.over(position)

    def passed(self, position: int) -> bool:
        """Notes a passing row; True where it is over the limit already."""
        self._limit.passed(position)
        return self._limit.over(position)
