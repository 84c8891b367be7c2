"""What the actors of a pass share, each in an actor of its own: a module that is imported in no time, at every pass."""

from collections import Counter
from collections.abc import Sequence

from stj.ledger import Ledger
from stj.stages.select import Limit


class Ward:
    """What the driver and the engines know of each other: the rows on engines, and what each engine has spent.

    A row that was begun, and not ended when somebody asks again, was on an engine when that died.
    """

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._spent: dict[str, Ledger] = {}
        self._starts: Counter[str] = Counter()

    def starting(self, actor: str) -> int:
        """Notes that an actor starts its engine; how often one did, this or another, since any has started."""
        self._starts[actor] += 1
        return max(self._starts.values())

    def started(self) -> None:
        """Notes that engines do start."""
        self._starts.clear()

    def deaths(self, row_ids: Sequence[str]) -> list[int]:
        """The deaths that each of these rows, which are on no engine, was there at."""
        return [self._begun[row_id] for row_id in row_ids]

    def note(self, begun: Sequence[str], ended: Sequence[str]) -> None:
        """Notes rows that go onto an engine, and rows to which nothing happened there."""
        self._begun.update(begun)
        for row_id in ended:
            del self._begun[row_id]

    def report(self, engine: str, spent: Ledger) -> None:
        """Notes what an engine has spent since its start."""
        self._spent[engine] = spent

    def look(self) -> tuple[int, Ledger]:
        """Rows on engines now, and what all engines have spent."""
        return len(self._begun), sum(self._spent.values(), Ledger())


class Gatekeeper:
    """The limit, and the rows that are known to have passed."""

    def __init__(self, limit: int, finished: list[int]) -> None:
        self._limit = Limit(limit)
        for position in finished:
            self._limit.passed(position)

    def over(self, position: int) -> bool:
        """Whether k passing rows before this one are known."""
        return self._limit.over(position)

    def passed(self, position: int) -> bool:
        """Notes a passing row; True where it is over the limit already."""
        self._limit.passed(position)
        return self._limit.over(position)
