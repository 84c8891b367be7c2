"""The digests of files on this machine: each file is read once, and again whenever it has changed.

A process remembers them. Those of large files, as weights, are also remembered by the machine, so that a 70B of 141 GB is read
once and not by each of eight ranks, and not by a rerun:

    STJ_CACHE/digests/<hash of a path>.json    the file's state when it was read, and its digest

A file whose content changes while its size, times and inode stay (a disk that decays) is not read again.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from stj.errors import StjError
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, explain_read_failure, refuse_pipe
from stj.storage.location import cache_root
from stj.storage.sealed import read_sealed, write_sealed
from stj.text import data_size

log = logging.getLogger(__name__)

_LARGE_BYTES = 1 << 24  # What is smaller is hashed in 20 ms.
_ANNOUNCED_BYTES = 2 << 30  # A second or two of a fast disk.
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
    """The digests of several files, a few of which are read at a time. Raises OSError if one cannot be read.

    If that takes long, a line in the log says so first.
    """
    unknown = [file for file in files if file.stat().st_size >= _LARGE_BYTES and _remembered(file.absolute()) is None]
    if (size := sum(file.stat().st_size for file in unknown)) >= _ANNOUNCED_BYTES:
        log.info("reading %s below %s once on this machine, to know whether it is whole", data_size(size), unknown[0].parent)
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return list(pool.map(known_digest, files))


def remember_digest(path: Path, digest: FileDigest) -> None:
    """Has this machine remember the digest of a file that was hashed while it was written."""
    if digest.size >= _LARGE_BYTES:
        _remember(path.absolute(), digest)


def content_identity(root: Path, files: Sequence[Path]) -> str:
    """A hash of files below a root: their names and digests. Raises StjError if a file cannot be read."""
    with explain_read_failure(str(root)):
        digests = known_digests(files)
    listed = [f"{file.relative_to(root)}\0{digest.sha256}\0" for file, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(listed).encode(errors="surrogateescape")).hexdigest()


def _of_this_machine(path: Path, state: list[int]) -> FileDigest:
    """The digest as this machine remembers it. While one process reads the file, the others wait for what it finds."""
    with _alone_with(path):
        digest = _remembered(path)
        if digest is None:
            digest = FileDigest.of_file(path)
            _remember(path, digest, state)
        return digest


def _remembered(path: Path) -> FileDigest | None:
    with suppress(StjError):
        record = read_sealed(Folder.at(_place()), f"{_name(path)}.json", "", fields=("state", "digest"))
        if record["state"] == _state(path):
            return FileDigest(**record["digest"])
    return None


def _remember(path: Path, digest: FileDigest, state: list[int] | None = None) -> None:
    """Writes a digest down, unless the cache cannot be written; `state` is that of the file before it was read."""
    record = {"path": str(path), "state": state or _state(path), "digest": asdict(digest)}
    with suppress(StjError, OSError):
        write_sealed(Folder.at(_place()), f"{_name(path)}.json", record)


@contextmanager
def _alone_with(path: Path) -> Iterator[None]:
    """Keeps other processes of this machine out; not if the cache cannot be written, or its disk has no locks."""
    with ExitStack() as held:
        with suppress(OSError):
            _place().mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((_place() / f"{_name(path)}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _place() -> Path:
    return cache_root() / "digests"


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _state(path: Path) -> list[int]:
    """What changes whenever a file is written: device, inode, size, and the times of its content and its inode in ns."""
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
