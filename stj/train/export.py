"""The trained weights as a Hugging Face model directory, gathered and written one parameter at a time.

Adapters are merged into the weights, each when its weight is gathered. Or they are written alone, in peft's layout, which vLLM
loads too:

    adapter_model.safetensors   A and B of each adapted layer
    adapter_config.json         rank, alpha and targets, and the name of the seed that they belong to

All ranks write at the same time: each of R ranks writes every R-th shard, and the machines take turns. ZeRO-3 gathers every
parameter on every rank anyway, so this costs no more traffic. Beside its part of the model, a rank holds at most two whole
parameters: one is gathered (gloo, on a host, holds it twice) while the one before it is hashed and written.

An older config.json is deleted first, and the new one is written last, when rank 0 has the digests of all shards and sees their
files. So a killed export leaves a directory without config.json, which nothing takes for a model.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from stj.config import ModelConfig
from stj.errors import StorageFailed
from stj.model_settings import NO_CHAT_OPTIONS, ChatOptions
from stj.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from stj.models.chat import is_mistral
from stj.models.check import QUANTIZATION_KEYS
from stj.models.removed import REMOVED
from stj.models.template import template_of, with_options
from stj.models.tokenizer import load_tokenizer
from stj.models.weights import INDEX
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.train.adapters import Weight, adapter_config, adapters_of, weights_of
from stj.train.ranks import gathered, ranks_in_turns
from stj.train.shard import write_shard
from stj.train.shard_writer import ShardWriter
from stj.train.weight_files import bytes_of, give_memory_back, plan_shards, shard_name, write_file, write_index, write_json

_CONFIG = "config.json"
_TEMPLATE = "chat_template.jinja"
_BESIDE = ("generation_config.json", "chat_template*", "tokenizer*", "special_tokens_map.json", "added_tokens.json")
_VOCABULARY = ("vocab.json", "merges.txt", "*.model", "*.model.v*", "tekken.json", "*.tiktoken")


def export_model(
    model: PreTrainedModel, seed_directory: Path, target: Folder, shard_gb: float, options: ChatOptions = NO_CHAT_OPTIONS
) -> dict[str, FileDigest]:
    """Writes weights in bf16, config, tokenizer and chat template; every rank must call it. Returns the digests, on rank 0.

    The template keeps the options with which the model was trained: the date, and defaults of its variables.

    Raises StorageFailed if a disk is full, or if rank 0 does not see what another machine wrote.
    """
    weights, shards = weights_of(model), planned_export(model, shard_gb)
    give_memory_back()
    _clear_once(target)
    digests = _write_shards(model, weights, shards, target)
    if dist.get_rank() == 0:
        _require_seen(target, digests)
        digests |= write_index(target, {shard.file: shard.layout for shard in shards})
        digests |= _copy_beside(seed_directory, target, options)
    dist.barrier()
    return digests


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """One file of the exported weights."""

    file: str
    names: tuple[str, ...]
    """The parameters in it, in order."""
    buffers: dict[str, Tensor]
    """Tensors that every rank holds; they come first."""
    layout: dict[str, Tensor]
    """All tensors of the file, in order, those of parameters without their numbers."""


def planned_export(model: PreTrainedModel, shard_gb: float) -> list[PlannedShard]:
    """The files of the exported weights; the same on every rank, whichever writes them."""
    layouts = {name: _layout(model, name, weight) for name, weight in weights_of(model).items()}
    groups = plan_shards({name: bytes_of(layout) for name, layout in layouts.items()}, shard_gb)
    shards = []
    for number, names in enumerate(groups, start=1):
        buffers = dict(_persistent_buffers(model)) if number == 1 else {}
        layout = buffers | {key: tensor for name in names for key, tensor in layouts[name].items()}
        file = shard_name(number, len(groups))
        shards.append(PlannedShard(file=file, names=tuple(names), buffers=buffers, layout=layout))
    return shards


def _write_shards(
    model: PreTrainedModel, weights: Mapping[str, Weight], shards: Sequence[PlannedShard], target: Folder
) -> dict[str, FileDigest]:
    """Has each of R ranks write every R-th shard; returns the digests of all, on every rank."""
    ranks = ranks_in_turns()
    turn = ranks.index(dist.get_rank())
    with ShardWriter(target) as writer:
        for start in range(0, len(shards), len(ranks)):
            at_once = shards[start : start + len(ranks)]
            _write_at_once(model, weights, at_once, at_once[turn] if turn < len(at_once) else None, writer)
        digests = writer.digests()
    return dict(sorted(item for of_rank in gathered(digests) for item in of_rank.items()))


def _write_at_once(
    model: PreTrainedModel,
    weights: Mapping[str, Weight],
    shards: Sequence[PlannedShard],
    mine: PlannedShard | None,
    writer: ShardWriter,
) -> None:
    """Gathers the parameters of one shard for each rank, in turns, so that every rank always has something to write."""
    if mine:
        writer.begin(mine.file, mine.layout)
        for tensor in mine.buffers.values():
            writer.add(tensor)
    for names in zip_longest(*(shard.names for shard in shards)):
        for shard, name in zip(shards, names, strict=True):
            if name is None:
                continue
            with deepspeed.zero.GatheredParameters(weights[name].parts):
                if shard is mine:
                    for tensor in _as_in_files(model, name, weights[name].merged().cpu()).values():
                        writer.add(tensor)
    if mine:
        writer.end()


def _require_seen(target: Folder, digests: Mapping[str, FileDigest]) -> None:
    """Raises StorageFailed if a shard that another machine wrote is not here: then the folder is not shared."""
    sizes = target.sizes()
    unseen = [name for name, digest in digests.items() if sizes.get(name) != digest.size]
    if unseen:
        raise StorageFailed(
            f"{target.uri}: {len(unseen)} of {len(digests)} files of the exported weights, written by other machines, are not "
            f"there ({unseen[0]}): run_root must be a directory or URI that all machines share. Move the run there, and run "
            "the same command again"
        )


def export_adapter(model: PreTrainedModel, seed: ModelConfig, seed_directory: Path, target: Folder) -> dict[str, FileDigest]:
    """Writes the adapters in bf16, and the seed's config, tokenizer and chat template; every rank must call it.

    Returns the digests, on rank 0. Raises StjError if the disk is full.
    """
    adapters = adapters_of(model)
    layout = {name: torch.empty(_shape(parameter), dtype=torch.bfloat16, device="meta") for name, parameter in adapters.items()}
    first = dist.get_rank() == 0
    _clear_once(target)
    with write_shard(target, ADAPTER_WEIGHTS, layout) if first else nullcontext() as shard:
        for parameter in adapters.values():
            with deepspeed.zero.GatheredParameters([parameter]):
                if shard:
                    shard.add(parameter.detach().to("cpu", torch.bfloat16))
    digests: dict[str, FileDigest] = {}
    if shard:
        described = write_json(target, ADAPTER_CONFIG, adapter_config(model, seed))
        beside = _copy_beside(seed_directory, target, seed.chat_options)
        digests = {ADAPTER_WEIGHTS: shard.digest, ADAPTER_CONFIG: described, **beside}
    dist.barrier()
    return digests


def _layout(model: PreTrainedModel, name: str, weight: Weight) -> dict[str, Tensor]:
    """A parameter's tensors as they will be in the files, without their numbers."""
    return _as_in_files(model, name, torch.empty(_shape(weight.parameter), dtype=torch.bfloat16, device="meta"))


