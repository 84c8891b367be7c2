"""The gate of `select.limit`: one actor that all engines of a pass, and the task that reads its rows, ask about the limit."""

import ray

from stj.passes.cut import SelectionCut
from stj.passes.driver_actor import driver_actor
from stj.passes.limit import FAILED, selection_records
from stj.rows import TRAINING, Row
from stj.stages.select import OVER_LIMIT, passed_rule
from stj.storage.artifacts import Artifact, prefix_of


class SelectionGate:
    """What is known of the cut: the actor's side. It starts with the rows on disk, also if Ray starts it again."""

    def __init__(self, limit: int, artifact: Artifact) -> None:
        self._limit = limit
        self._artifact = artifact
        self.load()

    def load(self) -> None:
        """Forgets what engines reported, and learns what the finished rows on disk say. Failed rows are tried again."""
        self._cut = SelectionCut(self._limit)
        parts = [part for part in self._artifact.parts() if prefix_of(part) != FAILED]
        for record in selection_records(self._artifact, parts):
            if passed_rule(record["category"], record["dropped"]):
                self._cut.passed(record["position"])
            else:
                self._cut.rejected(record["position"])

    def over(self, position: int) -> bool:
        """Whether `limit` passing rows before this one are known."""
        return self._cut.over(position)

    def passed(self, position: int) -> bool:
        """Records a passing row; True if it is over the limit already."""
        self._cut.passed(position)
        return self._cut.over(position)

    def rejected(self, start: int, stop: int) -> None:
        """Records that the rows from `start` to before `stop` do not pass."""
        for position in range(start, stop):
            self._cut.rejected(position)

    def may_read(self, ahead: int) -> tuple[int, bool]:
        """The last position to read now, at most `ahead` beyond the earliest cut, and whether no later one will be needed."""
        now, latest = self._cut.earliest + ahead, self._cut.latest
        return (now, False) if latest is None or latest > now else (latest, True)


class RayGate:
    """The side of the engines, of the reading task and of the driver."""

    def __init__(self, limit: int, artifact: Artifact) -> None:
        self._actor = driver_actor(SelectionGate, limit, artifact)

    async def over(self, position: int) -> bool:
        """Whether `limit` passing rows before this one are known."""
        return bool(await self._actor.over.remote(position))

    async def passed(self, position: int) -> bool:
        """Records a passing row; True if it is over the limit already."""
        return bool(await self._actor.passed.remote(position))

    async def ended(self, row: Row) -> None:
        """Records the end of a row on its engine, if it has not passed the rule."""
        if row.task == TRAINING and row.dropped != OVER_LIMIT and not passed_rule(row.category, row.dropped):
            await self._actor.rejected.remote(row.position, row.position + 1)

    def absent(self, start: int, stop: int) -> None:
        """Records that no row at the positions from `start` to before `stop` passes. Waits for nothing."""
        self._actor.rejected.remote(start, stop)

    def may_read(self, ahead: int) -> tuple[int, bool]:
        """The last position to read now, at most `ahead` beyond the earliest cut, and whether no later one will be needed."""
        last, final = ray.get(self._actor.may_read.remote(ahead))
        return int(last), bool(final)

    def load(self) -> None:
        """Forgets what engines reported, and learns what the finished rows on disk say."""
        ray.get(self._actor.load.remote())
