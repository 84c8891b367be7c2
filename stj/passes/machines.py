"""The machines that a cluster has, and those that its autoscaler can add: what can ever hold an engine or a rank.

Machines are counted, not their sums: no engine and no rank spans two. stj/passes/cluster_machines.py reads them.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from stj.errors import CapacityError
from stj.passes.demand import COUNTED, Demand, amounts
from stj.passes.ray_private import ClusterSource

NO_LIMIT = 2**31 - 1
"""Number of machines that stands for any number, as in Kubernetes."""
_RAYS_LABELS = "ray.io/"  # Ray gives a machine such labels when it starts; the autoscaler knows those in its configuration.


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """Machines of one kind: a type that the autoscaler can start, or a machine that is there and of no such type."""

    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    most: int
    """Number of machines of this type that there can ever be."""
    least: int = 0
    """Number of machines of this type that are kept, needed or not; the limit of all machines is not for others to use up."""

    def holds(self, demand: Demand) -> int:
        """Number of bundles that one such machine holds; 0 if the demand's place is elsewhere."""
        return demand.held_by(self.resources) if matches(self.labels, demand.place) else 0

    def may_hold_more(self, demand: Demand) -> bool:
        """Whether machines of this type may hold what its configuration does not say.

        Ray learns the size of some when one has come, and gives those that are kept their own labels when they start.
        """
        unsized = not self.resources and matches(self.labels, demand.place)
        named_later = any(label.startswith(_RAYS_LABELS) and label not in self.labels for label in demand.place)
        return unsized or (self.least > 0 and named_later)

    def words(self) -> str:
        """`gpu-spot (up to 4 with 192 CPUs, 8 GPUs each; market-type=spot)`."""
        labels = "".join(f"; {label}={value}" for label, value in sorted(self.labels.items()))
        number = "any number" if self.most >= NO_LIMIT else f"up to {self.most}"
        return f"{self.name} ({number} with {amounts(self.resources) or 'no CPU'} each{labels})"


@dataclass(frozen=True, kw_only=True)
class Machines:
    """All machines that a cluster has and can have."""

    source: ClusterSource
    types: Sequence[MachineType] = ()
    """Types of which the autoscaler can start machines."""
    live: Sequence[MachineType] = ()
    """Machines that are there."""
    silence: str = ""
    """Why the types are not known; empty if they are."""
    limit: int | None = None
    """Most machines of all types together, without the head; None without such a limit."""
    reads_labels: bool = True
    """Whether the autoscaler reads label selectors. The autoscaler v1 does not: it starts any type that is large enough."""

    def room(self, demand: Demand) -> int | None:
        """Number of bundles that all machines together can ever hold, others' use aside; None if that is not known."""
        if self.source == "unknown" or any(kind.may_hold_more(demand) for kind in self.types):
            return None
        by_configuration = _room(self.types, self.limit, self._others(), demand)
        return max(by_configuration, _room(self._left(), self._limit_left(), self.live, demand))

    def room_now(self, demand: Demand) -> int:
        """Number of bundles that the machines hold that are there, others' use aside."""
        return _room([], None, self.live, demand)

    def at_once(self, demand: Demand, wanted: int) -> int:
        """Number of bundles, of `wanted`, that a pass asks for at once.

        A growing cluster is asked for all: its configuration may come to allow more. One that does not grow is asked for what
        it holds, and so is one where engines could take every CPU that rows are read with.
        """
        room = self.room(demand)
        if room is None:
            return wanted
        if self._ignores_place(demand):
            return min(wanted, self.room_now(demand))
        cpus_bind = room < (self.room(replace(demand, helper_cpus=0)) or 0)
        return min(wanted, room) if self.source == "static" or cpus_bind else wanted

    def refuse_impossible(self, demand: Demand) -> None:
        """Raises CapacityError if the cluster can never hold a demand: with both figures, and the machines there are.

        Also if the demand must be even over its machines, and no choice of the machines makes it so.
        """
        room = self.room(demand)
        if room is not None and room < demand.bundles:
            raise CapacityError(f"{self._refusal(demand, room)}; {self.words()}")
        if room is not None and demand.uneven and (uneven := self._uneven(demand)):
            raise CapacityError(demand.uneven(uneven))
        if self._ignores_place(demand) and self.room_now(demand) < demand.bundles:
            raise CapacityError(
                f"{demand.place_words}: the autoscaler v1 does not read labels, and would start other machines as well. "
                "Start the head with RAY_enable_autoscaler_v2=1, or leave the setting out"
            )

    def _uneven(self, demand: Demand) -> list[int]:
        """Numbers of bundles of the machines, if no choice of machines gives each the same number; else none.

        Ray fills one machine after the other: all but the last have as many bundles as they hold.
        """
        held: Counter[int] = Counter()
        for kind in [*self.types, *self.live]:  # a machine that is there may hold less than its type's configuration says
            held[kind.holds(demand)] += kind.most
        for machines in range(1, demand.bundles + 1):
            each, rest = divmod(demand.bundles, machines)
            fit = not rest and held[each] >= machines - 1
            if fit and sum(most for size, most in held.items() if size >= each) >= machines:
                return []
        return list(_filled(held, demand.bundles))

    def _ignores_place(self, demand: Demand) -> bool:
        """Whether the autoscaler would start machines for a demand that are large enough but not at its place."""
        anywhere = replace(demand, place={})
        elsewhere = (kind.holds(anywhere) and not kind.holds(demand) for kind in self.types)
        return not self.reads_labels and any(elsewhere)

    def _refusal(self, demand: Demand, room: int) -> str:
        kinds, asked = [*self.types, *self.live], f"{demand.setting}={demand.bundles}"
        if not any(matches(kind.labels, demand.place) for kind in kinds):
            rays = any(label.startswith(_RAYS_LABELS) for label in demand.place)
            hint = " (the autoscaler knows a type's labels in its configuration only)" if rays else ""
            return f"{demand.place_words}: no machine of the cluster has such labels, and none can come{hint}"
        if not any(kind.holds(demand) for kind in kinds):
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
            return f"{here}; its head does not say which machines can come ({self.silence})"
        limit = (
            "" if self.limit is None or self.limit >= sum(kind.most for kind in self.types) else f"{self.limit} machines of "
        )
        can_come = ", ".join(machine.words() for machine in self.types)
        return f"{here}, and can have {limit}{can_come or 'no others'}"

    def _left(self) -> list[MachineType]:
        """The types, with the machines that can come beside those that are there."""
        live = [machine.name for machine in self.live]
        return [
            replace(kind, most=max(0, kind.most - live.count(kind.name)), least=max(0, kind.least - live.count(kind.name)))
            for kind in self.types
        ]

    def _limit_left(self) -> int | None:
        workers = len(self.live) - len(self._others())
        return None if self.limit is None else max(0, self.limit - workers)

    def _others(self) -> list[MachineType]:
        """The machines that are there and of no type, such as the head."""
        names = {machine.name for machine in self.types}
        return [machine for machine in self.live if machine.name not in names]


