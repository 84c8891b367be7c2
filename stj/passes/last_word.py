"""A line for a driver that ends without one.

Ray ends a driver at once, with exit code 1 and no word, if Ray's own process on its machine is gone, as after the loss of a
head. No code of ours runs then, nor after a kill -9, which a machine without memory sends too. So a shell waits beside the
driver. It reads from the driver, and writes the line if the driver ends before it has sent a word.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_waiting: list[int] = []
"""The descriptors that the shells of this process read."""
_WAIT = 'read -r line || printf "%s\\n" "$0" >&2'


@contextmanager
def last_word() -> Iterator[None]:
    """Has a line on stderr if this process ends within the block."""
    words = (
        f"stj: process {os.getpid()} has ended without a word: it was killed, or Ray ended it because Ray on this machine is "
        "gone. What is committed is kept; run the same command again, on another cluster if this one is lost"
    )
    with subprocess.Popen(
        ["/bin/sh", "-c", _WAIT, words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd="/",  # it must not keep a disk mounted
        start_new_session=True,  # Ctrl-C, and a kill of the driver's process group, do not reach it
    ) as shell:
        assert shell.stdin
        _waiting.append(shell.stdin.fileno())
        try:
            yield
        finally:
            silence()


def silence() -> None:
    """Has no line written: the process ends as it wants to."""
    while _waiting:
        with suppress(OSError):  # somebody has ended the shell
            os.write(_waiting.pop(), b"\n")
