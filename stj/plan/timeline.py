"""One iteration on the clock: how long each of its phases holds the run's machines, and how much GPU time is idle meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

from stj.config import Config
from stj.pair_sources import ANSWERS
from stj.panel import OPINIONS
from stj.plan.phase_cost import PhasePlan, clock_words, gpus_words
from stj.plan.places import machines_of

_SHOWN = 0.001
"""Shares of idle GPU time below this one are not named."""


@dataclass(frozen=True, kw_only=True)
class ClockSpan:
    """A phase of the iteration, over all its times in it."""

    phase: str
    begins: float
    """Hours since the iteration began."""
    hours: float
    idle: float
    """GPU-hours in which GPUs of the run's machines do not compute."""
    bound: str

    @property
    def ends(self) -> float:
        """Hours from the begin of the iteration to the end of this phase."""
        return self.begins + self.hours


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """An iteration on machines that are all held from its begin to its end."""

    iteration: int
    machines: int
    gpus: int
    """GPUs of all machines."""
    spans: tuple[ClockSpan, ...]
    hours: float
    """Hours on the clock."""
    idle_share: float
    """Share of GPU time in which a GPU does not compute, from 0 to 1."""
    dollars: float | None
    """Price of all machines for these hours; None without `hardware.dollars_per_gpu_hour`."""

    def lines(self) -> list[str]:
        """The timeline for a reader."""
        cost = "" if self.dollars is None else f", ${self.dollars:,.0f}"
        held = self.hours * self.gpus
        machines = f"{self.machines} machine{'s' * (self.machines > 1)} of {gpus_words(self.gpus // self.machines)}"
        head = (
            f"{'timeline':<12} iteration {self.iteration} on {machines}: {clock_words(self.hours)}, "
            f"{held:,.1f} GPU-hours{cost}, {self.idle_share:.1%} of them idle"
        )
        return [head, *(self._line(span, held) for span in self.spans)]

    def _line(self, span: ClockSpan, held: float) -> str:
        idle = f", {span.idle / held:.1%} idle" if span.idle / held >= _SHOWN else ""
        return f"{'':<12} at {_clock(span.begins)} {span.phase}: {clock_words(span.hours)}, bound by {span.bound}{idle}"


def timeline(config: Config, phases: Sequence[PhasePlan]) -> Timeline | None:
    """The second iteration, or the first if there is no other.

    None on a CPU, and if a phase of the iteration has unknown hours or more GPUs than the machines: an engine that no machine
    holds.
    """
    machines, index = machines_of(config), min(1, config.iterations - 1)
    gpus = machines * config.hardware.gpus
    here = [phase for phase in sorted(phases, key=_when) if phase.times[index] and phase.gpu_hours != 0]
    if not gpus or not here or any(phase.hours is None or phase.gpus > gpus for phase in here):
        return None
    spans: list[ClockSpan] = []
    for phase in here:
        spans.append(_span(phase, phase.times[index], spans[-1].ends if spans else 0.0, gpus))
    hours, price = spans[-1].ends, config.hardware.dollars_per_gpu_hour
    return Timeline(
        iteration=index + 1,
        machines=machines,
        gpus=gpus,
        spans=tuple(spans),
        hours=hours,
        idle_share=sum(span.idle for span in spans) / (hours * gpus),
        dollars=None if price is None else hours * gpus * price,
    )


def held_gpu_hours(gpus: int, phases: Sequence[PhasePlan]) -> float | None:
    """GPU-hours of the run if this many GPUs are held from its begin to its end; None if a phase has unknown hours."""
    working = [phase for phase in phases if phase.gpu_hours != 0]
    hours = [sum(phase.times) * phase.hours for phase in working if phase.hours is not None]
    return gpus * sum(hours) if len(hours) == len(working) else None


def _span(phase: PhasePlan, times: int, begins: float, gpus: int) -> ClockSpan:
    hours, held = phase.hours or 0.0, phase.gpu_hours or 0.0
    idle = times * (hours * gpus - (held - phase.waiting))
    return ClockSpan(phase=phase.name, begins=begins, hours=times * hours, idle=idle, bound=phase.bound)


# The order in which phases begin. One that runs several times stands where it first begins.
_ORDER = (
    "first starts",
    "embedding",
    ANSWERS,
    "categories",
    "pairs",
    "rubrics",
    "answers",
    "opinions 1",
    "judgments 1",
    OPINIONS,
    "later starts",
    "opinions 2+",
    "judgments 2+",
    "evaluation",
    "held-out grades",
    "benchmarks",
    "seed fetch",
    "rank starts",
    "warm-up",
    "opinions again",
    "judged again",
    "fine-tuning",
    "preference",
    "checkpoints",
    "export",
    "selection",
)


def _when(phase: PhasePlan) -> int:
    return _ORDER.index(next((prefix for prefix in (ANSWERS, OPINIONS) if phase.name.startswith(prefix)), phase.name))


def _clock(hours: float) -> str:
    minutes = round(hours * 60)
    return f"{minutes // 60}:{minutes % 60:02}"
