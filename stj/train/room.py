"""Room on the disks of the machines, made or refused before the first step: a full disk after a day of steps loses a day.

A run on a disk writes its checkpoints and the model there. If the run is in an object store, each machine writes its own part
of a checkpoint, and later a shard of each of its ranks, to TMPDIR before it uploads them.
"""

import socket
import tempfile
from pathlib import Path

import torch.distributed as dist

from stj.errors import StorageFailed
from stj.models.fetch import make_room_at
from stj.storage.folder import Folder
from stj.text import data_size
from stj.train.committed import KEPT
from stj.train.job import CHECKPOINTS, TrainingJob
from stj.train.ranks import first_ranks, gathered


def make_room_everywhere(job: TrainingJob, steps: int) -> None:
    """Has every machine make room for a training of this many steps; all ranks must call it.

    Copies of models go that no process uses: first those that the run has done with, then those unused for an hour.

    Raises StorageFailed, on all ranks, if that is not enough; it names the machine, the place and what fills it.
    """
    first, rank = first_ranks(), dist.get_rank()
    checkpoints = (steps - 1) // job.config.checkpoint_every_steps
    refusal = None
    if rank in first:
        folder = Folder.at(job.folder)
        if folder.local is None:
            refusal = _refusal(job, Path(tempfile.gettempdir()), "TMPDIR", scratch_bytes(job, checkpoints, len(first)))
        elif rank == 0:
            refusal = _refusal(job, folder.local, "run_root", shared_bytes(job, checkpoints, folder.local / CHECKPOINTS))
    for other in filter(None, gathered(refusal)):
        raise StorageFailed(other)


def scratch_bytes(job: TrainingJob, checkpoints: int, machines: int) -> int:
    """What one machine holds in TMPDIR at once: its part of a checkpoint, or a shard of each of its ranks."""
    shards = min(job.room.model_bytes, int(job.config.shard_gb * 1e9) * -(-job.config.workers // machines))
    return max(shards, job.room.checkpoint_bytes // machines if checkpoints else 0)


def shared_bytes(job: TrainingJob, checkpoints: int, folder: Path) -> int:
    """What is still written beside the model: the newest checkpoints and the next one; or those and the model."""
    kept, size = min(KEPT, checkpoints), job.room.checkpoint_bytes
    most = max(min(KEPT + 1, checkpoints) * size, kept * size + job.room.model_bytes)
    return max(0, most - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


def _refusal(job: TrainingJob, place: Path, name: str, size: int) -> str | None:
    """Makes room at a place of this machine; why that is not enough, None if it is."""
    free, filled = make_room_at(place, size, job.room.done_models)
    if not job.room.model_bytes or free >= size:
        return None
    return (
        f"machine {socket.gethostname()}: {data_size(free)} are free at {place} ({name}), and the training of {job.model} "
        f"writes {data_size(size)} there{f'; copies of models take {filled}' if filled else ''}: free space, or set {name} to "
        "a directory on a larger disk"
    )
