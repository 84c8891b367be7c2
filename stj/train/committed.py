"""Which checkpoints of a training run are finished: their manifests, without torch, so that the driver can look too."""

import json
import logging
from dataclasses import dataclass

from stj.errors import TrainingFailed
from stj.storage.artifacts import MANIFEST
from stj.storage.folder import Folder

log = logging.getLogger(__name__)

KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The manifest of a checkpoint."""

    fingerprint: str
    """Of the model artifact that is being trained."""
    step: int
    """Steps that are done."""
    epoch: int
    samples: int
    """Examples that are done."""
    world_size: int
    files: dict[str, str]
    """SHA-256 of each file."""
    seconds: float = 0
    """How long it took to write: whether another fits into a notice."""

    @property
    def tag(self) -> str:
        """Its directory's name."""
        return tag_of(self.step)


def tag_of(step: int) -> str:
    """Name of a checkpoint's directory."""
    return f"step_{step:08d}"


def committed(folder: Folder, fingerprint: str) -> list[Checkpoint]:
    """The finished checkpoints of one model, newest first; those of other models and torn ones are passed by."""
    found = []
    for tag in reversed(_tags(folder)):
        if not (folder / tag).exists(MANIFEST):
            continue
        try:
            checkpoint = Checkpoint(**json.loads((folder / tag).read(MANIFEST)))
        except (ValueError, TypeError):
            log.warning("%s: its %s is damaged: this checkpoint is passed by", (folder / tag).uri, MANIFEST)
            continue
        if checkpoint.fingerprint == fingerprint:
            found.append(checkpoint)
    return found


def check_world_size(checkpoint: Checkpoint, world_size: int) -> None:
    """Refuses to go on with another number of ranks: their parts of the optimizer would not fit."""
    if checkpoint.world_size != world_size:
        raise TrainingFailed(
            f"checkpoint {checkpoint.tag} was written by {checkpoint.world_size} ranks and this run has {world_size}: "
            f"set train.workers={checkpoint.world_size} to go on, or delete the checkpoints to start again"
        )


def prune(folder: Folder, fingerprint: str) -> None:
    """Deletes all checkpoints but the newest two of this model."""
    keep = {checkpoint.tag for checkpoint in committed(folder, fingerprint)[:KEPT]}
    for tag in _tags(folder):
        if tag not in keep:
            (folder / tag).remove()


def _tags(folder: Folder) -> list[str]:
    """Names of the checkpoints' directories, whole and torn, oldest first."""
    return [name for name in folder.folders() if name.startswith("step_")]