def _shape(parameter: Parameter) -> torch.Size:
    """The shape of the whole parameter: this rank holds a part."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _as_in_files(model: PreTrainedModel, name: str, whole: Tensor) -> dict[str, Tensor]:
    """A parameter under the names of the seed's files, in which the experts of a mixture are separate tensors."""
    tensors: dict[str, Tensor] = revert_weight_conversion(model, {name: whole})
    return tensors


def _persistent_buffers(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(prefix=prefix, recurse=False):
            if name.rpartition(".")[2] not in module._non_persistent_buffers_set:
                yield name, buffer.detach().cpu()


def _clear_once(target: Folder) -> None:
    """Has rank 0 clear the folder before any machine writes there."""
    if dist.get_rank() == 0:
        _clear(target)
    dist.barrier()


def _clear(target: Folder) -> None:
    """Deletes what an earlier export left, beginning with the files that make it look like a model."""
    for name in (
        _CONFIG,
        ADAPTER_CONFIG,
        INDEX,
        REMOVED,
        *(name for name in target.names() if name.endswith((".safetensors", ".safetensors.tmp"))),
    ):
        target.delete(name)


def _copy_beside(seed_directory: Path, target: Folder, options: ChatOptions) -> dict[str, FileDigest]:
    digests = {}
    patterns = (*_BESIDE, *_VOCABULARY)
    for path in sorted({path for pattern in patterns for path in seed_directory.glob(pattern) if path.is_file()}):
        digests[path.name] = write_file(target, path.name, path.read_bytes())
    if template := _trained_template(seed_directory, options):
        digests[_TEMPLATE] = write_file(target, _TEMPLATE, template.encode())
    config = _without_quantization(json.loads((seed_directory / _CONFIG).read_text(encoding="utf-8")))
    config |= {key: "bfloat16" for key in ("dtype", "torch_dtype") if key in config}
    return {**digests, _CONFIG: write_json(target, _CONFIG, config)}


def _trained_template(seed_directory: Path, options: ChatOptions) -> str | None:
    """The chat template with the options in it, if they change it."""
    if options == NO_CHAT_OPTIONS:
        return None
    tokenizer = load_tokenizer(seed_directory)
    if is_mistral(tokenizer):
        return None
    template = template_of(tokenizer)
    written = with_options(template, options)
    return None if written == template else written


def _without_quantization(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what says how its weights were quantized: ours are plain bf16, and loaders would misread them."""
    kept = {key: value for key, value in config.items() if key not in QUANTIZATION_KEYS}
    text = kept.get("text_config")
    return kept | ({"text_config": _without_quantization(text)} if isinstance(text, dict) else {})
