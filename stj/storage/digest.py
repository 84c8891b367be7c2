"""Digests of files: size and hash, taken while a file is written, so that no file is read a second time."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """Size and hash of a file; every copy must match them."""

    size: int
    """In bytes."""
    sha256: str
    """In hex."""

    @classmethod
    def of(cls, data: bytes) -> "FileDigest":
        """The digest of a file with this content."""
        return cls(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> "FileDigest":
        """The digest of a file on this machine, which is read for it."""
        with path.open("rb") as file:
            return cls(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=os.fstat(file.fileno()).st_size)


class DigestingFile:
    """A file open for writing that hashes what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes."""
        self._file.write(data)
        self._hash.update(data)
        self._size += memoryview(data).nbytes

    @property
    def digest(self) -> FileDigest:
        """Digest of the bytes written so far."""
        return FileDigest(size=self._size, sha256=self._hash.hexdigest())
