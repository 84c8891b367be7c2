"""Where this machine keeps what only this user may read: logs and sockets of engines, and the session of a Ray of our own.

Every user of a machine can guess these names, and another user may have made them first, as a directory, a file or a link to
somewhere else. What lies there is never read, written or followed.

Sockets have names of at most 107 bytes on Linux. What does not fit below TMPDIR lies where Ray or vLLM puts it by default.
"""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from stj.errors import ConfigError
from stj.storage.folder import explain_write_failure

_LONGEST_SOCKET_PATH = 107
_RAY_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"


def private_folder(parent: str | None = None, variable: str = "TMPDIR") -> Path:
    """`stj-UID` in the temporary folder, or in another one, which no other user can enter; it is made if it is not there.

    Raises ConfigError as `refuse_others` does, and StjError if it cannot be made.
    """
    folder = Path(parent or tempfile.gettempdir()) / f"stj-{os.getuid()}"
    refuse_others(folder, variable)
    with explain_write_failure(str(folder)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_others(folder, variable)  # made by another user in between
    if stat.S_IMODE(folder.lstat().st_mode) & 0o077:
        with suppress(OSError):  # some disks have no modes
            folder.chmod(0o700)
    return folder


def refuse_others(place: Path, variable: str) -> None:
    """Raises ConfigError if there is something that is no directory of this user; `variable` moves the name elsewhere."""
    with explain_write_failure(str(place)):
        try:
            status = place.lstat()
        except FileNotFoundError:
            return
    if stat.S_ISLNK(status.st_mode):
        fault = "is a link, which another user may have made"
    elif not stat.S_ISDIR(status.st_mode):
        fault = "is no directory"
    elif status.st_uid != os.getuid():
        fault = "belongs to another user"
    else:
        return
    raise ConfigError(f"{place} {fault}: set {variable} to a folder of your own")


def holds_sockets(folder: Path, longest_name: int) -> bool:
    """Whether sockets fit below a folder; their longest name has this many bytes."""
    return len(os.fsencode(folder)) + 1 + longest_name <= _LONGEST_SOCKET_PATH


def private_opener(path: str, flags: int) -> int:
    """For `open`: makes a file that only this user reads."""
    return os.open(path, flags, 0o600)


def ray_folder() -> Path | None:
    """Where a Ray of our own keeps logs and sockets; None, for Ray's default place, if sockets do not fit there.

    Raises ConfigError and StjError as `private_folder` does.
    """
    folder = private_folder(os.environ.get("RAY_TMPDIR")) / "ray"
    return folder if holds_sockets(folder, len(_RAY_SOCKET)) else None
