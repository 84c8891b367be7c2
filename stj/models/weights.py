"""Safetensors files by their headers alone: whether they are whole, and which tensors they hold.

A header is 8 bytes with its length n, and n bytes of JSON: each tensor's dtype, shape and place. So a model of 141 GB is
checked by reading a few megabytes. The format: https://github.com/huggingface/safetensors#format
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from stj.errors import ModelError
from stj.storage.folder import Folder

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_POINTER = b"version https://git-lfs.github.com/spec/"
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000  # The format's own limit, in bytes.
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Size of a number of each dtype."""
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
_SEVERAL_NAMED = 3  # Name this many things in an error, and count the others.


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor as a header describes it."""

    dtype: str
    shape: tuple[int, ...]
    file: str


def read_weights(folder: Folder, name: str, *, trained: bool) -> dict[str, Tensor]:
    """The tensors of a model's safetensors files, by name; reads only their headers.

    `name` is the model's name in errors. `trained` also asks for the index, without which transformers finds no shards.

    Raises ModelError if a file is missing, a git-lfs pointer, torn or damaged, or lacks a tensor that the index places in it.
    """
    sizes = folder.sizes()
    weight_map = read_index(folder, name)
    files = weight_files(sizes, weight_map, name, trained=trained)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _read_header(folder, file, sizes[file], name)
    if not tensors:
        raise ModelError(f"model {name}: {files[0]} holds no tensors: copy or download the model again")
    if trained and weight_map and _SINGLE in sizes and _SINGLE not in files:
        raise ModelError(
            f"model {name}: it has {_SINGLE} beside {INDEX}: training would load the one and engines the shards of the other. "
            "Delete the older of the two"
        )
    for tensor, file in weight_map.items():
        if tensor not in tensors or tensors[tensor].file != file:
            raise ModelError(
                f"model {name}: {file} lacks the tensor {tensor}, which {INDEX} places there: "
                "the files belong to different versions; copy or download the model again"
            )
    return tensors


def read_tensors(folder: Folder, file: str, name: str) -> dict[str, Tensor]:
    """The tensors of one safetensors file. Raises ModelError as `read_weights` does, also if there are none."""
    tensors = _read_header(folder, file, folder.sizes()[file], name)
    if not tensors:
        raise ModelError(f"model {name}: {file} holds no tensors: copy or download the model again")
    return tensors


def read_index(folder: Folder, name: str) -> dict[str, str]:
    """The file of each tensor, by the index; empty if there is none. Raises ModelError if the index is damaged."""
    return _weight_map(folder, name) if folder.exists(INDEX) else {}


def weight_files(names: Collection[str], index: Mapping[str, str], name: str, *, trained: bool) -> list[str]:
    """The safetensors files among the names of a model's files.

    Raises ModelError if one is missing or if there are none; `trained` also asks for the index if there are several.
    """
    files = sorted(set(index.values())) or _files_without_index(names, name, trained=trained)
    if missing := [file for file in files if file not in names]:
        raise ModelError(
            f"model {name}: {several(missing)} missing, of {len(files)} safetensors files: copy or download the model again"
        )
    return files


def refuse_pointer(file: str, start: bytes, name: str) -> None:
    """Raises ModelError if a file that begins so is empty, or a git-lfs pointer: a note for a file that was not fetched."""
    if start.startswith(_POINTER):
        raise ModelError(f"model {name}: {file} is a git-lfs pointer, not the file itself: run `git lfs pull` in its directory")
    if not start:
        raise ModelError(f"model {name}: {file} is empty: copy or download the model again")


def several(names: Iterable[str]) -> str:
    """A few names, the number of others, and the verb: `a.bin is`, `a, b, c and 7 others are`."""
    listed = list(names)
    more = len(listed) - _SEVERAL_NAMED
    text = ", ".join(listed[:_SEVERAL_NAMED]) + (f" and {more} others" if more > 0 else "")
    return f"{text} {'is' if len(listed) == 1 else 'are'}"


def _weight_map(folder: Folder, name: str) -> dict[str, str]:
    content = folder.read(INDEX)
    refuse_pointer(INDEX, content, name)
    try:
        weight_map = json.loads(content)["weight_map"]
        plain = {str(tensor): file for tensor, file in weight_map.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        plain = {}
    if not plain or not all(
        isinstance(file, str) and "/" not in file and file.endswith(".safetensors") for file in plain.values()
    ):
        raise ModelError(f"model {name}: {INDEX} has no weight_map of tensors to safetensors files: copy or download it again")
    return plain


def _files_without_index(names: Collection[str], name: str, *, trained: bool) -> list[str]:
    if _SINGLE in names:
        return [_SINGLE]
    files = [file for file in sorted(names) if file.endswith(".safetensors") and not file.startswith("adapter")]
    if not files:
        raise ModelError(f"model {name}: {_no_safetensors(names)}")
    for shard in filter(None, map(_SHARD.fullmatch, files)):
        count = int(shard["count"])
        missing = {f"{shard['stem']}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)} - {*files}
        if missing:
            raise ModelError(
                f"model {name}: {several(sorted(missing))} missing, of {count} safetensors files: copy or download it again"
            )
    if trained:
        raise ModelError(
            f"model {name}: {INDEX} is missing, and without it training finds no weights in {files[0]}: copy or download it"
        )
    return files


def _no_safetensors(names: Collection[str]) -> str:
    if "adapter_config.json" in names:
        return (
            "its weights are an adapter without its base model: merge them with peft's merge_and_unload(), and save the result"
        )
    others = sorted(
        file for file in names if file.endswith(_OTHER_FORMATS) and file not in ("training_args.bin", "optimizer.bin")
    )
    if not others:
        return "the directory holds no safetensors weights: copy or download them"
    return (
        f"its weights are not safetensors ({', '.join(others[:_SEVERAL_NAMED])}): load them with transformers where you trust "
        "them, and save them again with save_pretrained"
    )


def _read_header(folder: Folder, file: str, size: int, name: str) -> dict[str, Tensor]:
    start = folder.read_start(file, 1 << 7)
    refuse_pointer(file, start, name)
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if size < _LENGTH_BYTES or length > min(_LONGEST_HEADER, size - _LENGTH_BYTES):
        raise ModelError(
            f"model {name}: {file} is torn or no safetensors file: it has {size:,} bytes, and its header alone asks for "
            f"{length + _LENGTH_BYTES:,}: copy or download it again"
        )
    try:
        header = json.loads(folder.read_start(file, _LENGTH_BYTES + length)[_LENGTH_BYTES:])
        header.pop("__metadata__", None)
        places = {tensor: _place(facts) for tensor, facts in header.items()}
        tensors = {
            tensor: Tensor(dtype=facts["dtype"], shape=tuple(facts["shape"]), file=file) for tensor, facts in header.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"model {name}: the header of {file} is damaged: copy or download it again") from None
    _check_places(places, size - _LENGTH_BYTES - length, f"model {name}: {file}")
    for tensor, (begin, end) in places.items():
        _check_bytes(tensor, tensors[tensor], end - begin, f"model {name}: {file}")
    return tensors


def _place(facts: Mapping[str, object]) -> tuple[int, int]:
    places = facts["data_offsets"]
    if not isinstance(places, list) or len(places) != 2 or not all(isinstance(place, int) for place in places):
        raise ValueError("data_offsets are two numbers of bytes")
    return places[0], places[1]


def _check_places(places: Mapping[str, tuple[int, int]], data: int, where: str) -> None:
    """Raises ModelError unless the tensors fill the data without a gap, in some order."""
    at = 0
    for tensor, (begin, end) in sorted(places.items(), key=lambda item: item[1]):
        if begin != at or end < begin:
            raise ModelError(
                f"{where}: the tensor {tensor} lies at bytes {begin:,} to {end:,}, and {at:,} bytes come before it: "
                "the header is damaged; copy or download the file again"
            )
        at = end
    if at != data:
        problem = "is torn" if data < at else "is longer than its tensors"
        raise ModelError(f"{where} {problem}: {data:,} bytes of weights instead of {at:,}: copy or download it again")


def _check_bytes(name: str, tensor: Tensor, size: int, where: str) -> None:
    """Raises ModelError if a tensor's bytes do not hold its shape."""
    bits = _BITS.get(tensor.dtype)
    if bits is None:
        raise ModelError(f"{where}: the tensor {name} has the unknown dtype {tensor.dtype}: convert the model to bfloat16")
    whole = all(isinstance(side, int) and side >= 0 for side in tensor.shape)
    if not whole or math.prod(tensor.shape) * bits != 8 * size:
        raise ModelError(
            f"{where}: the tensor {name} of shape {list(tensor.shape)} in {tensor.dtype} has {size:,} bytes: "
            "the header is damaged; copy or download the file again"
        )
