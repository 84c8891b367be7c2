"""The machines that a Ray cluster has, and those that its autoscaler can add: what can ever hold an engine or a rank.

Ray has no public answer to this: `get_max_resources_from_cluster_config` is never reported. So the autoscaler's own
configuration is read on the head (stj/passes/ray_private.py), from one of four sources:

    file      the YAML of `ray up`, or of `ray start --autoscaling-config`
    kuberay   the RayCluster object in Kubernetes
    static    nobody adds machines: those that are there are all
    unknown   the head did not say; then nothing is refused, and the run waits for its machines
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.exceptions import GetTimeoutError, RayError

from stj.errors import CapacityError
from stj.passes.demand import COUNTED, Demand, amounts
from stj.passes.ray_private import ClusterSource, autoscaler_config, machine_types_of_nodes

log = logging.getLogger(__name__)

_HEAD = "node:__internal_head__"  # Ray's resource of the head alone.
_SLACK = 1e-6  # Ray counts resources in steps of 0.0001.


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """Machines of one kind: a type that the autoscaler can start, or a machine that is there and of no such type."""

    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    most: int
    """Number of machines of this type that there can ever be."""

    def holds(self, demand: Demand) -> int:
        """Number of bundles that one such machine holds; 0 if the demand's place is elsewhere."""
        if not matches(self.labels, demand.place):
            return 0
        fits = [math.floor(self.resources.get(name, 0) / amount + _SLACK) for name, amount in demand.bundle.items()]
        return min(fits, default=demand.bundles)

    def words(self) -> str:
        """`gpu-spot (up to 4 with 192 CPUs, 8 GPUs each; market-type=spot)`."""
        labels = "".join(f"; {label}={value}" for label, value in sorted(self.labels.items()))
        return f"{self.name} (up to {self.most} with {amounts(self.resources)} each{labels})"


@dataclass(frozen=True, kw_only=True)
class Machines:
    """All machines that a cluster has and can have."""

    source: ClusterSource
    types: Sequence[MachineType] = ()
    """Types of the autoscaler, without that of the head."""
    live: Sequence[MachineType] = ()
    """Machines that are there."""
    limit: int | None = None
    """Most machines of all types together, without the head; None without such a limit."""
    reads_labels: bool = True
    """Whether the autoscaler reads label selectors. The autoscaler v1 does not: it starts any type that is large enough."""

    def room(self, demand: Demand) -> int | None:
        """Number of bundles that all machines together can ever hold, others' use aside; None if that is not known."""
        silent = any(not kind.resources and kind.most and matches(kind.labels, demand.place) for kind in self.types)
        if self.source == "unknown" or silent:
            return None
        can_come = _most_useful(self.types, self.limit, demand)
        return max(_room([*can_come, *self._others()], demand), _room(self.live, demand))

    def room_now(self, demand: Demand) -> int:
        """Number of bundles that the machines hold that are there, others' use aside."""
        return _room(self.live, demand)

    def refuse_impossible(self, demand: Demand) -> None:
        """Raises CapacityError if the cluster can never hold a demand: with both figures, and the machines there are."""
        room = self.room(demand)
        if room is not None and room < demand.bundles:
            raise CapacityError(f"{self._refusal(demand, room)}; {self.words()}")
        if not self.reads_labels and self.room_now(demand) < demand.bundles and self._starts_elsewhere(demand):
            raise CapacityError(
                f"{demand.place_words}: the autoscaler v1 does not read labels, and would start other machines as well. "
                "Start the head with RAY_enable_autoscaler_v2=1, or leave the setting out"
            )

    def _starts_elsewhere(self, demand: Demand) -> bool:
        """Whether there are types that are large enough for a demand but not at its place."""
        anywhere = replace(demand, place={})
        return any(kind.most and kind.holds(anywhere) and not kind.holds(demand) for kind in self.types)

    def _refusal(self, demand: Demand, room: int) -> str:
        types, asked = self._ever(), f"{demand.setting}={demand.bundles}"
        if not any(matches(machine.labels, demand.place) for machine in types):
            return f"{demand.place_words}: no machine of the cluster has such labels, and none can come"
        if not any(machine.holds(demand) for machine in types):
            return (
                f"{asked}: {demand.noun} take {demand.each}, of one machine{demand.at}, and none is that large. Ask for less, "
                "as with a lower tensor_parallel_size, or add larger machines"
            )
        helpers = f" beside the {demand.helper_cpus:g} CPUs that are kept for reading" if demand.helper_cpus else ""
        return (
            f"{asked}: the cluster can hold {room} {demand.noun} ({demand.each}){demand.at}{helpers}. Ask for less, or let it "
            "have more machines"
        )

    def words(self) -> str:
        """What is there and what can come, in one line."""
        count, total = sum(machine.most for machine in self.live), amounts(_total(self.live)) or "no CPU"
        here = f"the cluster has {count} machine{'' if count == 1 else 's'} with {total}"
        if self.source == "static":
            return f"{here}, and nothing adds machines to it"
        if self.source == "unknown":
            return f"{here}; its head does not say which machines can come"
        limit = (
            "" if self.limit is None or self.limit >= sum(kind.most for kind in self.types) else f"{self.limit} machines of "
        )
        can_come = ", ".join(machine.words() for machine in self.types if machine.most)
        return f"{here}, and can have {limit}{can_come or 'no others'}"

    def _ever(self) -> list[MachineType]:
        """The types, and the machines of no type."""
        return [*(kind for kind in self.types if kind.most), *self._others()]

    def _others(self) -> list[MachineType]:
        """The machines that are there and of no type, such as the head."""
        names = {machine.name for machine in self.types}
        return [machine for machine in self.live if machine.name not in names]


