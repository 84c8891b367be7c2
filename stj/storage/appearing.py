"""A directory that appears whole or not at all: it is filled beside its place, and takes its name when it is complete.

.NAME.merging/NAME    while it is filled, and after a kill: the next call clears it
NAME                  complete
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stj.errors import ConfigError
from stj.storage.folder import Folder, explain_write_failure, is_store


def new_directory(word: str, setting: str) -> Path:
    """The directory of this machine that `appearing` may make.

    `setting` names the word in errors. Raises ConfigError if it is in an object store, a file, or a directory that holds files.
    """
    local = None if not word or is_store(word) else Folder.at(word).local
    if local is None:
        raise ConfigError(
            f"{setting}={word}: the result is written to a directory of this machine: name one, and copy it to the store"
        )
    target = Path(os.path.realpath(local))
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{setting}={word}: a file; name a directory")
    with explain_write_failure(word):
        held = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if held:
        raise ConfigError(f"{setting}={word}: holds {len(held)} files ({held[0]}): name a new directory, or empty this one")
    return target


@contextmanager
def appearing(target: Path, doing: str) -> Iterator[Path]:
    """An empty directory that takes the place of `target` when this ends without an error, and goes if it ends with one.

    `doing`, as "merging", is part of the hidden name under which it is filled. Raises ConfigError if another process fills it
    at this moment, and StorageFailed if a disk is full.
    """
    holder = target.with_name(f".{target.name}.{doing}")
    directory = holder / target.name
    with _held_alone(holder, target):
        try:
            with explain_write_failure(str(target)):
                _clear(holder)
                directory.mkdir()
                if target.is_dir():
                    target.rmdir()  # fails at once where a disk is mounted, which no directory could replace later
            yield directory
            with explain_write_failure(str(target)):
                Folder.at(holder).move(target.name, Folder.at(target.parent))
        finally:
            shutil.rmtree(holder, ignore_errors=True)


@contextmanager
def _held_alone(holder: Path, target: Path) -> Iterator[None]:
    """Makes the directory and locks it, so that two processes never fill one. The system ends the lock with the process."""
    with explain_write_failure(str(target)):
        holder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(holder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{target}: another process is writing there; wait for it, or name another directory") from None
        except OSError:  # a disk without locks
            pass
        if not holder.exists() or os.fstat(descriptor).st_ino != holder.stat().st_ino:
            raise ConfigError(f"{target}: another process was writing there a moment ago; run the same command again")
        yield
    finally:
        os.close(descriptor)


def _clear(directory: Path) -> None:
    """Deletes what a kill has left in a directory."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
