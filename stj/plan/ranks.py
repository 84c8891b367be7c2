"""Where the ranks of a training run: Ray fills one machine after the other."""

from dataclasses import dataclass

from stj.cluster_config import HardwareConfig
from stj.models.zero import needs_even_ranks, uneven_ranks
from stj.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Where the ranks of a training run."""

    count: int
    machines: int

    @classmethod
    def of(cls, train: TrainConfig, hardware: HardwareConfig) -> "Ranks":
        """As many machines as hold all ranks. A machine without GPUs holds any number."""
        machines = -(-train.workers // hardware.gpus) if hardware.gpus else 1
        return cls(count=train.workers, machines=machines)

    @property
    def others(self) -> float:
        """The share of a collective's bytes that a rank has not itself: (R-1)/R."""
        return (self.count - 1) / self.count


def uneven(train: TrainConfig, hardware: HardwareConfig) -> str:
    """Why this training is refused on these machines, in words, as its ranks refuse it; empty if they take it."""
    full, left = divmod(train.workers, hardware.gpus or train.workers)
    refused = train.device == "gpu" and full > 0 and left > 0 and needs_even_ranks(train)
    return uneven_ranks(train, [*[hardware.gpus] * full, left]) if refused else ""
