"""Whether a run fits, and what it costs in memory, tokens, GPU-hours and dollars; needs no weights, network or GPU.

Memory follows from the models' shapes. Tokens and hours rest on assumptions, which are printed with them. A GB is 10^9 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stj.cluster_config import HardwareConfig
from stj.config import Config
from stj.models.shapes import Shape, shape_of
from stj.plan.assumptions import Assumptions, assumed, has_rule
from stj.plan.cost import GivenPairs, assumed_pairs, compared_by, nothing_fits, phases
from stj.plan.memory import RolePlan, role_plan
from stj.plan.phase_cost import IterationPlan, PhasePlan, gpus_words, iterations, spent_words, total
from stj.plan.remedies import Remedy, remedies
from stj.plan.room import RoomPlan, room_plan
from stj.plan.sample import SourceSample, with_sample
from stj.plan.timeline import Timeline, held_gpu_hours, timeline
from stj.plan.training import TrainingPlan, stages, training_plan
from stj.plan.waits import waits

_SHOWN_HOURS = 0.05
"""GPU-hours below this are not shown."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run needs; `dataclasses.asdict` turns it into JSON values."""

    hardware: str
    """A machine in words: its name, and its GPUs, which may differ from those in the name."""
    links: str
    """The assumed speeds of training, network and storage, in words."""
    roles: tuple[RolePlan, ...]
    training: TrainingPlan | None
    """None if the seed's shape is unknown."""
    room: RoomPlan | None
    """Disk and /dev/shm of each machine; None if the seed's shape is unknown."""
    phases: tuple[PhasePlan, ...]
    iterations: tuple[IterationPlan, ...]
    timeline: Timeline | None
    """One iteration on the clock; None without GPUs, or if a model's shape is unknown."""
    held_gpu_hours: float | None
    """GPU-hours of all machines, held from the begin of the run to its end; None without a timeline."""
    held_dollars: float | None
    """The same in dollars, with those of APIs; None without a price."""
    remedies: tuple[Remedy, ...]
    """What would leave less GPU time of this iteration idle; empty without a timeline."""
    draws_per_pair: float
    """Expected judgments of a pair under `judge.sampling`."""
    kept: float
    """Expected share of pairs with a right judgment."""
    paired: float | None
    """Expected share of pairs with a right and a wrong judgment; None for `sft`."""
    passing: str
    """The assumed share of instructions that become pairs, in words."""
    given: GivenPairs
    """The pairs that measure each judge."""
    assumptions: Assumptions
    sample: SourceSample | None
    """The first instructions of the source; None if it is on the hub."""
    sample_words: tuple[str, ...]
    """The same in lines for a reader."""

    @property
    def fits(self) -> bool:
        """Whether every model of known shape fits, in memory and on the disks."""
        training_fits = (self.training is None or self.training.fits) and (self.room is None or self.room.fits)
        return training_fits and all(role.fits for role in self.roles)

    def lines(self) -> list[str]:
        """The plan for a reader."""
        training = self.training.line() if self.training else f"{'training':<12} models.seed has an unknown shape"
        return [
            f"{'machine':<12} {self.hardware}",
            *(f"{'' if place else 'sample':<12} {words}" for place, words in enumerate(self.sample_words)),
            *self._roles(),
            training,
            *(self.room.lines() if self.room else ()),
            *(phase.line() for phase in self.phases),
            *(iteration.line() for iteration in self.iterations),
            *self._total(),
            *self._clock(),
            *self._assuming(),
        ]

    def _roles(self) -> list[str]:
        first = {(role.model, role.gpus): role for role in reversed(self.roles)}
        return [
            role.line() if first[role.model, role.gpus] is role else f"{role.role:<12} as {first[role.model, role.gpus].role}"
            for role in self.roles
        ]

    def _total(self) -> list[str]:
        hours, dollars = total((sum(phase.times), phase) for phase in self.phases)
        spent = ", ".join(spent_words(hours, dollars))
        if not spent:
            return []
        priced = dollars is not None
        uncounted = [phase.name for phase in self.phases if phase.gpu_hours is None or (priced and phase.dollars is None)]
        if not uncounted:
            return [f"{'in all':<12} {spent}{self._held(hours)}"]
        return [f"{'in all':<12} at least {spent}: without {', '.join(uncounted)}, whose shape or price is unknown"]

    def _held(self, hours: float | None) -> str:
        """What GPUs without a rank or engine add, in words; machines are paid for as a whole."""
        if self.held_gpu_hours is None or hours is None or self.held_gpu_hours < hours + _SHOWN_HOURS:
            return ""
        return f"; {', '.join(spent_words(self.held_gpu_hours, self.held_dollars))} with the GPUs that phases leave idle"

    def _clock(self) -> list[str]:
        if self.timeline is None:
            return []
        idle = [remedy.words() for remedy in self.remedies]
        return [*self.timeline.lines(), *([f"{'less idle':<12} {'; '.join(idle)}"] if idle else [])]

    def _assuming(self) -> list[str]:
        a = self.assumptions
        paired = "" if self.paired is None else f", {self.paired:.1%} with a wrong one too"
        return [
            f"{'assuming':<12} {self.passing}; {a.right:.0%} of judgments are right, so {self.draws_per_pair:.2f} draws a pair "
            f"and {self.kept:.1%} of pairs kept{paired};",
            f"{'':<12} tokens: {a.instruction} an instruction, {a.answer} an answer, {a.judged} a judge's prompt, "
            f"{a.judgment} a judgment, a text log-normal around them with a spread of {a.spread:.0%};",
            *self._unknown_sizes(),
            f"{'':<12} {a.compute:.0%} of peak FLOP/s and {a.bandwidth:.0%} of peak bandwidth reached by engines; {self.links}",
        ]

    def _unknown_sizes(self) -> list[str]:
        heldout = ["heldout.path"] if self.given.heldout is None else []
        unknown = heldout + [name for name, size, _ in self.given.benchmarks if size is None]
        return [f"{'':<12} {self.assumptions.benchmark:,} pairs each in {', '.join(unknown)};"] if unknown else []


