"""Checkpoints of a training run: a directory for each, its manifest written last, its files checked before they are read.

    checkpoints/step_00000100/   what DeepSpeed writes, each rank its own part
    checkpoints/step_00000100/manifest.json

Each rank writes and reads its own files only, so where the run is in an object store each has them on a scratch disk between.
DeepSpeed unpickles what it loads, and a pickle can run code: only files whose hashes are in the manifest are loaded.
"""

import hashlib
import logging
import os
import random
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed as dist

from stj.storage.artifacts import MANIFEST
from stj.storage.folder import Folder, workspace
from stj.train.committed import Checkpoint, check_world_size, committed, prune

log = logging.getLogger(__name__)


def save(engine: deepspeed.DeepSpeedEngine, folder: Folder, position: Checkpoint) -> Checkpoint:
    """Writes a checkpoint with all ranks; its manifest last, then all but the newest two are deleted.

    `position` comes without files: their hashes are taken here, by the rank that wrote each. Returns what its manifest says.
    """
    started = time.monotonic()
    target = folder / position.tag
    rank = dist.get_rank()
    if rank == 0:
        target.remove()  # torn: an earlier try ended while it wrote
    dist.barrier()
    with workspace(folder) as directory:
        written = directory / position.tag
        written.mkdir(parents=True, exist_ok=True)
        engine.save_checkpoint(str(directory), tag=position.tag, client_state={"rng": _rng_state()}, save_latest=False)
        own = {name: _hash_and_sync(written / name) for name in _own(os.listdir(written), rank)}
        for name in own:
            target.upload(written / name)
    written_whole = replace(position, files=_of_all_ranks(own), seconds=round(time.monotonic() - started, 3))
    if rank == 0:
        target.write_json(MANIFEST, asdict(written_whole))
        prune(folder, position.fingerprint)
    dist.barrier()
    return written_whole


def restore(engine: deepspeed.DeepSpeedEngine, folder: Folder, fingerprint: str, until: int | None = None) -> Checkpoint | None:
    """Loads the newest whole checkpoint of this model, with random states; returns what its manifest says, None for none.

    One of more than `until` steps is passed by.

    Raises TrainingFailed where it was written by another number of ranks.
    """
    for checkpoint in _committed(folder, fingerprint):
        if until is not None and checkpoint.step > until:
            continue
        check_world_size(checkpoint, dist.get_world_size())
        with workspace(folder) as directory:
            if not _fetched_whole(folder / checkpoint.tag, checkpoint, directory / checkpoint.tag):
                log.warning("%s: its files are not what was written: the one before it is used", (folder / checkpoint.tag).uri)
                continue
            _, state = engine.load_checkpoint(str(directory), tag=checkpoint.tag)
        _set_rng_state(state["rng"])
        return checkpoint
    return None


def _committed(folder: Folder, fingerprint: str) -> list[Checkpoint]:
    """The finished checkpoints as rank 0 sees them: on all ranks the same, or they would wait for each other for ever."""
    seen = [committed(folder, fingerprint) if dist.get_rank() == 0 else []]
    dist.broadcast_object_list(seen)
    return seen[0]


def _own(names: Iterable[str], rank: int) -> list[str]:
    """The files of a checkpoint that this rank writes and reads; rank 0 also answers for any that belong to none."""
    files = sorted(name for name in names if name != MANIFEST)
    return [name for name in files if f"pp_rank_{rank}_" in name or (rank == 0 and "pp_rank_" not in name)]


def _fetched_whole(source: Folder, checkpoint: Checkpoint, to: Path) -> bool:
    """Whether every rank has its files in `to` as they were written; all ranks get the same answer."""
    own = {name: _hash_and_sync(source.download(name, to)) for name in _own(source.names(), dist.get_rank())}
    return _of_all_ranks(own) == checkpoint.files


def _of_all_ranks(own: dict[str, str]) -> dict[str, str]:
    """The hashes of all ranks' files together, on each rank."""
    parts: list[dict[str, str]] = [{}] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    return {name: digest for part in parts for name, digest in part.items()}


def _hash_and_sync(path: Path) -> str:
    """SHA-256 of a file that is on the disk, not only in memory, when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rng_state() -> dict[str, Any]:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def _set_rng_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
