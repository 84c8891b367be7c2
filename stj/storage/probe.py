"""Whether a directory can be written, found out by writing: permissions alone do not show a full or a read-only disk."""

import shutil
import uuid

from stj.errors import ConfigError, StjError
from stj.storage.folder import Folder, existing

_PROBE = b"stj writes this file to see whether it can, and deletes it\n" * 100  # More than a disk's free inode would hold.


def probe(location: str, key: str) -> int | None:
    """Writes and deletes a small file where `location` is or would be made; returns the free bytes, None in an object store.

    Leaves nothing behind: a directory that does not exist is probed in the nearest one above it.

    Raises ConfigError, with the setting's key, if the file cannot be written.
    """
    folder = Folder.at(location)
    place = existing(folder.local) if folder.local else None
    if place and not place.is_dir():
        raise ConfigError(f"{key}={location}: {place} is a file; name a directory")
    target, name = Folder.at(place) if place else folder, f"stj-probe-{uuid.uuid4().hex}"
    try:
        target.write(name, _PROBE)
        target.delete(name)
    except (StjError, OSError) as error:
        raise ConfigError(f"{key}={location}: a file cannot be written there ({_reason(error)}): {_remedy(folder)}") from None
    return shutil.disk_usage(place).free if place else None


def _reason(error: Exception) -> str:
    text = str(error)
    return text.partition(": cannot write: ")[2].partition(". Finished work")[0] or text


def _remedy(folder: Folder) -> str:
    if folder.local:
        return "free space there, get the right to write, or name another directory"
    return "check the bucket's name, the keys and the network"
