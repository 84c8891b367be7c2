"""What the engines or ranks of a run ask of a cluster, in numbers and in words."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

HELPER_CPUS = 2  # Logical CPUs for Ray Data's reading and splitting tasks, which mostly wait.
COUNTED = ("CPU", "GPU")
"""The resources of Ray that engines and ranks take."""
_SLACK = 1e-6  # Ray counts resources in steps of 0.0001.


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What the engines or ranks of a run ask of the cluster. Each one, a bundle, fits on one machine."""

    setting: str
    """Setting that asks for the bundles."""
    noun: str
    """What takes a bundle, in the plural."""
    bundles: int
    """Number of engines or ranks without which the run cannot work."""
    cpus: float
    """CPUs of one bundle (an engine or a rank)."""
    gpus: float
    """GPUs of one bundle."""
    place: Mapping[str, str] = field(default_factory=dict)
    """Ray's label selector of the machines, {} for any."""
    place_setting: str = ""
    """Setting that names the place."""
    helper_cpus: float = 0
    """CPUs that must be left over for others, on any machine."""
    uneven: Callable[[Sequence[int]], str] | None = None
    """Why machines with these unequal numbers of bundles are refused, in words; None if they may be unequal."""

    @property
    def total(self) -> dict[str, float]:
        """Resources of all bundles, by name."""
        return {"CPU": self.bundles * self.cpus, "GPU": self.bundles * self.gpus}

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one bundle, by name, without those of which it takes none."""
        return {name: amount for name, amount in (("CPU", self.cpus), ("GPU", self.gpus)) if amount}

    def held_by(self, resources: Mapping[str, float]) -> int:
        """Number of bundles that a machine with these resources holds."""
        fits = [math.floor(resources.get(name, 0) / amount + _SLACK) for name, amount in self.bundle.items()]
        return min(fits, default=self.bundles)

    @property
    def each(self) -> str:
        """One bundle in words: `1 CPU, 2 GPUs each`."""
        return f"{amounts(self.bundle) or 'nothing'} each"

    @property
    def place_words(self) -> str:
        """The setting of the place: `train.place={market-type: gold}`."""
        return f"{self.place_setting}={{{', '.join(f'{label}: {wanted}' for label, wanted in self.place.items())}}}"

    @property
    def at(self) -> str:
        """` at train.place={market-type: spot}`; empty for a demand without a place."""
        return f" at {self.place_words}" if self.place else ""


def amounts(resources: Mapping[str, float]) -> str:
    """CPUs and GPUs in words: `1 CPU, 2 GPUs`; those of which there are none are left out."""
    counted = [(resources.get(name, 0), name) for name in COUNTED]
    return ", ".join(f"{amount:g} {name}{'' if amount == 1 else 's'}" for amount, name in counted if amount)
