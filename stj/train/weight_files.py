"""The files of a model's weights: which tensors go into which file, and what is written beside them."""

import ctypes
import json
from collections.abc import Mapping

from torch import Tensor

from stj.models.weights import INDEX
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder

_M_MMAP_THRESHOLD = -3  # mallopt's option, from malloc.h
_RETURNED_BYTES = 1 << 20


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


def shard_name(number: int, count: int) -> str:
    """The name of a file of the weights, under which transformers and vLLM find it; numbers begin at 1."""
    return "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"


def bytes_of(layout: Mapping[str, Tensor]) -> int:
    """The bytes of a file's tensors, without its header."""
    return sum(tensor.nbytes for tensor in layout.values())


def give_memory_back() -> None:
    """Has the C library return freed memory to the system, before tensors are written one after another.

    By default it keeps blocks of up to 32 MiB: an export held 1.6 to 3.2 shards of them, and needs 0.7. A merge held 84 MB, and
    needs 26. Training keeps the default, because it needs the same blocks again.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _RETURNED_BYTES)
    libc.malloc_trim(0)


def write_index(target: Folder, layouts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, FileDigest]:
    """Writes which file holds which tensor, by the files' layouts; returns its digest. A single file has no index."""
    if len(layouts) == 1:
        return {}
    weight_map = {name: file for file, layout in layouts.items() for name in layout}
    size = sum(map(bytes_of, layouts.values()))
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    return {INDEX: write_json(target, INDEX, index)}


def write_json(target: Folder, name: str, record: Mapping[str, object]) -> FileDigest:
    """Writes a file of JSON, indented as the libraries do; returns its digest."""
    return write_file(target, name, (json.dumps(record, indent=2) + "\n").encode())


def write_file(target: Folder, name: str, content: bytes) -> FileDigest:
    """Writes a file atomically; returns its digest."""
    target.write(name, content)
    return FileDigest.of(content)
