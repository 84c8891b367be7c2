"""The state of a training in the host's memory, where later steps do not change it.

DeepSpeed knows what a checkpoint holds, but writes it at once, to files. Here it gets a writer of our own, which copies.
"""

import copy
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine
from torch import Tensor

from stj.models.zero import CHECKPOINT_BYTES, SNAPSHOT_SHARE
from stj.storage.folder import explain_write_failure
from stj.train.host import free_memory
from stj.train.ranks import ranks_here

FileStates = dict[str, Any]
"""What a rank writes, by the name of the file."""


class HostMemory:
    """Copies of tensors in the host's memory, for one snapshot at a time.

    The memory stays for the next snapshot: the first copy to new pages is several times slower than a copy to used ones.
    """

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}

    def fits(self, engine: deepspeed.DeepSpeedEngine) -> bool:
        """Whether the machine has room for a copy of what all its ranks write."""
        trained = sum(parameter.ds_tensor.numel() for parameter in engine.module.parameters() if parameter.requires_grad)
        return bool(self._copies) or CHECKPOINT_BYTES * trained * ranks_here() <= SNAPSHOT_SHARE * free_memory()

    def copied(self, value: Any, key: str) -> Any:
        """The value with all its tensors on the host; the `key` names it, and is the same in each snapshot."""
        if isinstance(value, Tensor):
            return self._copy_of(value, key)
        if type(value) in (dict, OrderedDict):
            return type(value)((name, self.copied(item, f"{key}/{name}")) for name, item in value.items())
        if type(value) in (list, tuple):
            return type(value)(self.copied(item, f"{key}/{index}") for index, item in enumerate(value))
        return copy.deepcopy(value)

    def _copy_of(self, tensor: Tensor, key: str) -> Tensor:
        held = self._copies.get(key)
        if held is None or held.shape != tensor.shape or held.dtype != tensor.dtype:
            held = self._copies[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return held.copy_(tensor.detach())


def snapshot(engine: deepspeed.DeepSpeedEngine, client_state: dict[str, Any], memory: HostMemory | None) -> FileStates:
    """What DeepSpeed would write now, on this rank; all ranks must call it.

    Without `memory` nothing is copied: the next step changes what this returns.
    """
    states: FileStates = {}

    def take(name: str, state: Any) -> None:
        states[name] = memory.copied(state, name) if memory else state

    writer, engine.checkpoint_engine = engine.checkpoint_engine, _Taker(take)
    try:
        place = tempfile.gettempdir()
        with (
            explain_write_failure(place),
            tempfile.TemporaryDirectory(dir=place) as directory,
        ):  # DeepSpeed leaves a script there
            engine.save_checkpoint(
                directory, tag="now", client_state=client_state, save_latest=False, exclude_frozen_parameters=True
            )
    finally:
        engine.checkpoint_engine = writer
    return states


class _Taker(CheckpointEngine):  # type: ignore[misc]  # deepspeed has no types
    """Takes what DeepSpeed writes, in place of its writer of files."""

    def __init__(self, take: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._take = take

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing is written."""

    def create(self, info: CheckpointCommitInfo) -> None:
        """Nothing is prepared."""

    def save(self, state_dict: Any, path: str) -> None:
        """Takes one file's state."""
        self._take(Path(path).name, state_dict)

    def load(self, path: str, map_location: Any = None) -> Any:
        """Nothing is there to be loaded."""
        raise NotImplementedError

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """Nothing is left to do."""
        return True
