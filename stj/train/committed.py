"""The finished checkpoints of a training run, by their manifests; without torch, so that the driver can look too."""

import logging
from dataclasses import dataclass

from stj.errors import ArtifactError, TrainingFailed
from stj.storage.artifacts import MANIFEST
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed

log = logging.getLogger(__name__)

KEPT = 2  # The newest may turn out damaged: then training resumes from the one before.


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The manifest of a checkpoint."""

    fingerprint: str
    """Fingerprint of the model artifact in training."""
    step: int
    """Steps done."""
    epoch: int
    samples: int
    """Examples done."""
    world_size: int
    files: dict[str, str]
    """SHA-256 of each file."""
    seconds: float = 0
    """Seconds that it took, from its state to its files: they show whether another one fits into a notice."""
    stopped: float = 0
    """Seconds of these before steps could run again."""

    @property
    def tag(self) -> str:
        """Its directory's name."""
        return tag_of(self.step)


_FIELDS = ("fingerprint", "step", "epoch", "samples", "world_size", "files")


def tag_of(step: int) -> str:
    """Name of a checkpoint's directory."""
    return f"step_{step:08d}"


def committed(folder: Folder, fingerprint: str) -> list[Checkpoint]:
    """The finished checkpoints of one model, newest first; skips torn ones and other models' checkpoints."""
    checkpoints = []
    for tag in reversed(_tags(folder)):
        if not (folder / tag).exists(MANIFEST):
            continue
        try:
            checkpoint = Checkpoint(**read_sealed(folder / tag, MANIFEST, "this checkpoint is skipped", fields=_FIELDS))
        except ArtifactError as error:
            log.warning("%s", error)
            continue
        if checkpoint.fingerprint == fingerprint:
            checkpoints.append(checkpoint)
    return checkpoints


def check_world_size(checkpoint: Checkpoint, world_size: int) -> None:
    """Raises TrainingFailed for another number of ranks: their parts of the optimizer would not fit."""
    if checkpoint.world_size != world_size:
        raise TrainingFailed(
            f"checkpoint {checkpoint.tag} was written by {checkpoint.world_size} ranks and this run has {world_size}: "
            f"set train.workers={checkpoint.world_size} to resume, or delete the checkpoints to start again"
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
