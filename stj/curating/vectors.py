"""The vectors of all rows in one file, so that memory does not grow with their number: a million of 256 numbers take 512 MB.

They are stored as 16-bit floats, which changes a cosine similarity by less than 0.001. Only the pages that are read are in
memory, and the system may drop them again. The file has no name, so that a kill leaves nothing behind.
"""

import tempfile
from collections.abc import Iterator
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from stj.curating.embedding import Vectors
from stj.storage.folder import explain_write_failure

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]
"""Number of the cluster of each vector; NO_CLUSTER for none."""

NO_CLUSTER = -1
CHUNK = 8192
"""Vectors that are worked on at once: 8 MB of 256 numbers each."""


class VectorSet(Protocol):
    """Vectors that are read in any order."""

    dimensions: int

    def __len__(self) -> int:
        """Number of vectors."""

    def take(self, indices: Indices) -> Vectors:
        """The vectors with these indices."""

    def chunks(self) -> Iterator[tuple[int, Vectors]]:
        """All vectors in order, CHUNK at a time, with the index of the first."""


class VectorFile:
    """Vectors that are appended, and then read in any order, in a file in the temporary directory."""

    def __init__(self, dimensions: int) -> None:
        """Raises StjError if the temporary directory takes no file."""
        self.dimensions = dimensions
        with explain_write_failure(tempfile.gettempdir()):
            self._file = tempfile.TemporaryFile(prefix="stj-vectors-")  # noqa: SIM115  closed by `__exit__`
        self._stored: npt.NDArray[np.float16] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, vectors: Vectors) -> None:
        """Adds vectors at the end; none may be added after the first was read. Raises StjError if the disk is full."""
        with explain_write_failure(tempfile.gettempdir()):
            self._file.write(vectors.astype(np.float16).tobytes())
            self._file.flush()
        self._count += len(vectors)

    def take(self, indices: Indices) -> Vectors:
        """The vectors with these indices."""
        stored = self._opened()
        return np.asarray(stored[indices], np.float32)

    def chunks(self) -> Iterator[tuple[int, Vectors]]:
        """All vectors in order, CHUNK at a time, with the index of the first."""
        stored = self._opened()
        for start in range(0, self._count, CHUNK):
            yield start, np.asarray(stored[start : start + CHUNK], np.float32)

    def _opened(self) -> npt.NDArray[np.float16]:
        if self._stored is None:
            empty = np.empty((0, self.dimensions), np.float16)
            shape = (self._count, self.dimensions)
            self._stored = np.memmap(self._file, np.float16, "r", shape=shape) if self._count else empty
        return self._stored


class Subset:
    """Some vectors of a file, under indices of their own."""

    def __init__(self, vectors: VectorSet, members: Indices) -> None:
        self._vectors, self._members, self.dimensions = vectors, members, vectors.dimensions

    def __len__(self) -> int:
        return len(self._members)

    def take(self, indices: Indices) -> Vectors:
        """The vectors with these indices."""
        return self._vectors.take(self._members[indices])

    def chunks(self) -> Iterator[tuple[int, Vectors]]:
        """All vectors in order, CHUNK at a time, with the index of the first."""
        for start in range(0, len(self), CHUNK):
            yield start, self._vectors.take(self._members[start : start + CHUNK])


def by_lot(size: int, most: int, seed: int) -> Indices:
    """At most this many of the indices below size, in order; which ones depends on the seed."""
    if size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(seed).choice(size, most, replace=False))
