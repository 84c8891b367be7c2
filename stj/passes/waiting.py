"""What engines or ranks wait for, in words: machines that start, a type that is refused, or others that hold the GPUs."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from ray.exceptions import RayError

from stj.passes.demand import Demand, amounts
from stj.passes.machines import matches
from stj.passes.ray_private import AutoscalerState, MachineState, autoscaler_state, launch_failures
from stj.passes.session import training_demand
from stj.train_config import TrainConfig

log = logging.getLogger(__name__)

_V1_STAYS = "the autoscaler v1 asks for no other type, v2 does (RAY_enable_autoscaler_v2=1 at the head's start)"
_REFUSED_FOR_S = 60.0  # A type that was not refused for this long may be had: an autoscaler tries again within seconds.
_REASONS_EVERY_S = 30.0  # The log of the autoscaler is read on the head, by a task.


class Waiting:
    """Says what the missing engines or ranks of a demand wait for.

    The autoscaler v2 counts refusals since the cluster started; those from before this object are not its demand's.
    """

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self.refused: frozenset[str] = frozenset()
        """Types that the autoscaler v2 was refused of late, at the last look."""
        self._counts: dict[str, tuple[int, float]] = {}
        """Refusals of each type, and when the last of them was seen."""
        self._before: AutoscalerState | None = None
        self._reasons: dict[str, str] = {}
        self._reasons_at = -_REASONS_EVERY_S

    def begin(self) -> None:
        """Counts refusals from now on; otherwise they count from the first words."""
        self._before = _state()

    def words(self, missing: int, total: int, together: int = 1) -> str:
        """`waiting for 2 of 3 engines (1 CPU, 2 GPUs each): 2 gpu-spot are starting`; empty if none is missing.

        `together` is the number of engines or ranks that start only at the same time. Without the causes if the head does not
        answer.
        """
        if not missing:
            return ""
        demand = self._demand
        wanted = f"waiting for {missing} of {total} {demand.noun} ({demand.each}){demand.at}"
        causes = self._causes(together, alone=missing == total)
        return f"{wanted}: {'; '.join(causes)}" if causes else wanted

    def words_of_group(self) -> str:
        """The same for ranks, which all start together; empty unless their group waits for machines."""
        total = self._demand.bundles
        state = _state()
        waits = state and any(_same_group(group, self._demand) for group in state.groups)
        return self.words(total, total, together=total) if waits else ""

    def _causes(self, together: int, *, alone: bool) -> list[str]:
        state = _state()
        if state is None:
            return []
        refused = self._refusals(state)
        causes = [f"{kind} was refused{times}{self._reason(kind, state)}" for kind, times in sorted(refused.items())]
        if refused.keys() & state.reasons.keys():
            causes.append(_V1_STAYS)
        starting = {kind: count for kind, count in sorted(state.starting.items()) if kind not in refused}
        causes += [f"{count} {kind} {'is' if count == 1 else 'are'} starting" for kind, count in starting.items()]
        if not causes:
            causes = _busy(state.machines, self._demand, together, alone=alone)
            if any(_same(bundle, self._demand.bundle) for bundle in state.impossible):
                causes.append("the autoscaler has no machine to add for it now")
        return causes or ["no machine has come yet"]

    def _refusals(self, state: AutoscalerState) -> dict[str, str]:
        """The types that were refused while this demand waits, with ` N times` if that is counted."""
        before = self._before = self._before or state
        now = time.monotonic()
        for kind, count in (state.refused - before.refused).items():
            if count != self._counts.get(kind, (0, 0))[0]:
                self._counts[kind] = count, now
        counted = {kind: count for kind, (count, seen) in self._counts.items() if now - seen < _REFUSED_FOR_S}
        self.refused = frozenset(counted)
        uncounted = [kind for kind in state.reasons if state.reasons[kind] != before.reasons.get(kind)]
        return dict.fromkeys(uncounted, "") | {
            kind: f" {count} time{'' if count == 1 else 's'}" for kind, count in counted.items()
        }

    def _reason(self, kind: str, state: AutoscalerState) -> str:
        if kind in state.reasons:
            return f" ({state.reasons[kind][1]})"
        reason = self._logged_reason(kind)
        return f" ({reason})" if reason else ""

    def _logged_reason(self, kind: str) -> str:
        if time.monotonic() - self._reasons_at >= _REASONS_EVERY_S:
            self._reasons_at = time.monotonic()
            try:
                self._reasons = launch_failures()
            except RayError:
                self._reasons = {}
        return self._reasons.get(kind, "")


def _state() -> AutoscalerState | None:
    """What the autoscaler does now; None if the head does not answer."""
    try:
        return autoscaler_state()
    except Exception as error:  # The head may be lost for a while, and Ray has no narrower class for that.
        log.debug("the autoscaler's state is not known: %r", error)
        return None


def waiting_ranks(train: TrainConfig) -> Callable[[], str]:
    """What the ranks of a training wait for, for their own process to ask; empty unless they wait for machines."""
    return Waiting(training_demand(train)).words_of_group


def _busy(machines: Sequence[MachineState], demand: Demand, together: int, *, alone: bool) -> list[str]:
    """Who has what a demand waits for, if machines are there that would hold it when free; empty otherwise."""
    fit = [machine for machine in machines if matches(machine.labels, demand.place) and demand.held_by(machine.total)]
    if sum(demand.held_by(machine.free) for machine in fit) >= together:
        return []

    def is_short(name: str) -> bool:
        """Whether this resource alone would be too little."""
        left = (machine.total | {name: machine.free.get(name, 0)} for machine in fit)
        return sum(map(demand.held_by, left)) < together

    used = [name for name in ("GPU", "CPU") if name in demand.bundle and any(_used(machine, name) for machine in fit)]
    others = " by others" if alone else ""
    return [f"{_share(fit, name)} in use{others}" for name in list(filter(is_short, used)) or used]


def _share(machines: Sequence[MachineState], name: str) -> str:
    """`all 8 GPUs are`, `7 of 8 GPUs are`: how much of a resource is used."""
    total = sum(machine.total.get(name, 0) for machine in machines)
    used = sum(_used(machine, name) for machine in machines)
    if used == total != 1:
        return f"all {total:g} {name}s are"
    return f"{used:g} of {amounts({name: total})} {'is' if used == 1 else 'are'}"


def _used(machine: MachineState, name: str) -> float:
    return machine.total.get(name, 0) - machine.free.get(name, 0)


def _same(bundle: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(bundle.get(name, 0) == other.get(name, 0) for name in ("CPU", "GPU"))


def _same_group(group: Sequence[Mapping[str, float]], demand: Demand) -> bool:
    return len(group) == demand.bundles and all(_same(bundle, demand.bundle) for bundle in group)
