"""Holds on files: a process that uses a model holds a file of it, and what is held is not removed.

The operating system ends a hold with its process, and with the processes that it forked. `stj serve` holds its
model for its server.
"""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

_WITHOUT_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""Answers of file systems that have no locks, as some shared disks of clusters."""


def hold(file: Path) -> None:
    """Holds a file until this process ends. Does nothing if the file does not exist, or if its disk has no locks."""
    with suppress(FileNotFoundError, PermissionError, IsADirectoryError):
        status = file.stat()
        _held(file, status.st_dev, status.st_ino)


@cache  # A process holds a file once, and for as long as it lives.
def _held(file: Path, device: int, inode: int) -> BinaryIO:
    stream = file.open("rb")
    try:
        fcntl.flock(stream, fcntl.LOCK_SH)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return stream


@contextmanager
def unheld(file: Path) -> Iterator[bool]:
    """Whether no process holds a file; none can begin to while this lasts. True if the file or locks do not exist."""
    try:
        stream = file.open("r+b")
    except FileNotFoundError:
        yield True
        return
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError as error:
            free = error.errno in _WITHOUT_LOCKS
        yield free
