"""The gate of `select.limit`: one actor that all engines of a pass ask whether enough rows have passed."""

from collections.abc import Sequence

from stj.passes.driver_actor import driver_actor
from stj.stages.select import SelectionLimit, passed_rule
from stj.storage.artifacts import Artifact


class SelectionGate:
    """The limit and the rows known to have passed: the actor's side."""

    def __init__(self, limit: int, passed_positions: Sequence[int]) -> None:
        self._limit = SelectionLimit(limit)
        for position in passed_positions:
            self._limit.passed(position)

    def over(self, position: int) -> bool:
        """Whether `limit` passing rows before this one are known."""
        return self._limit.over(position)

    def passed(self, position: int) -> bool:
        """Records a passing row; True if it is over the limit already."""
        self._limit.passed(position)
        return self._limit.over(position)


class RayGate:
    """The engines' side of the gate. It starts with the rows that earlier starts of the pass have finished."""

    def __init__(self, limit: int, artifact: Artifact) -> None:
        records = artifact.records(["position", "category", "dropped", "error"])
        finished = (record for record in records if record["error"] is None)  # Failed rows are tried again.
        passed = [record["position"] for record in finished if passed_rule(record["category"], record["dropped"])]
        # If Ray restarts the actor, it knows fewer rows and saves less work; passes/limit.py keeps the limit exact.
        self._actor = driver_actor(SelectionGate, limit, passed)

    async def over(self, position: int) -> bool:
        """Whether `limit` passing rows before this one are known."""
        return bool(await self._actor.over.remote(position))

    async def passed(self, position: int) -> bool:
        """Records a passing row; True if it is over the limit already."""
        return bool(await self._actor.passed.remote(position))
