"""What the driver gives the ranks, and what they return: without torch, so that both sides load it quickly."""

from dataclasses import dataclass

from stj.config import ModelConfig
from stj.storage.digest import FileDigest
from stj.train_config import TrainConfig

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class TrainingRoom:
    """What a training takes of disks, so that it can make room, or be refused, before its first step."""

    checkpoint_bytes: int = 0
    """A checkpoint of all ranks; 0 if the seed's shape is unknown."""
    model_bytes: int = 0
    """The exported model."""
    done_models: tuple[str, ...] = ()
    """Models that no later phase of the run needs, by path or URI: their copies on the machines may go."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What every rank gets: settings, and places (paths or URIs) that all ranks share; no data."""

    config: TrainConfig
    seed_model: ModelConfig
    weights: str
    """Identity of the seed model's weights."""
    fingerprint: str
    """Fingerprint of the resulting model; the ranks leave checkpoints of other models alone."""
    examples: str
    """The artifact of training examples."""
    model: str
    """Where the model goes."""
    folder: str
    """Where checkpoints/, reference/ and metrics.jsonl go: beside the model."""
    room: TrainingRoom = TrainingRoom()
    until: int | None = None
    """Stop after this many steps, with a checkpoint and an export; None trains to the last step."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The facts of a finished training."""

    examples: int
    """Examples that were trained on, once an epoch."""
    dropped: dict[str, int]
    """Examples that were not trained on, by reason."""
    steps: int
    planned_steps: int
    """More than `steps` if a later segment continues the training, or if it was stopped early."""
    epochs: int
    supervised_tokens: int
    """Tokens under the loss, over all steps."""
    reference_forwards: int
    """Micro-batches whose reference log-probabilities had to be computed."""
    loss_first: float
    loss_last: float
    files: dict[str, FileDigest]
    """Digests of the exported model's files, by name; on rank 0."""
