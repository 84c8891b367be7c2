"""Checkpoints of a training run: one directory each, whose manifest is written last and whose files are checked before use.

    checkpoints/step_00000100/   what DeepSpeed writes, each rank its own part
    checkpoints/step_00000100/manifest.json

What is frozen is not in a checkpoint: a training of adapters takes the seed's weights from the seed.

Each rank writes and reads only its own files. If the run is in an object store, they pass through the rank's scratch disk.
DeepSpeed unpickles what it loads, and a pickle can run code: only files whose hashes are in the manifest are loaded.
"""

import hashlib
import logging
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
import torch.distributed as dist

from stj.storage.artifacts import MANIFEST
from stj.storage.folder import Folder, explain_write_failure, workspace, write_failure
from stj.train.committed import Checkpoint, check_world_size, committed, prune

log = logging.getLogger(__name__)

_TORCH_WRITER = re.compile("PytorchStreamWriter|inline_container")  # its failures are RuntimeErrors that name its source file


def save(engine: deepspeed.DeepSpeedEngine, folder: Folder, position: Checkpoint) -> Checkpoint:
    """Writes a checkpoint, its manifest last, and deletes all but the newest two; all ranks must call it.

    `position` comes without files: each rank hashes those that it wrote. Returns the manifest.

    Raises StorageFailed, on the rank that meets it, if the disk is full.
    """
    started = time.monotonic()
    target = folder / position.tag
    rank = dist.get_rank()
    if rank == 0:
        target.remove()  # a torn one, if an earlier run was killed while it wrote
    dist.barrier()
    with workspace(folder) as directory, _explained(directory):
        written = directory / position.tag
        written.mkdir(parents=True, exist_ok=True)
        rng = {"rng": _rng_state()}
        engine.save_checkpoint(
            str(directory), tag=position.tag, client_state=rng, save_latest=False, exclude_frozen_parameters=True
        )
        hashes = {name: _hash_and_sync(written / name) for name in _files_of_rank(os.listdir(written), rank)}
        for name in hashes:
            target.upload(written / name)
    whole = replace(position, files=_of_all_ranks(hashes), seconds=round(time.monotonic() - started, 3))
    if rank == 0:
        target.write_json(MANIFEST, asdict(whole))
        prune(folder, position.fingerprint)
    dist.barrier()
    return whole


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turns a failed write into one line. PyTorch's writer of files names no reason: it is mostly a full disk."""
    try:
        with explain_write_failure(str(directory)):
            yield
    except RuntimeError as error:
        if not _TORCH_WRITER.search(str(error)):
            raise
        raise write_failure(str(directory), "the disk took only a part of a checkpoint", lasting=True) from None


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
    return _of_all_ranks({name: _hash_and_sync(source.download(name, to)) for name in names}) == checkpoint.files


def _of_all_ranks(hashes: dict[str, str]) -> dict[str, str]:
    """The hashes of all ranks' files together, on each rank."""
    by_rank: list[dict[str, str]] = [{}] * dist.get_world_size()
    dist.all_gather_object(by_rank, hashes)
    return {name: digest for of_rank in by_rank for name, digest in of_rank.items()}


def _hash_and_sync(path: Path) -> str:
    """SHA-256 of a file; when this returns, the file is on the disk, not only in memory."""
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
