"""One model of two: every weight is `weight` of the first and 1 - `weight` of the second (Prometheus 2, section 3.3).

Each number is computed in float32 and rounded once, to the first model's dtype. The tensors are read a million numbers at a
time from files that are mapped, not loaded, and written while the next ones are computed. So a merge of any size needs no more
memory than the largest tensor of each parent.

The model is made in a directory beside its place, and takes its name when it is whole. So a killed merge leaves no model, and
the next one clears what it left.

    OUT/model-00001-of-00004.safetensors    the weights
    OUT/config.json, tokenizer.json ...     copies from the first parent
    OUT/manifest.json                       both parents, the weight, and the SHA-256 of each file
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from stj.config import MergeConfig, ModelConfig
from stj.errors import ConfigError, ModelError, StorageFailed
from stj.models.fetch import held_model, make_room_at
from stj.models.hub import WEIGHTS, is_hub_id
from stj.models.locate import loaded_files, model_identity, with_absolute_path
from stj.models.parents import Parent, check_parents, check_tensors, read_parent
from stj.storage.artifacts import Artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, existing, explain_write_failure, is_store, package_path
from stj.text import gigabytes
from stj.train.shard import DTYPES
from stj.train.shard_writer import ShardWriter
from stj.train.weight_files import bytes_of, plan_shards, shard_name, write_file, write_index

log = logging.getLogger(__name__)

_NUMBERS_AT_ONCE = 1 << 20  # 4 MB in float32, of which a few are held at once.
_TORCH = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True, kw_only=True)
class MergedModel:
    """A model that was written."""

    directory: Path
    parents: tuple[str, str]
    weight: float
    numbers: int
    size: int
    """Bytes of the weights."""
    dtypes: tuple[tuple[str, ...], tuple[str, ...]]
    """The dtypes of each parent's weights; the merged ones have the first parent's."""

    def line(self) -> str:
        """What was written, in words."""
        first, second = self.parents
        shares = f"{self.weight:g} of {first} and {1 - self.weight:g} of {second}"
        own, other = (" and ".join(dtypes) for dtypes in self.dtypes)
        rounded = f" ({second} has {other})" if own != other else ""
        return f"{self.directory}: {shares}: {self.numbers:,} numbers in {own}{rounded}, {gigabytes(self.size)}"


def merge(first: ModelConfig, second: ModelConfig, out: str, config: MergeConfig) -> MergedModel:
    """Writes the weighted mean of two models as a new one, which has the first one's dtypes and files beside the weights.

    Raises ModelError if the two differ in more than their weights, or if one is damaged; ConfigError if `out` is taken; and
    StorageFailed if the disk has too little room.
    """
    target = _free_place(out, (first, second))
    check_parents(first, second)
    parents = read_parent(first, held_model(first)), read_parent(second, held_model(second))
    check_tensors(*parents)
    layouts = _layouts(parents[0], config.shard_gb)
    size = sum(map(bytes_of, layouts.values()))
    with _appearing(target) as directory:
        _require_room(target, size)
        log.info("merging %s of weights into %s", gigabytes(size), target)
        digests = _write_model(parents, layouts, config.weight, Folder.at(directory))
        _write_manifest(parents, digests, config, Folder.at(directory), target)
    tensors = parents[0].tensors.values()
    return MergedModel(
        directory=target,
        parents=(first.path, second.path),
        weight=config.weight,
        numbers=sum(torch.Size(tensor.shape).numel() for tensor in tensors),
        size=size,
        dtypes=(_dtypes(parents[0]), _dtypes(parents[1])),
    )


def mix(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """The weighted mean, computed in float32 (float64 for float64) and rounded once, to the first one's dtype.

    A weight of 0 or 1 gives one of the two bit for bit, unless its dtype changes.
    """
    if weight in (0, 1):
        return (first if weight == 1 else second).to(first.dtype)
    wide = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    return (first.to(wide) * weight + second.to(wide) * (1 - weight)).to(first.dtype)


def _free_place(out: str, models: Sequence[ModelConfig]) -> Path:
    """The directory that a merge may make. Raises ConfigError if it cannot be one, holds files, or lies in a parent."""
    local = None if not out or is_store(out) else Folder.at(out).local
    if local is None:
        raise ConfigError(f"OUT={out}: a merge is written to a directory of this machine: name one, and copy it to the store")
    target = Path(os.path.realpath(local))
    for model in models:
        place = None if model.endpoint or is_hub_id(model.path) else Folder.at(package_path(model.path)).local
        if place and Path(os.path.realpath(place)) in (target, *target.parents):
            raise ConfigError(f"OUT={out}: lies in the model {model.path}, which is read: name a directory outside of it")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"OUT={out}: a file; name a directory")
    with explain_write_failure(out):
        held = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if held:
        raise ConfigError(f"OUT={out}: holds {len(held)} files ({held[0]}): name a new directory, or empty this one")
    return target


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """An empty directory that takes the place of `target` when this ends without an error, and goes if it ends with one.

    After a kill it stays beside `target`, under a hidden name; the next call clears it.
    """
    holder = target.with_name(f".{target.name}.merging")
    directory = holder / target.name
    with explain_write_failure(str(target)):
        shutil.rmtree(holder, ignore_errors=True)
        directory.mkdir(parents=True)
        if target.is_dir():
            target.rmdir()  # fails at once where a disk is mounted, which no directory could replace later
    try:
        yield directory
        with explain_write_failure(str(target)):
            Folder.at(holder).move(target.name, Folder.at(target.parent))
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _require_room(target: Path, size: int) -> None:
    """Makes room for the weights. Raises StorageFailed if copies of models that may go are not enough."""
    free, filled = make_room_at(existing(target.parent), size, ())
    if free < size:
        raise StorageFailed(
            f"{target}: {gigabytes(size)} must be written there, and {gigabytes(free)} are free"
            f"{f'; copies of models take {filled}' if filled else ''}: free space, or name a directory on a larger disk"
        )


def _layouts(parent: Parent, shard_gb: float) -> dict[str, dict[str, Tensor]]:
    """The tensors of each file to write, without their numbers."""
    empty = {
        name: torch.empty(tensor.shape, dtype=_TORCH[tensor.dtype], device="meta") for name, tensor in parent.tensors.items()
    }
    groups = plan_shards({name: tensor.nbytes for name, tensor in empty.items()}, shard_gb)
    return {
        shard_name(number, len(groups)): {name: empty[name] for name in names} for number, names in enumerate(groups, start=1)
    }


def _write_model(
    parents: tuple[Parent, Parent], layouts: Mapping[str, Mapping[str, Tensor]], weight: float, target: Folder
) -> dict[str, FileDigest]:
    """Writes all files but the manifest; returns their digests."""
    with ShardWriter(target) as writer:
        for file, layout in layouts.items():
            writer.begin(file, layout)
            for name in layout:
                for part in _mixed(parents, name, weight):
                    writer.add(part)
            writer.end()
        digests = writer.digests()
    digests |= write_index(target, layouts)
    source = Folder.at(parents[0].directory)
    for name in loaded_files(source):
        if not name.endswith((WEIGHTS.lstrip("*"), ".index.json")):
            digests[name] = write_file(target, name, source.read(name))
    return digests


def _mixed(parents: tuple[Parent, Parent], name: str, weight: float) -> Iterator[Tensor]:
    """The numbers of a merged tensor, in parts. Raises ModelError if one of them is not finite.

    The files are opened for each tensor, because a file that stays open keeps in memory what was read of it.
    """
    files = [parent.directory / parent.tensors[name].file for parent in parents]
    with safe_open(files[0], "pt") as first, safe_open(files[1], "pt") as second:
        flat = (file.get_tensor(name).reshape(-1).split(_NUMBERS_AT_ONCE) for file in (first, second))
        for parts in zip(*flat, strict=True):
            yield _checked_mix(parents, name, parts, weight)


def _checked_mix(parents: tuple[Parent, Parent], name: str, parts: tuple[Tensor, ...], weight: float) -> Tensor:
    first, second = parts
    paths = [parent.model.path for parent in parents]
    if not first.is_floating_point():
        if not torch.equal(first, second):
            raise ModelError(
                f"models {paths[0]} and {paths[1]} cannot be merged: the tensor {name} holds other whole numbers in one "
                "than in the other: merge models that were trained from the same base"
            )
        return first
    mixed = mix(first, second, weight)
    if not mixed.isfinite().all():
        for path, part in zip(paths, parts, strict=True):
            if not part.isfinite().all():
                raise ModelError(f"model {path}: the tensor {name} holds NaN or infinity: copy or make the model again")
        raise ModelError(
            f"model {paths[1]}: the tensor {name} has numbers too large for {parents[0].tensors[name].dtype}, the dtype of "
            f"{paths[0]}: name {paths[1]} first"
        )
    return mixed


def _write_manifest(
    parents: tuple[Parent, Parent], digests: Mapping[str, FileDigest], config: MergeConfig, folder: Folder, target: Path
) -> None:
    shares = config.weight, 1 - config.weight
    described = [_described(parent, share) for parent, share in zip(parents, shares, strict=True)]
    files = {name: asdict(digest) for name, digest in digests.items()}
    key = {"step": "merge", "method": "linear", "parents": described}
    Artifact(folder, key).finish(model={"path": str(target), "parents": described, "files": files})


def _described(parent: Parent, share: float) -> dict[str, Any]:
    """A parent for the manifest: what was asked for, and what it was."""
    model = with_absolute_path(parent.model)
    return {
        "path": model.path,
        "revision": parent.directory.name if is_hub_id(model.path) else None,
        "identity": model_identity(ModelConfig(path=str(parent.directory))),
        "weight": share,
        "dtypes": _dtypes(parent),
    }


def _dtypes(parent: Parent) -> tuple[str, ...]:
    return tuple(sorted({tensor.dtype for tensor in parent.tensors.values()}))
