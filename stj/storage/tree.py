"""All files below a folder, by one listing."""

from collections.abc import Iterator
from typing import NamedTuple

from pyarrow import fs

from stj.storage.folder import Folder, explain_read_failure


class TreeFile(NamedTuple):
    """A file below a folder."""

    path: str
    """Below the folder, with slashes."""
    size: int
    """In bytes."""
    changed_at: float
    """In seconds since 1970."""


def tree(folder: Folder) -> Iterator[TreeFile]:
    """The files at any depth; none if the folder does not exist. Files whose names are not UTF-8 are left out."""
    selector = fs.FileSelector(folder.path, recursive=True, allow_not_found=True)
    with explain_read_failure(folder.uri):
        infos = folder.filesystem.get_file_info(selector)
    start = len(folder.path.rstrip("/")) + 1
    for info in infos:
        try:
            path = info.path
        except UnicodeDecodeError:
            continue
        if info.type == fs.FileType.File:
            yield TreeFile(path[start:], info.size or 0, (info.mtime_ns or 0) / 1e9)
