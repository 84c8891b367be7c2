"""Disk that a run takes: the weights of every iteration, and the checkpoints of the training at work. A GB is 10^9 bytes."""

from dataclasses import dataclass

from stj.config import Config
from stj.models.shapes import Shape
from stj.plan.training import CHECKPOINT_BYTES, exported_parameters, stages, trained_parameters
from stj.text import gigabytes

_WEIGHT_BYTES = 2  # Exported weights are bfloat16.
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


def disk_plan(shape: Shape, trainings: int, config: Config) -> DiskPlan:
    """What this many trainings of a seed of this shape write. If a run has trainings of two kinds, the larger one counts."""
    kinds = [train for _, train in stages(config.train)]
    exported = max(exported_parameters(shape, train) for train in kinds)
    trained = max(trained_parameters(shape, train) for train in kinds)
    models = trainings + (_CANDIDATES if trainings and config.train.selection.path else 0)
    checkpoints = _CHECKPOINTS if trainings else 0
    return DiskPlan(models=models * _WEIGHT_BYTES * exported, checkpoints=checkpoints * CHECKPOINT_BYTES * trained)
