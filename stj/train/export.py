"""The trained weights as a Hugging Face model directory, gathered and written one parameter at a time.

Beside its part of the model, a rank holds at most one whole parameter (gloo, on a host, holds it twice while it gathers). Rank
0 writes it before the next one is gathered. An older config.json is deleted first, and the new one is written last. So a killed
export leaves a directory without config.json, which nothing takes for a model.
"""

import ctypes
import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from stj.config import NO_CHAT_OPTIONS, ChatOptions
from stj.models.chat import is_mistral
from stj.models.template import template_of, with_options
from stj.models.tokenizer import load_tokenizer
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
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
    parameters = dict(model.named_parameters())  # tied ones appear once
    layouts = {name: _layout(model, name, parameter) for name, parameter in parameters.items()}
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
            _gather(model, {name: parameters[name] for name in names}, ready, shard)
        weight_map |= dict.fromkeys(layout, file)
        size += _bytes(layout)
        if shard:
            digests[file] = shard.digest
    if first:
        if len(shards) > 1:
            index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
            digests[_INDEX] = _write_json(target, _INDEX, index)
        digests |= _copy_beside(seed_directory, target, options)
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
    parameters: Mapping[str, torch.nn.Parameter],
    ready: Mapping[str, Tensor],
    shard: Shard | None,
) -> None:
    """Gathers parameters in turn, on all ranks; if there is a shard, writes first what is ready, then the parameters."""
    if shard:
        for tensor in ready.values():
            shard.add(tensor)
    for name, parameter in parameters.items():
        with deepspeed.zero.GatheredParameters([parameter]):
            if shard:
                for tensor in _as_in_files(model, name, parameter.detach().to("cpu", torch.bfloat16)).values():
                    shard.add(tensor)


def _layout(model: PreTrainedModel, name: str, parameter: torch.nn.Parameter) -> dict[str, Tensor]:
    """A parameter's tensors as they will be in the files, without their numbers."""
    shape = getattr(parameter, "ds_shape", parameter.shape)  # The shape of the whole parameter: this rank holds a part.
    return _as_in_files(model, name, torch.empty(shape, dtype=torch.bfloat16, device="meta"))


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


def _clear(target: Folder) -> None:
    """Deletes what an earlier export left, beginning with the files that make it look like a model."""
    for name in (_CONFIG, _INDEX, *(name for name in target.names() if name.endswith((".safetensors", ".safetensors.tmp")))):
        target.delete(name)


def _copy_beside(seed_directory: Path, target: Folder, options: ChatOptions) -> dict[str, FileDigest]:
    digests = {}
    patterns = (*_BESIDE, *_VOCABULARY)
    for path in sorted({path for pattern in patterns for path in seed_directory.glob(pattern) if path.is_file()}):
        digests[path.name] = _write(target, path.name, path.read_bytes())
    if template := _trained_template(seed_directory, options):
        digests[_TEMPLATE] = _write(target, _TEMPLATE, template.encode())
    config = json.loads((seed_directory / _CONFIG).read_text(encoding="utf-8"))
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


def _write_json(target: Folder, name: str, record: Mapping[str, object]) -> FileDigest:
    return _write(target, name, (json.dumps(record, indent=2) + "\n").encode())


def _write(target: Folder, name: str, content: bytes) -> FileDigest:
    target.write(name, content)
    return FileDigest.of(content)


def _shard_name(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
