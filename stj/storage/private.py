"""Where this machine keeps what only this user may read: logs and sockets of engines, and the session of a Ray of our own.

Sockets have names of at most 107 bytes on Linux. What does not fit below TMPDIR lies where Ray or vLLM puts it by default.
"""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from stj.errors import CapacityError

_LONGEST_SOCKET_PATH = 107


def private_folder(parent: str | None = None) -> Path:
    """`stj-UID` in the temporary folder, or in another one, which no other user can enter; it is made if it is not there.

    Raises CapacityError if it cannot be made, or is another user's.
    """
    folder = Path(parent or tempfile.gettempdir()) / f"stj-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.lstat()
    except OSError as error:
        raise CapacityError(f"{folder}: {error.strerror or error}; set TMPDIR to a folder of your own") from None
    if state.st_uid != os.getuid() or not stat.S_ISDIR(state.st_mode):
        raise CapacityError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    if stat.S_IMODE(state.st_mode) & 0o077:
        with suppress(OSError):  # some disks have no modes
            folder.chmod(0o700)
    return folder


def holds_sockets(folder: Path, longest_name: int) -> bool:
    """Whether sockets with names of so many bytes fit below a folder."""
    return len(os.fsencode(folder)) + 1 + longest_name <= _LONGEST_SOCKET_PATH


def private_opener(path: str, flags: int) -> int:
    """For `open`: makes a file that only this user reads."""
    return os.open(path, flags, 0o600)
