"""The gate of `select.limit`, shared by all engines of a pass."""

from stj.passes.helper import helper_actor
from stj.passes.registry import Gatekeeper
from stj.stages.select import passed_rule
from stj.storage.artifacts import Artifact


class RayGate:
    """A gate that lives in an actor of its own, told of the rows that an earlier start of the pass has finished."""

    def __init__(self, limit: int, artifact: Artifact) -> None:
        records = artifact.records(["position", "category", "dropped"])
        finished = [record["position"] for record in records if passed_rule(record["category"], record["dropped"])]
        # A gate that was started anew knows less and spares less; the limit stays exact through passes/limit.py.
        self._actor = helper_actor(Gatekeeper, limit, finished)

    async def over(self, position: int) -> bool:
        """Whether k passing rows before this one are known."""
        return bool(await self._actor.over.remote(position))

    async def passed(self, position: int) -> bool:
        """Notes a passing row; True where it is over the limit already."""
        return bool(await self._actor.passed.remote(position))
