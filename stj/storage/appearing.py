"""A directory that appears whole or not at all: it is filled beside its place, and takes its name when it is complete.

.NAME.merging/NAME    while it is filled, and after a kill: the next call clears it
NAME                  complete
"""

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

    `doing`, as "merging", is part of the hidden name under which it is filled. Raises StorageFailed if a disk is full.
    """
    holder = target.with_name(f".{target.name}.{doing}")
    directory = holder / target.name
    with explain_write_failure(str(target)):
        shutil.rmtree(holder, ignore_errors=True)
        directory.mkdir(parents=True)
        if target.is_dir():
            target.rmdir()  # fails at once where a disk is mounted, which no directory could replace later
    try:
        yield directory
        with explain_write_failure(str(target)):
            Folder.at(holder).move(target.name, Folder.at(target.parent))
    finally:
        shutil.rmtree(holder, ignore_errors=True)
