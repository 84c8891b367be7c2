"""What the driver tells the ranks, and what they tell it: without torch, so that both sides load it in no time."""

from dataclasses import dataclass

from stj.config import ModelConfig, TrainConfig
from stj.storage.digest import FileDigest

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every rank is told: settings, and places (paths or URIs) that all ranks share, no data."""

    config: TrainConfig
    seed_model: ModelConfig
    weights: str
    """Which weights those are."""
    fingerprint: str
    """Of the model that comes out: checkpoints of another one are not touched."""
    examples: str
    """The artifact of training examples."""
    model: str
    """Where the model goes."""
    folder: str
    """Where checkpoints/, reference/ and metrics.jsonl go: beside the model."""
    until: int | None = None
    """Stop after so many steps, checkpoint and export; None goes on to the last."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The facts of a finished training."""

    examples: int
    """Examples that were trained on, once an epoch."""
    dropped: dict[str, int]
    """Examples that were not trained on, by reason."""
    steps: int
    planned_steps: int
    """More than `steps` where the training is to go on, or was stopped early."""
    epochs: int
    supervised_tokens: int
    """Tokens that the loss was taken on, over all steps."""
    reference_forwards: int
    """Micro-batches whose reference log-probabilities were not known yet."""
    loss_first: float
    loss_last: float
    files: dict[str, FileDigest]
    """Of the exported model, by name; on rank 0."""
