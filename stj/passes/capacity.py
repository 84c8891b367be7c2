"""Ends a pass that waits too long for a machine that starts an engine or reads rows; Ray Data itself would wait forever."""

import math
import time
from collections.abc import Sequence
from typing import Any

import ray

from stj.errors import CapacityError
from stj.passes.ray_private import ActorPool, StepCallback, actor_pools, has_process

_CHECK_INTERVAL_S = 1.0
_PLACING_S = 10.0  # Never wait less: a cluster with free machines may need this long to place an engine.


class CapacityWatch(StepCallback):
    """Ends a pass that lacks a machine and finishes no block within the deadline.

    An engine that is starting, however slowly, has its machine: that time does not count.
    """

    def __init__(self, deadline_s: float, registry: Any) -> None:
        self._deadline_s = deadline_s
        self._registry = registry
        self._engines = (0, 0)
        self._waiting_since: float | None = None
        self._checked_at = -math.inf
        self._outputs = -1

    def on_step(self, executor: Any) -> None:
        """Raises CapacityError when the deadline has passed."""
        now = time.monotonic()
        if now - self._checked_at < _CHECK_INTERVAL_S:
            return
        self._checked_at = now
        pools = actor_pools(executor)
        outputs = sum(pool.outputs for pool in pools)
        missing = self._missing(pools)
        if outputs != self._outputs or missing is None:
            self._outputs, self._waiting_since = outputs, None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since >= max(self._deadline_s, _PLACING_S):
            causes = ray.get(self._registry.waits.remote()) or "machines are lost or taken"
            raise CapacityError(
                f"{missing} within ray.capacity_deadline_s={self._deadline_s:g} s: {causes}. "
                "Finished rows are kept; add machines and run the same command again"
            )

    def _missing(self, pools: Sequence[ActorPool]) -> str | None:
        """What the pass lacks, None if it lacks nothing."""
        homeless = [{actor for actor in [*pool.restarting, *pool.pending] if not _has_machine(actor)} for pool in pools]
        self._record(sum(map(len, homeless)), sum(len(pool.running) + len(pool.pending) for pool in pools))
        if any(map(_needs_machine, pools, homeless)):
            return "an engine found no room"
        idle = pools and all(pool.running and not pool.tasks for pool in pools)
        # Reading takes a CPU, and so does the splitting of blocks.
        if idle and _free_cpus() < 1 and not ray.get(self._registry.is_reading.remote()):
            return "no CPU was free to read rows for the engines"
        return None

    def _record(self, missing: int, total: int) -> None:
        """Has the live line say how many engines have no machine."""
        if (missing, total) != self._engines:
            self._engines = missing, total
            self._registry.record_engines.remote(missing, total)


def _needs_machine(pool: ActorPool, homeless: set[Any]) -> bool:
    """Whether rows wait for an engine without a machine: a restarting one, or the first engines of the pass."""
    waiting = pool.restarting or ([] if pool.running else pool.pending)
    return not homeless.isdisjoint(waiting)


def _has_machine(actor: Any) -> bool:
    """Whether the actor has a machine; true if the cluster's head does not answer, because Ray itself ends the pass then."""
    try:
        return has_process(actor)
    except Exception:
        return True


def _free_cpus() -> float:
    """CPUs that nobody uses; infinite if the cluster's head does not answer, as above."""
    try:
        return float(ray.available_resources().get("CPU", 0))
    except Exception:
        return math.inf
