"""A pass that waits for a machine, for an engine or to read rows: a named error, where Ray Data would wait for ever."""

import math
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

from stj.errors import CapacityError

_LOOK_S = 1.0
_PLACING_S = 10.0  # which a free cluster may take to give an engine its machine


class CapacityWatch(ExecutionCallback):  # type: ignore[misc]
    """Ends a pass in which nothing is finished for longer than the deadline, while it waits for a machine.

    An engine that starts, however long, has its machine and is not waited for here. Ray Data calls this from its own loop.
    """

    def __init__(self, deadline_s: float, ward: Any) -> None:
        self._deadline_s = deadline_s
        self._ward = ward
        self._since: float | None = None
        self._looked = -math.inf
        self._outputs = -1

    def on_execution_step(self, executor: Any) -> None:
        """Raises CapacityError when the deadline is over."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        pools = [op for op in executor._topology if isinstance(op, ActorPoolMapOperator)]
        outputs = sum(op.metrics.num_outputs_taken for op in pools)
        missing = self._missing(pools)
        if outputs != self._outputs or missing is None:
            self._outputs, self._since = outputs, None
        elif self._since is None:
            self._since = now
        elif now - self._since >= max(self._deadline_s, _PLACING_S):
            raise CapacityError(
                f"{missing} within ray.capacity_deadline_s={self._deadline_s:g} s: machines are lost or taken. "
                "What is finished is kept; add machines and run the same command again"
            )

    def _missing(self, pools: Sequence[Any]) -> str | None:
        """What a pass waits for that is not there, if it does."""
        if any(_waits(op._actor_pool) for op in pools):
            return "an engine found no room"
        idle = pools and all(op._actor_pool.num_running_actors() and not op.metrics.num_tasks_running for op in pools)
        if (
            idle and _free_cpus() < 1 and not ray.get(self._ward.is_reading.remote())
        ):  # reading takes one, and so does splitting
            return "no CPU was free to read rows for the engines"
        return None


def _waits(pool: Any) -> bool:
    """Whether rows wait for an engine without a machine: one that had a machine and rows on it, or the first of all."""
    restarting = [actor for actor, state in pool._running_actors.items() if state.is_restarting]
    return any(not _machine(actor) for actor in restarting or ([] if pool._running_actors else pool._pending_actors.values()))


def _machine(actor: Any) -> str:
    """Address of the machine that an actor runs or starts on, empty for none: a node is named already by where it queues.

    Where the cluster's head does not answer, that is not for this to say: Ray itself ends the pass if it stays away.
    """
    try:
        return str(ray._private.state.actors(actor._actor_id.hex()).get("Address", {}).get("IPAddress", ""))
    except Exception:
        return "unknown"


def _free_cpus() -> float:
    """CPUs that nobody has; many where the cluster's head does not answer, as above."""
    try:
        return float(ray.available_resources().get("CPU", 0))
    except Exception:
        return math.inf
