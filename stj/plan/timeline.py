"""One iteration on the clock: how long each of its phases holds the run's machines, and how much GPU time is idle meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass

from stj.config import Config
from stj.plan.cost import PhasePlan, clock_words
from stj.plan.places import machines_of

_SHOWN = 0.005
"""Shares of idle GPU time below this one are not named."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A phase of the iteration, over all its times in it."""

    phase: str
    begins: float
    """Hours since the iteration began."""
    hours: float
    idle: float
    """GPU-hours in which GPUs of the run's machines do not compute."""
    bound: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """An iteration on machines that are all held from its begin to its end."""

    iteration: int
    machines: int
    gpus: int
    """GPUs of all machines."""
    spans: tuple[Span, ...]
    dollars: float | None

    @property
    def hours(self) -> float:
        """Hours on the clock."""
        return sum(span.hours for span in self.spans)

    @property
    def idle_share(self) -> float:
        """Share of GPU time in which a GPU does not compute, from 0 to 1."""
        held = self.hours * self.gpus
        return sum(span.idle for span in self.spans) / held if held else 0.0

    def lines(self, name: str) -> list[str]:
        """The timeline for a reader, on machines of this name."""
        cost = "" if self.dollars is None else f", ${self.dollars:,.0f}"
        held = self.hours * self.gpus
        head = (
            f"{'timeline':<12} iteration {self.iteration} on {self.machines} x ({name}): {clock_words(self.hours)}, "
            f"{held:,.1f} GPU-hours{cost}, {self.idle_share:.1%} of them idle"
        )
        return [head, *(self._line(span, held) for span in self.spans)]

    def _line(self, span: Span, held: float) -> str:
        idle = f", {span.idle / held:.1%} idle" if span.idle / held >= _SHOWN / 5 else ""
        return f"{'':<12} at {_clock(span.begins)} {span.phase}: {clock_words(span.hours)}, bound by {span.bound}{idle}"


def timeline(config: Config, phases: Sequence[PhasePlan]) -> Timeline | None:
    """The second iteration, or the first if there is no other; None if a phase of it has unknown hours."""
    gpus = machines_of(config) * config.hardware.gpus
    index = min(1, config.iterations - 1)
    spans: list[Span] = []
    for phase in sorted(phases, key=_when):
        times = phase.times[index]
        if not times or (phase.gpu_hours == 0 and not phase.gpus):
            continue
        if phase.hours is None or phase.gpu_hours is None:
            return None
        begins = spans[-1].begins + spans[-1].hours if spans else 0.0
        busy = phase.gpu_hours - phase.waiting
        idle = times * (phase.hours * gpus - busy)
        spans.append(Span(phase=phase.name, begins=begins, hours=times * phase.hours, idle=idle, bound=phase.bound))
    if not spans or not gpus:
        return None
    price, hours = config.hardware.dollars_per_gpu_hour, sum(span.hours for span in spans)
    dollars = None if price is None else hours * gpus * price
    return Timeline(iteration=index + 1, machines=machines_of(config), gpus=gpus, spans=tuple(spans), dollars=dollars)


# The order in which phases begin. One that runs several times stands where it first begins.
_ORDER = (
    "first starts",
    "categories",
    "pairs",
    "judgments 1",
    "later starts",
    "judgments 2+",
    "evaluation",
    "benchmarks",
    "seed fetch",
    "rank starts",
    "warm-up",
    "judged again",
    "fine-tuning",
    "preference",
    "checkpoints",
    "export",
    "selection",
)


def _when(phase: PhasePlan) -> int:
    return _ORDER.index(phase.name)


def _clock(hours: float) -> str:
    minutes = round(hours * 60)
    return f"{minutes // 60}:{minutes % 60:02}"
