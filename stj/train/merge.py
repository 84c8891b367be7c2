"""One model of two: every weight is `weight` of the first and 1 - `weight` of the second (Prometheus 2, arXiv 2405.01535).

Each number is computed in float32 and rounded once, to the first model's dtype. The tensors are read a million numbers at a
time from files that are mapped, not loaded, and written while the next ones are computed. So the mean of models of any size
needs no more memory than the largest tensor of each. Methods that count from the base of both (stj/train/merge_methods.py) take
whole tensors.

The model is made in a directory beside its place, and takes its name when it is whole. So a killed merge leaves no model, and
the next one clears what it left.

    OUT/model-00001-of-00004.safetensors    the weights
    OUT/config.json, tokenizer.json ...     copies from the first parent
    OUT/manifest.json                       both parents, the weight, and the SHA-256 of each file
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from stj.config import ModelConfig
from stj.config_loader import load_model
from stj.errors import ConfigError, ModelError
from stj.models.fetch import held_model, require_room_at
from stj.models.hub import WEIGHTS, is_hub_id
from stj.models.locate import loaded_files, model_identity, with_absolute_path
from stj.models.parents import Parent, check_parents, check_tensors, read_parent
from stj.package_files import package_path
from stj.storage.appearing import appearing, new_directory
from stj.storage.artifacts import Artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, is_store
from stj.text import data_size
from stj.train.merge_methods import check_method, mix_from_base
from stj.train.shard import DTYPES
from stj.train.shard_writer import ShardWriter
from stj.train.weight_files import bytes_of, give_memory_back, plan_shards, shard_name, write_file, write_index
from stj.use_config import MergeConfig

log = logging.getLogger(__name__)

_NUMBERS_AT_ONCE = 1 << 20  # 4 MB in float32, of which a few are held at once.
_TORCH = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True, kw_only=True)
class MergedModel:
    """A model that was written."""

    directory: Path
    parents: tuple[str, str]
    config: MergeConfig
    numbers: int
    size: int
    """Bytes of the weights."""
    dtypes: tuple[tuple[str, ...], tuple[str, ...]]
    """The dtypes of each parent's weights; the merged ones have the first parent's."""

    def line(self) -> str:
        """What was written, in words."""
        first, second = self.parents
        weight, method = self.config.weight, self.config.method
        shares = f"{weight:g} of {first} and {1 - weight:g} of {second}"
        counted = "" if method == "linear" else f", by {method} from {self.config.base}"
        own, other = (" and ".join(dtypes) for dtypes in self.dtypes)
        rounded = f" ({second} has {other})" if own != other else ""
        return f"{self.directory}: {shares}{counted}: {self.numbers:,} numbers in {own}{rounded}, {data_size(self.size)}"


def merge(first: ModelConfig, second: ModelConfig, out: str, config: MergeConfig) -> MergedModel:
    """Writes a new model of two: its weights are mixed, and it has the first one's dtypes and files beside the weights.

    Raises ModelError if they differ in more than their weights, or if one is damaged. Raises ConfigError if `out` is taken or
    the method not installed, and StorageFailed if the disk has too little room.
    """
    check_method(config)
    models = [first, second, *([load_model(config.base, ModelConfig())] if config.base else [])]
    target = _free_place(out, models)
    check_parents(models)
    parents = [read_parent(model, held_model(model)) for model in models]
    for parent in parents[1:]:
        check_tensors(parents[0], parent)
    give_memory_back()
    layouts = _layouts(parents[0], config.shard_gb)
    size = sum(map(bytes_of, layouts.values()))
    with appearing(target, "merging") as directory:
        require_room_at(target, size)
        log.info("merging %s of weights into %s", data_size(size), target)
        digests = _write_model(parents, layouts, config, Folder.at(directory))
        _write_manifest(parents, digests, config, Folder.at(directory), target)
    tensors = parents[0].tensors.values()
    return MergedModel(
        directory=target,
        parents=(first.path, second.path),
        config=config,
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
    target = Path(os.path.realpath(local)) if local else None
    for model in models:
        place = None if model.endpoint or is_hub_id(model.path) else Folder.at(package_path(model.path)).local
        if place and target and Path(os.path.realpath(place)) in (target, *target.parents):
            raise ConfigError(f"OUT={out}: lies in the model {model.path}, which is read: name a directory outside of it")
    return new_directory(out, "OUT")


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
    parents: Sequence[Parent], layouts: Mapping[str, Mapping[str, Tensor]], config: MergeConfig, target: Folder
) -> dict[str, FileDigest]:
    """Writes all files but the manifest; returns their digests."""
    with ShardWriter(target) as writer:
        for file, layout in layouts.items():
            writer.begin(file, layout)
            for name in layout:
                for part in _mixed(parents, name, config):
                    writer.add(part)
            writer.end()
        digests = writer.digests()
    digests |= write_index(target, layouts)
    source = Folder.at(parents[0].directory)
    for name in loaded_files(source):
        if not name.endswith((WEIGHTS.lstrip("*"), ".index.json")):
            digests[name] = write_file(target, name, source.read(name))
    return digests


def _mixed(parents: Sequence[Parent], name: str, config: MergeConfig) -> Iterator[Tensor]:
    """The numbers of a merged tensor, in parts. Raises ModelError if one of them is not finite.

    The files are opened for each tensor, because a file that stays open keeps in memory what was read of it.
    """
    with ExitStack() as files:
        places = [parent.directory / parent.tensors[name].file for parent in parents]
        flat = [files.enter_context(safe_open(place, "pt")).get_tensor(name).reshape(-1) for place in places]
        at_once = _NUMBERS_AT_ONCE if config.method == "linear" else max(1, flat[0].numel())
        for parts in zip(*(tensor.split(at_once) for tensor in flat), strict=True):
            if parts[0].is_floating_point():
                mixed = (
                    mix(parts[0], parts[1], config.weight) if config.method == "linear" else mix_from_base(parts, name, config)
                )
                _check_finite(parents, name, parts, mixed)
                yield mixed
            else:
                _check_equal(parents, name, parts)
                yield parts[0]


def _check_equal(parents: Sequence[Parent], name: str, parts: Sequence[Tensor]) -> None:
    for parent, part in zip(parents, parts, strict=True):
        if not torch.equal(parts[0], part):
            raise ModelError(
                f"models {parents[0].model.path} and {parent.model.path} cannot be merged: the tensor {name} holds other whole "
                "numbers in one than in the other: merge models that were trained from the same base"
            )


def _check_finite(parents: Sequence[Parent], name: str, parts: Sequence[Tensor], mixed: Tensor) -> None:
    if mixed.isfinite().all():
        return
    for parent, part in zip(parents, parts, strict=True):
        if not part.isfinite().all():
            raise ModelError(
                f"model {parent.model.path}: the tensor {name} holds NaN or infinity: copy or make the model again"
            )
    first, second = (parent.model.path for parent in parents[:2])
    raise ModelError(
        f"model {second}: the tensor {name} has numbers too large for {parents[0].tensors[name].dtype}, the dtype of {first}: "
        f"name {second} first"
    )


def _write_manifest(
    parents: Sequence[Parent], digests: Mapping[str, FileDigest], config: MergeConfig, folder: Folder, target: Path
) -> None:
    described = [_described(parent) for parent in parents]
    for parent, share in zip(described, (config.weight, 1 - config.weight), strict=False):
        parent["weight"] = share
    method: dict[str, Any] = {"method": config.method}
    if config.method != "linear":
        method |= {"base": described.pop(), "density": config.density, "seed": config.seed}
    files = {name: asdict(digest) for name, digest in digests.items()}
    key = {"step": "merge", **method, "parents": described}
    Artifact(folder, key).finish(model={"path": str(target), **method, "parents": described, "files": files})


def _described(parent: Parent) -> dict[str, Any]:
    """A parent for the manifest: what was asked for, and what it was."""
    model = with_absolute_path(parent.model)
    return {
        "path": model.path,
        "revision": parent.directory.name if is_hub_id(model.path) else None,
        "identity": model_identity(ModelConfig(path=str(parent.directory))),
        "dtypes": _dtypes(parent),
    }


def _dtypes(parent: Parent) -> tuple[str, ...]:
    return tuple(sorted({tensor.dtype for tensor in parent.tensors.values()}))
