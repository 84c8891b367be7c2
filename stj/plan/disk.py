"""Disk that a run takes: the weights of every iteration, and the checkpoints of the training at work. A GB is 10^9 bytes."""

from dataclasses import dataclass

from stj.config import Config
from stj.models.shapes import Shape
from stj.models.zero import CHECKPOINT_BYTES
from stj.plan.training import exported_parameters, stages, trained_parameters
from stj.text import data_size

WEIGHT_BYTES = 2
"""Bytes of a parameter in exported weights, which are bfloat16."""
_CHECKPOINTS = 3  # Two are kept, and a third is written before the oldest is deleted.
_NEWEST = 3  # M_{i-1} and M_i stay, and M_{i+1} is written before M_{i-1} is removed.
_CANDIDATES = 2  # With train.selection, the best checkpoint so far and the newest one wait as models.


@dataclass(frozen=True, kw_only=True)
class DiskPlan:
    """Bytes that the rest of a run writes, except for rows, which are small beside them."""

    models: int
    """Weights of the models that are still to be trained; with keep_models=last, of those that are there at once."""
    checkpoints: int
    """The most that the checkpoints of one training take at once."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.models + self.checkpoints

    def words(self) -> str:
        """This plan in words."""
        parts = f"{data_size(self.models)} of models, {data_size(self.checkpoints)} of checkpoints"
        return f"{data_size(self.total)} ({parts})"


def disk_plan(shape: Shape, trainings: int, config: Config) -> DiskPlan:
    """What this many trainings of a seed of this shape write. If a run has trainings of two kinds, the larger one counts."""
    kinds = [train for _, train in stages(config.train)]
    exported = max(exported_parameters(shape, train) for train in kinds)
    trained = max(trained_parameters(shape, train) for train in kinds)
    kept = trainings if config.keep_models == "all" else min(trainings, _NEWEST * len(kinds))
    models = kept + (_CANDIDATES if trainings and config.train.selection.path else 0)
    checkpoints = _CHECKPOINTS if trainings else 0
    return DiskPlan(models=models * WEIGHT_BYTES * exported, checkpoints=checkpoints * CHECKPOINT_BYTES * trained)