def _room(types: Sequence[MachineType], limit: int | None, there: Sequence[MachineType], demand: Demand) -> int:
    """Bundles on the machines that are there and on those of types, if enough CPUs are left for the helpers.

    Both are counted apart, each with the types that have the most of it: no machine that can come is left out.
    """
    holders = _chosen(types, limit, lambda kind: kind.holds(demand))
    held = sum(machine.most * machine.holds(demand) for machine in [*holders, *there])
    if demand.cpus and demand.helper_cpus:
        cpus = _total([*_chosen(types, limit, _cpus), *there])["CPU"] - demand.helper_cpus
        held = min(held, replace(demand, gpus=0).held_by({"CPU": max(0.0, cpus)}))
    return held


def _filled(held: Mapping[int, int], bundles: int) -> Iterator[int]:
    """Bundles of each machine, if those that hold the most are filled first."""
    for size in sorted(filter(None, held), reverse=True):
        for _ in range(min(held[size], -(-bundles // size))):
            yield min(size, bundles)
            bundles -= size
        if bundles <= 0:
            return


def _chosen(types: Sequence[MachineType], limit: int | None, worth: Callable[[MachineType], float]) -> list[MachineType]:
    """The types with as many machines as the limit leaves to each, if those that are worth the most come first."""
    left = math.inf if limit is None else max(0, limit - sum(kind.least for kind in types))
    chosen = []
    for kind in sorted(types, key=worth, reverse=True):
        extra = int(min(kind.most - kind.least, left))
        chosen.append(replace(kind, most=kind.least + extra))
        left -= extra
    return chosen


def _cpus(machine: MachineType) -> float:
    return machine.resources.get("CPU", 0)


def matches(labels: Mapping[str, str], place: Mapping[str, str]) -> bool:
    """Whether labels fit a label selector of Ray: `spot`, `!spot`, `in(a,b)` and `!in(a,b)`.

    As in Ray, a machine without the label fits what is negated.
    """
    return all(_fits(labels.get(label), wanted) for label, wanted in place.items())


def _fits(value: str | None, wanted: str) -> bool:
    negated, positive = wanted.startswith("!"), wanted.removeprefix("!")
    inside = positive.removeprefix("in(").removesuffix(")") if positive.startswith("in(") else positive
    return (value in {choice.strip() for choice in inside.split(",")}) != negated


def _total(machines: Sequence[MachineType]) -> dict[str, float]:
    return {name: sum(machine.most * machine.resources.get(name, 0) for machine in machines) for name in COUNTED}
