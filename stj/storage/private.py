"""Directories under names that every user of a machine can guess: used only if this user made them.

Another user may have made the name first, as a directory, a file or a link to somewhere else. What lies there is never read,
written or followed.
"""

import os
import stat
from pathlib import Path

from stj.errors import ConfigError
from stj.storage.folder import explain_write_failure


def private_folder(place: Path, variable: str) -> Path:
    """Makes a directory that only this user can read. Raises ConfigError as `refuse_others` does."""
    with explain_write_failure(str(place)):
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:
            refuse_others(place, variable)
        place.chmod(0o700)
    return place


def refuse_others(place: Path, variable: str) -> None:
    """Raises ConfigError if there is something that is no directory of this user; `variable` moves the name elsewhere."""
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