def plan(
    config: Config,
    assumptions: Assumptions | None = None,
    given: GivenPairs | None = None,
    sample: SourceSample | None = None,
) -> Plan:
    """The needs of a run of this config. `given` are the sizes of its benchmarks; without them all are assumed.

    `sample` are the first instructions of its source, whose lengths take the place of assumed ones. Raises SourceError if a
    local source is missing.
    """
    assumptions = assumptions or assumed(config)
    assumptions = with_sample(assumptions, sample, config) if sample else assumptions
    seed = shape_of(config.models.seed)
    given = given or assumed_pairs(config)
    phase_plans = _all_phases(config, assumptions, given)

    def idle_share(changed: Config) -> float | None:
        clock = timeline(changed, _all_phases(changed, assumptions, given))
        return clock.idle_share if clock else None

    clock = timeline(config, phase_plans)
    held = held_gpu_hours(clock.gpus, phase_plans) if clock else None
    no_rule = "pass, as select.* has no rule" if assumptions.passing == 1 else "can be used"
    rule = "pass the rule" if has_rule(config.select) else no_rule
    return Plan(
        hardware=_machine(config.hardware),
        links=_links(config),
        roles=tuple(role_plan(setting, model, config) for setting, model in config.named_models.items()),
        training=_training(seed, config, assumptions) if seed else None,
        room=room_plan(config),
        phases=phase_plans,
        iterations=iterations(phase_plans),
        timeline=clock,
        held_gpu_hours=held,
        held_dollars=_held_dollars(held, phase_plans, config.hardware.dollars_per_gpu_hour),
        remedies=remedies(config, idle_share),
        draws_per_pair=assumptions.draws(config.judge),
        kept=assumptions.kept(config.judge.samples),
        paired=None if config.train.objective == "sft" else assumptions.paired(compared_by(config)),
        passing=f"{assumptions.passing:.0%} of instructions {rule}",
        given=given,
        assumptions=assumptions,
        sample=sample,
        sample_words=tuple(sample.words(config.select, assumptions.passing)) if sample else (),
    )


def _training(seed: Shape, config: Config, assumptions: Assumptions) -> TrainingPlan:
    """Memory of the training; it does not fit if it would drop every example."""
    planned, empty = training_plan(seed, config), nothing_fits(config, assumptions)
    return replace(planned, fits=False, remedy=empty) if empty else planned


def _held_dollars(held: float | None, phase_plans: Sequence[PhasePlan], price: float | None) -> float | None:
    if held is None or price is None:
        return None
    bought = sum(sum(phase.times) * (phase.dollars or 0) for phase in phase_plans if phase.gpu_hours == 0)
    return held * price + bought


def _machine(hardware: HardwareConfig) -> str:
    gpus = f": {gpus_words(hardware.gpus)} of {hardware.gpu_memory_gb:g} GB" if hardware.gpus else ""
    return hardware.name + gpus


def _all_phases(config: Config, assumptions: Assumptions, given: GivenPairs) -> tuple[PhasePlan, ...]:
    """The phases with tokens, and before the trainings what happens beside them."""
    with_tokens = phases(config, assumptions, given)
    first = len(with_tokens) - len(stages(config.train))
    measures = any(phase.name in ("evaluation", "benchmarks") for phase in with_tokens)
    return (*with_tokens[:first], *waits(config, with_tokens, assumptions, measures=measures), *with_tokens[first:])


def _links(config: Config) -> str:
    hardware = config.hardware
    host = f"{hardware.pcie_gbs:g} GB/s between a GPU and its host, {hardware.host_gbs:g} GB/s of the host's memory, "
    between = "" if hardware.network_gbs is None else f"{hardware.network_gbs:g} GB/s between machines, "
    return (
        f"{hardware.training_share:.0%} of peak FLOP/s by training; {between}"
        f"{host if config.train.offload == 'optimizer' else ''}{hardware.disk_gbs:g} GB/s from local disks, "
        f"{hardware.fetch_gbs:g} GB/s from the hub and from run_root; the start of machines not counted"
    )
