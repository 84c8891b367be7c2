"""The digests of files on this machine: each file is read once, and again whenever it has changed.

A process remembers them. Those of large files, as weights, are also remembered by the machine, so that a 70B of 141 GB is read
once and not by each of eight ranks, and not by a rerun:

    STJ_CACHE/digests/<hash of a path>.json    the file's state when it was read, and its digest

A file whose content changes while its size, times and inode stay (a disk that decays) is not read again.
"""

import fcntl
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from stj.errors import StjError
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, explain_read_failure, refuse_pipe
from stj.storage.location import cache_root
from stj.storage.sealed import read_sealed, write_sealed

_LARGE_BYTES = 1 << 24  # What is smaller is hashed in 20 ms.
_FILES_AT_ONCE = 8
_known: dict[Path, tuple[list[int], FileDigest]] = {}


def known_digest(path: Path) -> FileDigest:
    """The digest of a file on this machine. Raises OSError if it cannot be read."""
    path = path.absolute()
    state = _state(path)
    if path not in _known or _known[path][0] != state:
        refuse_pipe(path)
        size = path.stat().st_size
        _known[path] = state, (FileDigest.of_file(path) if size < _LARGE_BYTES else _of_this_machine(path, state))
    return _known[path][1]


def known_digests(files: Sequence[Path]) -> list[FileDigest]:
    """The digests of several files, a few of which are read at a time. Raises OSError if one cannot be read."""
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return list(pool.map(known_digest, files))


def content_identity(root: Path, files: Sequence[Path]) -> str:
    """A hash of files below a root: their names and digests. Raises StjError if a file cannot be read."""
    with explain_read_failure(str(root)):
        digests = known_digests(files)
    listed = [f"{file.relative_to(root)}\0{digest.sha256}\0" for file, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(listed).encode(errors="surrogateescape")).hexdigest()


def _of_this_machine(path: Path, state: list[int]) -> FileDigest:
    """The digest as this machine remembers it. While one process reads the file, the others wait for what it finds."""
    place, name = cache_root() / "digests", hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / f"{name}.lock").open("w")
    except OSError:  # a cache that cannot be written: each process reads for itself
        return FileDigest.of_file(path)
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(StjError):
            record = read_sealed(Folder.at(place), f"{name}.json", "")
            if record["state"] == state:
                return FileDigest(**record["digest"])
        digest = FileDigest.of_file(path)
        with suppress(StjError):
            write_sealed(Folder.at(place), f"{name}.json", {"path": str(path), "state": state, "digest": asdict(digest)})
        return digest


def _state(path: Path) -> list[int]:
    """What changes whenever a file is written: device, inode, size, and the times of its content and its inode in ns."""
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
