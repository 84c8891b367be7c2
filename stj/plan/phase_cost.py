"""The cost of a phase, of an iteration and of a run, as lines of the printed plan."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from stj.plan.memory import count


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one part of a run, done once."""

    tokens_in: float
    tokens_out: float
    """Sampled tokens; in training, the tokens under the loss."""
    gpu_hours: float | None
    """None on a CPU, or if the model's shape is unknown."""
    dollars: float | None

    def words(self) -> str:
        """This cost in words."""
        tokens = [f"{count(self.tokens_in)} tokens in, {count(self.tokens_out)} out"] if self.tokens_in else []
        return ", ".join([*tokens, *spent_words(self.gpu_hours, self.dollars)])


@dataclass(frozen=True, kw_only=True)
class PhasePlan(Cost):
    """One phase of the run, once."""

    name: str
    times: tuple[int, ...]
    """Number of runs of the phase in each iteration."""
    gpus: int = 0
    """GPUs that the phase holds while it runs."""
    bound: str = ""
    """What takes most of its time: compute, network, host, memory, disk or engines; empty on a CPU and behind an API."""
    waiting: float = 0.0
    """How many of `gpu_hours` its GPUs wait: for weights, the network, a disk or the last rows."""
    steps: float = 0.0
    """Steps of a training."""
    step_seconds: float = 0.0
    """Seconds of one of them, without a reference; 0 if they are unknown."""
    dropped: str = ""
    """Which examples a training drops, in words; empty if none."""
    parts: str = ""
    """What a wait is made of, in words; empty for a phase with tokens."""

    @property
    def hours(self) -> float | None:
        """Hours on the clock, once; None if they are unknown, or if no GPU is held."""
        return self.gpu_hours / self.gpus if self.gpus and self.gpu_hours is not None else None

    def line(self) -> str:
        """This phase as a line of the printed plan."""
        times = sum(self.times)
        spent = ", ".join(spent_words(*total([(times, self)])))
        often = f"; {times} times{': ' if spent else ''}{spent}" if times > 1 else ""
        clock = f", {clock_words(self.hours)} on {gpus_words(self.gpus)}" if self.hours else ""
        bound = f", bound by {self.bound}" if self.bound else ""
        more = "".join(f"; {words}" for words in (self.dropped, self.parts) if words)
        return f"{self.name:<12} {self.words()}{clock}{bound}{often}{more}"


@dataclass(frozen=True, kw_only=True)
class IterationPlan(Cost):
    """The cost of each of several consecutive iterations that cost the same."""

    first: int
    last: int

    def line(self) -> str:
        """These iterations as a line of the printed plan."""
        name = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}, each"
        return f"{'iteration':<12} {name}: {self.words()}"


def iterations(phase_plans: Sequence[PhasePlan]) -> tuple[IterationPlan, ...]:
    """The costs of all iterations; the first one also makes the pairs, and the last one also measures M_T."""
    plans: list[IterationPlan] = []
    for times, same in groupby(zip(*(phase.times for phase in phase_plans), strict=True)):
        first = plans[-1].last + 1 if plans else 1
        parts = [(often, phase) for often, phase in zip(times, phase_plans, strict=True) if often]
        gpu_hours, dollars = total(parts)
        plans.append(
            IterationPlan(
                first=first,
                last=first + sum(1 for _ in same) - 1,
                tokens_in=sum(often * phase.tokens_in for often, phase in parts),
                tokens_out=sum(often * phase.tokens_out for often, phase in parts),
                gpu_hours=gpu_hours,
                dollars=dollars,
            )
        )
    return tuple(plans)


def total(costs: Iterable[tuple[int, Cost]]) -> tuple[float | None, float | None]:
    """Sums of the known GPU-hours and dollars of (times, cost) pairs; None if none is known."""
    parts = list(costs)
    hours = [times * cost.gpu_hours for times, cost in parts if cost.gpu_hours is not None]
    dollars = [times * cost.dollars for times, cost in parts if cost.dollars is not None]
    return sum(hours) if hours else None, sum(dollars) if dollars else None


def spent_words(gpu_hours: float | None, dollars: float | None) -> list[str]:
    """GPU-hours and dollars in words, if they are known."""
    hours = [] if not gpu_hours else [f"{gpu_hours:,.1f} GPU-hours"]
    return hours if dollars is None else [*hours, f"${dollars:,.0f}"]


def gpus_words(gpus: int) -> str:
    """A number of GPUs in words: `1 GPU`, `8 GPUs`."""
    return f"{gpus} GPU{'s' * (gpus != 1)}"


def clock_words(hours: float) -> str:
    """A time on the clock in words: `45 s`, `12 min`, `1.6 h`."""
    seconds = hours * 3600
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:,.1f} h"
