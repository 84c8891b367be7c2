"""Disk that a run takes: the weights of every iteration, and the checkpoints of the training at work. A GB is 10^9 bytes."""

from dataclasses import dataclass

from stj.config import Config
from stj.plan.memory import GB

_WEIGHT_BYTES = 2  # Exported weights are bfloat16.
_CHECKPOINT_BYTES = 12  # Weights and two moments of AdamW in fp32, for each parameter (ZeRO-3, over all ranks).
_CHECKPOINTS = 3  # Two are kept, and a third is written before the oldest is deleted.
_CANDIDATES = 2  # With train.selection, the best checkpoint so far and the newest one wait as models.


@dataclass(frozen=True, kw_only=True)
class DiskPlan:
    """Bytes that the rest of a run writes, except for rows, which are small beside them."""

    models: int
    """Weights of the models that are still to be trained."""
    checkpoints: int
    """The most that the checkpoints of one training take at once."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.models + self.checkpoints

    def words(self) -> str:
        """This plan in words."""
        parts = f"{gigabytes(self.models)} of models, {gigabytes(self.checkpoints)} of checkpoints"
        return f"{gigabytes(self.total)} ({parts})"


def gigabytes(size: int) -> str:
    """A size in words: `0.0121 GB`, `3,250 GB`."""
    return f"{size / GB:,.0f} GB" if size >= 100 * GB else f"{size / GB:.3g} GB"


def disk_plan(parameters: int, trainings: int, config: Config) -> DiskPlan:
    """What this many trainings of a model with this many parameters write."""
    models = trainings + (_CANDIDATES if trainings and config.train.selection.path else 0)
    checkpoints = _CHECKPOINTS if trainings else 0
    return DiskPlan(models=models * _WEIGHT_BYTES * parameters, checkpoints=checkpoints * _CHECKPOINT_BYTES * parameters)
