"""The trained weights as a Hugging Face model directory, gathered and written one parameter at a time.

Adapters are merged into the weights, each when its weight is gathered. Or they are written alone, in peft's layout, which vLLM
loads too:

    adapter_model.safetensors   A and B of each adapted layer
    adapter_config.json         rank, alpha and targets, and the name of the seed that they belong to

Beside its part of the model, a rank holds at most one whole parameter (gloo, on a host, holds it twice while it gathers). Rank
0 writes it before the next one is gathered. An older config.json is deleted first, and the new one is written last. So a killed
export leaves a directory without config.json, which nothing takes for a model.
"""

import ctypes
import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from stj.config import NO_CHAT_OPTIONS, ChatOptions, ModelConfig
from stj.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from stj.models.chat import is_mistral
from stj.models.check import QUANTIZATION_KEYS
from stj.models.template import template_of, with_options
from stj.models.tokenizer import load_tokenizer
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.train.adapters import Weight, adapter_config, adapters_of, weights_of
from stj.train.shard import Shard, write_shard

_M_MMAP_THRESHOLD = -3  # mallopt's option, from malloc.h
_RETURNED_BYTES = 1 << 20
_CONFIG = "config.json"
_TEMPLATE = "chat_template.jinja"
_INDEX = "model.safetensors.index.json"
_BESIDE = ("generation_config.json", "chat_template*", "tokenizer*", "special_tokens_map.json", "added_tokens.json")
_VOCABULARY = ("vocab.json", "merges.txt", "*.model", "*.model.v*", "tekken.json", "*.tiktoken")


def export_model(
    model: PreTrainedModel, seed_directory: Path, target: Folder, shard_gb: float, options: ChatOptions = NO_CHAT_OPTIONS
) -> dict[str, FileDigest]:
    """Writes weights in bf16, config, tokenizer and chat template; every rank must call it. Returns the digests, on rank 0.

    The template keeps the options with which the model was trained: the date, and defaults of its variables.

    Raises StjError if the disk is full.
    """
    weights = weights_of(model)
    layouts = {name: _layout(model, name, weight) for name, weight in weights.items()}
    buffers = dict(_persistent_buffers(model))
    shards = plan_shards({name: _bytes(layout) for name, layout in layouts.items()}, shard_gb)
    _give_memory_back()
    first = dist.get_rank() == 0
    if first:
        _clear(target)
    digests: dict[str, FileDigest] = {}
    weight_map: dict[str, str] = {}
    size = 0
    for number, names in enumerate(shards, start=1):
        file = _shard_name(number, len(shards))
        ready = buffers if number == 1 else {}
        layout = ready | {key: tensor for name in names for key, tensor in layouts[name].items()}
        with write_shard(target, file, layout) if first else nullcontext() as shard:
            _gather(model, {name: weights[name] for name in names}, ready, shard)
        weight_map |= dict.fromkeys(layout, file)
        size += _bytes(layout)
        if shard:
            digests[file] = shard.digest
    if first:
        digests |= _write_index(target, weight_map, size) if len(shards) > 1 else {}
        digests |= _copy_beside(seed_directory, target, options)
    dist.barrier()
    return digests


def export_adapter(model: PreTrainedModel, seed: ModelConfig, seed_directory: Path, target: Folder) -> dict[str, FileDigest]:
    """Writes the adapters in bf16, and the seed's config, tokenizer and chat template; every rank must call it.

    Returns the digests, on rank 0. Raises StjError if the disk is full.
    """
    adapters = adapters_of(model)
    layout = {name: torch.empty(_shape(parameter), dtype=torch.bfloat16, device="meta") for name, parameter in adapters.items()}
    first = dist.get_rank() == 0
    if first:
        _clear(target)
    with write_shard(target, ADAPTER_WEIGHTS, layout) if first else nullcontext() as shard:
        for parameter in adapters.values():
            with deepspeed.zero.GatheredParameters([parameter]):
                if shard:
                    shard.add(parameter.detach().to("cpu", torch.bfloat16))
    digests: dict[str, FileDigest] = {}
    if shard:
        described = _write_json(target, ADAPTER_CONFIG, adapter_config(model, seed))
        beside = _copy_beside(seed_directory, target, seed.chat_options)
        digests = {ADAPTER_WEIGHTS: shard.digest, ADAPTER_CONFIG: described, **beside}
    dist.barrier()
    return digests


def plan_shards(sizes: Mapping[str, int], shard_gb: float) -> list[list[str]]:
    """Names in order, in groups of at most `shard_gb`, or of a single larger tensor; `sizes` in bytes."""
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if shards[-1] and used + size > shard_gb * 1e9:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def _gather(
    model: PreTrainedModel,
    weights: Mapping[str, Weight],
    ready: Mapping[str, Tensor],
    shard: Shard | None,
) -> None:
    """Gathers parameters in turn, on all ranks; if there is a shard, writes first what is ready, then the parameters."""
    if shard:
        for tensor in ready.values():
            shard.add(tensor)
    for name, weight in weights.items():
        with deepspeed.zero.GatheredParameters(weight.parts):
            if shard:
                for tensor in _as_in_files(model, name, weight.merged().cpu()).values():
                    shard.add(tensor)


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


def _give_memory_back() -> None:
    """Has the C library return freed memory to the system.

    By default it keeps blocks of up to 32 MiB: an export held 1.6 to 3.2 shards of them, and needs 0.7. Training keeps the
    default, because it needs the same blocks again.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _RETURNED_BYTES)
    libc.malloc_trim(0)


def _write_index(target: Folder, weight_map: Mapping[str, str], size: int) -> dict[str, FileDigest]:
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    return {_INDEX: _write_json(target, _INDEX, index)}


def _clear(target: Folder) -> None:
    """Deletes what an earlier export left, beginning with the files that make it look like a model."""
    for name in (
        _CONFIG,
        ADAPTER_CONFIG,
        _INDEX,
        *(name for name in target.names() if name.endswith((".safetensors", ".safetensors.tmp"))),
    ):
        target.delete(name)


def _copy_beside(seed_directory: Path, target: Folder, options: ChatOptions) -> dict[str, FileDigest]:
    digests = {}
    patterns = (*_BESIDE, *_VOCABULARY)
    for path in sorted({path for pattern in patterns for path in seed_directory.glob(pattern) if path.is_file()}):
        digests[path.name] = _write(target, path.name, path.read_bytes())
    if template := _trained_template(seed_directory, options):
        digests[_TEMPLATE] = _write(target, _TEMPLATE, template.encode())
    config = _without_quantization(json.loads((seed_directory / _CONFIG).read_text(encoding="utf-8")))
    config |= {key: "bfloat16" for key in ("dtype", "torch_dtype") if key in config}
    return {**digests, _CONFIG: _write_json(target, _CONFIG, config)}


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


def _write_json(target: Folder, name: str, record: Mapping[str, object]) -> FileDigest:
    return _write(target, name, (json.dumps(record, indent=2) + "\n").encode())


def _write(target: Folder, name: str, content: bytes) -> FileDigest:
    target.write(name, content)
    return FileDigest.of(content)


def _shard_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
