"""What to do if the cloud has no machine of a type: ask for another type that is as good.

Neither autoscaler leaves a type that is out of stock. It asks for the same one again and again, while engines that could run on
any type wait. The autoscaler v2 heeds labels: a request with the labels of another type starts that one, and the waiting
engines land there.
"""

import logging
import time
import uuid
from collections.abc import Collection

from stj.passes.cluster_machines import machines_of_cluster
from stj.passes.demand import Demand
from stj.passes.machines import Machines, MachineType, matches
from stj.passes.ray_private import hold_machines, release_machines

log = logging.getLogger(__name__)

_PATIENCE_S = 60.0  # A type that is refused for a moment may be had at the next try, and is the one that the user prefers.
_HELD_S = 60.0  # A request ends by itself if this driver dies.
_RENEW_S = 20.0


class OtherType:
    """Asks for machines of another type, once all engines of a pass have waited long for one that is refused.

    It ends the request when an engine has a machine. The autoscaler has started the others by then, and Ray Data would take
    what another request holds from the engines.
    """

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._name = f"stj-{uuid.uuid4().hex}"
        self._refused_since: float | None = None
        self._held_at: float | None = None

    def look(self, refused: Collection[str], missing: int, total: int) -> None:
        """Asks, renews or ends the request; `refused` are the types that were refused while the engines wait."""
        now = time.monotonic()
        if missing < total or not refused:
            self.end()
            return
        self._refused_since = self._refused_since or now
        patient = now - self._refused_since < _PATIENCE_S
        if not patient and (self._held_at is None or now - self._held_at >= _RENEW_S):
            self._ask(refused, missing)

    def _ask(self, refused: Collection[str], missing: int) -> None:
        self._held_at = time.monotonic()
        machines = machines_of_cluster()
        other = substitute(machines, self._demand, refused)
        if other is None:
            return
        free = other.most - sum(machine.name == other.name for machine in machines.live)
        bundles = [self._demand.bundle] * min(missing, free * other.holds(self._demand))
        log.info("asking for %s, because %s cannot be had", other.name, ", ".join(sorted(refused)))
        hold_machines(self._name, bundles, dict(other.labels), _HELD_S)

    def end(self) -> None:
        """Ends the request, if there is one."""
        self._refused_since = None
        if self._held_at is not None:
            self._held_at = None
            release_machines(self._name)


def substitute(machines: Machines, demand: Demand, refused: Collection[str]) -> MachineType | None:
    """The type that holds most of what is left of a demand, and whose labels no refused type has; None if there is none."""
    denied = [kind for kind in machines.types if kind.name in refused]
    live = [machine.name for machine in machines.live]

    def room(kind: MachineType) -> int:
        return (kind.most - live.count(kind.name)) * kind.holds(demand)

    fit = [
        kind
        for kind in machines.types
        if kind not in denied and room(kind) > 0 and not any(matches(other.labels, kind.labels) for other in denied)
    ]
    return max(fit, key=room, default=None)
