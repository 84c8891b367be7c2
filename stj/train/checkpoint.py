"""Checkpoints of a training run: one directory each, whose manifest is written last and whose files are checked before use.

    checkpoints/step_00000100/   what DeepSpeed writes, each rank its own part
    checkpoints/step_00000100/manifest.json

What is frozen is not in a checkpoint: a training of adapters takes the seed's weights from the seed.

Each rank writes (stj/train/checkpoint_writer.py) and reads only its own files. If the run is in an object store, they pass
through the rank's scratch disk.
DeepSpeed unpickles what it loads, and a pickle can run code: only files whose hashes are in the manifest are loaded.
"""

import logging
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed as dist

from stj.storage.artifacts import MANIFEST
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, workspace
from stj.train.committed import Checkpoint, check_world_size, committed
from stj.train.ranks import gathered

log = logging.getLogger(__name__)


def restore(engine: deepspeed.DeepSpeedEngine, folder: Folder, fingerprint: str, until: int | None = None) -> Checkpoint | None:
    """Loads the newest whole checkpoint of this model, with random states; returns its manifest, None if there is none.

    Skips checkpoints of more than `until` steps.

    Raises TrainingFailed if another number of ranks wrote it.
    """
    for checkpoint in _committed(folder, fingerprint):
        if until is not None and checkpoint.step > until:
            continue
        check_world_size(checkpoint, dist.get_world_size())
        with workspace(folder) as directory:
            if not _fetched_whole(folder / checkpoint.tag, checkpoint, directory / checkpoint.tag):
                log.warning(
                    "%s: its files are not what was written: trying the checkpoint before it", (folder / checkpoint.tag).uri
                )
                continue
            whole = all(parameter.requires_grad for parameter in engine.module.parameters())
            _, state = engine.load_checkpoint(str(directory), tag=checkpoint.tag, load_module_strict=whole)
        _set_rng_state(state["rng"])
        return checkpoint
    return None


def _committed(folder: Folder, fingerprint: str) -> list[Checkpoint]:
    """The finished checkpoints as rank 0 sees them: ranks that saw different ones would wait for each other forever."""
    checkpoints = [committed(folder, fingerprint) if dist.get_rank() == 0 else []]
    dist.broadcast_object_list(checkpoints)
    return checkpoints[0]


def _files_of_rank(names: Iterable[str], rank: int) -> list[str]:
    """The files of a checkpoint that this rank writes and reads; rank 0 also takes the files that belong to no rank."""
    files = sorted(name for name in names if name != MANIFEST)
    return [name for name in files if f"pp_rank_{rank}_" in name or (rank == 0 and "pp_rank_" not in name)]


def _fetched_whole(source: Folder, checkpoint: Checkpoint, to: Path) -> bool:
    """Whether every rank has its files in `to` as they were written; all ranks get the same answer."""
    names = _files_of_rank(source.names(), dist.get_rank())
    return _of_all_ranks({name: hash_and_sync(source.download(name, to)) for name in names}) == checkpoint.files


def _of_all_ranks(hashes: dict[str, str]) -> dict[str, str]:
    """The hashes of all ranks' files together, on each rank."""
    return {name: digest for of_rank in gathered(hashes) for name, digest in of_rank.items()}


def hash_and_sync(path: Path) -> str:
    """SHA-256 of a file; when this returns, the file is on the disk, not only in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return FileDigest.of_file(path).sha256


def rng_state() -> dict[str, Any]:
    """The states of all random generators of this rank."""
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def _set_rng_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