def _most_useful(types: Iterable[MachineType], limit: int | None, demand: Demand) -> list[MachineType]:
    """The types with as many machines as the limit leaves to each, if those that hold the most come first."""
    left = math.inf if limit is None else limit
    chosen = []
    for machine in sorted(types, key=lambda machine: machine.holds(demand), reverse=True):
        chosen.append(replace(machine, most=int(min(machine.most, left))))
        left -= chosen[-1].most
    return chosen


def _room(machines: Sequence[MachineType], demand: Demand) -> int:
    """Bundles on these machines, if enough CPUs are left for the helpers."""
    held = sum(machine.most * machine.holds(demand) for machine in machines)
    if demand.cpus and demand.helper_cpus:
        left = max(0.0, _total(machines)["CPU"] - demand.helper_cpus)
        held = min(held, math.floor(left / demand.cpus + _SLACK))
    return held


def matches(labels: Mapping[str, str], place: Mapping[str, str]) -> bool:
    """Whether labels fit a label selector of Ray: `spot`, `!spot`, `in(a,b)` and `!in(a,b)`.

    As in Ray, a machine without the label fits what is negated.
    """
    return all(_fits(labels.get(label), wanted) for label, wanted in place.items())


def _fits(value: str | None, wanted: str) -> bool:
    negated, positive = wanted.startswith("!"), wanted.removeprefix("!")
    inside = positive.removeprefix("in(").removesuffix(")") if positive.startswith("in(") else positive
    return (value in {choice.strip() for choice in inside.split(",")}) != negated


def machines_of_cluster(*, grows: bool = True) -> Machines:
    """The machines of the Ray cluster that this process has joined. `grows=False`: a Ray that this process started here."""
    source, config = _configuration() if grows else ("static", {})
    limit = config.get("max_workers")
    head = config.get("head_node_type")
    kinds = config.get("available_node_types", {}).items()
    types = [_machine_type(name, kind, limit) for name, kind in kinds if name != head]
    names = machine_types_of_nodes() if types else {}
    live = [_live_machine(node, names.get(node["NodeID"], ""), types) for node in ray.nodes() if node["Alive"]]
    reads_labels = not types or is_autoscaler_v2(fetch_from_server=True)
    return Machines(source=source, types=types, live=live, limit=limit, reads_labels=reads_labels)


def _configuration() -> tuple[ClusterSource, dict[str, Any]]:
    try:
        return autoscaler_config()
    except (GetTimeoutError, RayError) as error:
        cause = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        log.warning("the cluster's head does not say which machines it can add: %s", cause[0])
        return "unknown", {}


def _machine_type(name: str, settings: Mapping[str, Any], limit: int | None) -> MachineType:
    """A type of the configuration; without a limit of its own it has that of all workers together, as in Ray."""
    most = settings.get("max_workers")
    return MachineType(
        name=name,
        resources=settings.get("resources") or {},
        labels=settings.get("labels") or {},
        most=int((limit or 0) if most is None else most),
    )


def _live_machine(node: Mapping[str, Any], name: str, types: Sequence[MachineType]) -> MachineType:
    """A machine that is there, under the name of its type. Not every provider gives machines that name: then looks decide."""
    resources, labels = node["Resources"], node["Labels"]
    if _HEAD in resources:
        name = "head"
    elif name not in {kind.name for kind in types}:
        name = next((kind.name for kind in types if _looks_like(kind, resources, labels)), node["NodeManagerAddress"])
    return MachineType(name=name, resources=resources, labels=labels, most=1)


def _looks_like(kind: MachineType, resources: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    same = all(kind.resources.get(name, 0) == resources.get(name, 0) for name in COUNTED)
    return same and kind.labels.items() <= labels.items()


def _total(machines: Sequence[MachineType]) -> dict[str, float]:
    return {name: sum(machine.most * machine.resources.get(name, 0) for machine in machines) for name in COUNTED}
