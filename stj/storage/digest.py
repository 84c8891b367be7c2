"""What a file was when it was written: its size and its hash, taken on the way and not by reading it again."""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """What a file must be, wherever it is copied to."""

    size: int
    """In bytes."""
    sha256: str
    """In hex."""

    @classmethod
    def of(cls, data: bytes) -> "FileDigest":
        """Of a file with this content."""
        return cls(size=len(data), sha256=hashlib.sha256(data).hexdigest())


class DigestingFile:
    """A file that is open for writing, and hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Adds bytes at the end."""
        self._file.write(data)
        self._digest.update(data)
        self._size += memoryview(data).nbytes

    @property
    def stamp(self) -> FileDigest:
        """Of what has been written so far."""
        return FileDigest(size=self._size, sha256=self._digest.hexdigest())
