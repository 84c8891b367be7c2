"""How far a run is: phases left, the time to its end, and what it costs.

A phase that is to come takes as long as the last phase of its kind took: iterations repeat the same phases. What no phase of
its kind has shown yet is unknown, and a `+` behind the time says so.
"""

import re
import time
from collections.abc import Sequence

from stj.config import Config
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.kinds import ExamplesPhase, TrainingPhase
from stj.loop.phase import Phase
from stj.loop.spending import training_dollars
from stj.text import Part, Parts, duration

_NUMBER = re.compile(r"_\d+(?=/|$)")


class Outlook:
    """The phases of a run, and which of them runs now."""

    def __init__(self, phases: Sequence[Phase], config: Config, dollars: float | None = None) -> None:
        """`dollars` is what the whole run costs by its plan; None if no price is known."""
        self._phases = phases
        self._price = config.hardware.dollars_per_gpu_hour
        self._planned = dollars
        self._seconds: dict[str, float | None] = {}
        """Of phases that are done; None if nothing says how long it took, as earlier versions did not."""
        self._spent: dict[str, float] = {}
        self._current: Phase | None = None
        self._began = time.monotonic()
        for phase in phases:
            if phase.artifact.state()[0] == "done":
                self._take(phase, phase.artifact.manifest().get("seconds"))

    def begin(self, phase: Phase) -> None:
        """A phase runs from now on."""
        self._current, self._began = phase, time.monotonic()

    def end(self, phase: Phase) -> None:
        """The phase is done, or was done already."""
        if phase.name not in self._seconds and phase.artifact.state()[0] == "done":
            self._take(phase, time.monotonic() - self._began)
        self._current = None

    def parts(self, eta_s: float | None, dollars: float | None) -> Parts:
        """The run beside its phase, for a live line; `eta_s` and `dollars` are the phase's own, None if unknown."""
        if self._current is None:
            return []
        number = next(place for place, phase in enumerate(self._phases, 1) if phase is self._current)
        parts = [Part(f"phase {number}/{len(self._phases)}", 4)]
        if self._planned is not None:
            spent = sum(self._spent.values()) + (dollars if dollars is not None else self._training_dollars(self._current))
            parts.append(Part(f"${spent:,.2f} of about ${max(spent, self._planned):,.2f}", 5))
        seconds, unknown = self._left(eta_s)
        if seconds is not None:
            parts.append(Part(f"run eta {duration(seconds)}{'+' if unknown else ''}", 1))
        return parts

    def _left(self, eta_s: float | None) -> tuple[float | None, bool]:
        """Seconds to the end of the run, None if nothing of it is known, and whether a part is unknown."""
        of_kind = {_kind(phase): seconds for phase in self._phases if (seconds := self._seconds.get(phase.name)) is not None}
        known = [] if eta_s is None else [eta_s]
        unknown = eta_s is None
        if eta_s is None and self._current and (whole := of_kind.get(_kind(self._current))) is not None:
            known.append(max(0.0, whole - (time.monotonic() - self._began)))
            unknown = False
        for phase in self._phases:
            if phase is self._current or phase.name in self._seconds or isinstance(phase, BenchmarkPhase):
                continue  # a benchmark is judged in the pass of its judge
            seconds = 0.0 if isinstance(phase, ExamplesPhase) else of_kind.get(_kind(phase))
            unknown = unknown or seconds is None
            known += [] if seconds is None else [seconds]
        return (sum(known) if any(known) or not unknown else None), unknown

    def _take(self, phase: Phase, seconds: float | None) -> None:
        self._seconds[phase.name] = seconds
        ledger = phase.artifact.manifest().get("ledger", {})
        spent = ledger.get("dollars") or 0.0
        self._spent[phase.name] = spent + self._training_dollars(phase, seconds or 0.0)

    def _training_dollars(self, phase: Phase, seconds: float | None = None) -> float:
        """The price of the GPUs of a training; 0 for other phases."""
        if not isinstance(phase, TrainingPhase):
            return 0.0
        seconds = time.monotonic() - self._began if seconds is None else seconds
        return training_dollars(phase.train, self._price, seconds) or 0.0


def _kind(phase: Phase) -> str:
    """Its name without numbers: phases of one kind take about as long."""
    return _NUMBER.sub("", phase.name)
