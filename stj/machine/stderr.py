"""This process's stderr, as libraries write it below Python."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDERR = 2
_LAST_WORDS_S = 2.0  # What was written is copied at once; a process that was started meanwhile may hold the pipe for longer.


@contextmanager
def stderr_without(line: re.Pattern[bytes]) -> Iterator[None]:
    """Copies what is written on stderr at once, but for this line, which a library writes in one piece."""
    try:
        before = os.dup(_STDERR)
    except OSError:  # it was closed, so nobody reads it
        yield
        return
    read, write = os.pipe()
    os.dup2(write, _STDERR)
    os.close(write)
    copier = threading.Thread(target=_copy, args=(read, before, line), name="stderr", daemon=True)
    copier.start()
    try:
        yield
    finally:
        os.dup2(before, _STDERR)
        copier.join(_LAST_WORDS_S)


def _copy(read: int, target: int, line: re.Pattern[bytes]) -> None:
    """Copies until no writer is left."""
    while chunk := os.read(read, 1 << 16):
        left = line.sub(b"", chunk)
        while left:
            with suppress(BlockingIOError):
                left = left[os.write(target, left) :]
    os.close(read)
    os.close(target)
