"""A safetensors file that is written one tensor after another.

Its header names all tensors with their sizes before the first one is written. So a file of 5 GB needs the memory of one tensor,
and its hash is computed on the way. The format: https://huggingface.co/docs/safetensors
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from stj.storage.digest import DigestingFile
from stj.storage.folder import Folder, explain_write_failure, workspace

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The format's names of dtypes."""
_ALIGNMENT = 8  # The limit of the header, in bytes.


class Shard(DigestingFile):
    """An open file that takes tensors in the order of its layout."""

    def begin(self, layout: Mapping[str, Tensor]) -> None:
        """Writes the header; `layout` holds tensors of the dtypes and shapes to come, for example on the device `meta`."""
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, tensor in layout.items():
            end = offset + tensor.nbytes
            header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self.write(len(text).to_bytes(8, "little") + text)

    def add(self, tensor: Tensor) -> None:
        """Writes the next tensor, which must be on the host, or the next part of one."""
        self.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


@contextmanager
def write_shard(target: Folder, name: str, layout: Mapping[str, Tensor], keep: Path | None = None) -> Iterator[Shard]:
    """A new file of the folder: whole when this ends without an error, and under a temporary name until then.

    In `keep`, a directory of this machine, a copy of what goes to an object store stays under its SHA-256, if there is room.

    Raises StjError if the disk is full.
    """
    with explain_write_failure(target.uri), workspace(target) as directory:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f".{name}.tmp"
        with temporary.open("wb") as file:
            shard = Shard(file)
            shard.begin(layout)
            yield shard
            file.flush()
            os.fsync(file.fileno())
        target.upload(temporary.rename(directory / name))
        if keep and not target.local:
            _keep(directory / name, keep / shard.digest.sha256)


def _keep(file: Path, kept: Path) -> None:
    """Moves an uploaded file to where it stays. If that fails, the machine fetches it: slower, but no failure."""
    try:
        shutil.move(file, kept)
    except OSError:
        with suppress(OSError):
            kept.unlink(missing_ok=True)
