"""Which files a path stands for: a file is itself, and a directory is the data files in it, at any depth.

    hidden        names that begin with a dot (.git, .cache) are not there
    links         folders and files are read through links; a folder is read once, so loops end
    kinds         the formats of files.py, in any case: A.JSONL is a .jsonl file
    metadata      the .json files that data sets of the hub keep beside their data are no data
    config        a data set of several configs has a folder for each; `config_name` names one
    split         the rule below

The names give the splits, as on the hub. A file's split is SPLIT in SPLIT-00000-of-00002.parquet. Otherwise it is the first
word in its folders' names or its own that means one: train, training; test, testing, eval, evaluation; validation, valid,
val, dev. If no file has a split, the directory is one split, `train`. If some have, the others belong to none. `all` reads
every file. What is left out is logged once.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stj.errors import SourceError
from stj.package_files import package_path
from stj.sources.files import KIND_NAMES, kind_of, near_names
from stj.storage.known_digests import content_identity
from stj.text import visible_line

log = logging.getLogger(__name__)

EVERY_SPLIT = "all"
_SHARD = re.compile(r"(?P<split>\w[\w.]*)-\d{5}-of-\d{5}")
_WORD_ENDS = re.compile(r"[-._ 0-9]+")  # as `datasets` divides names
_KEYWORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
_METADATA = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class DataFiles:
    """The files to read at a path."""

    root: Path
    """The path itself: the file, or the directory."""
    files: tuple[Path, ...]
    """The files in order of their names in the root."""

    def names(self) -> list[Path]:
        """The files' paths in the root."""
        return [file.relative_to(self.root) for file in self.files]

    def identity(self) -> str:
        """A hash of the files that are read; other files beside them do not count."""
        return content_identity(self.root, self.files)


def files_at(location: str, key: str, *, split: str = EVERY_SPLIT, config_name: str | None = None) -> DataFiles:
    """The file at a path, or the data files under a directory; `package://` is inside stj.

    Raises SourceError, with the setting's key, if there is nothing to read, or no such split or config.
    """
    if not location:
        raise SourceError(f"{key}='': names no file")
    root = Path(os.path.expanduser(package_path(location)))
    try:
        if root.is_dir():
            return _in_directory(root, location, key, split, config_name)
        if not root.exists():
            if root.is_symlink():
                raise SourceError(f"{key}={location}: a link to {os.readlink(root)}, where nothing is")
            raise SourceError(f"{key}={location}: no such file or directory{near_names(root)}")
        if not root.is_file():
            raise SourceError(f"{key}={location}: neither a file nor a directory; a pipe or a device cannot be read twice")
    except OSError as error:
        raise SourceError(f"{key}={location}: cannot be read: {error.strerror or error}") from None
    if config_name is not None:
        raise SourceError(f"{key}={location}: a file has no configs; source.config_name={config_name} names a folder")
    if kind_of(root) is None:
        raise SourceError(
            f"{key}={location}: cannot read a '{root.suffix}' file; give a file in {KIND_NAMES}, or a directory of them"
        )
    return DataFiles(root=root, files=(root,))


def _in_directory(root: Path, location: str, key: str, split: str, config_name: str | None) -> DataFiles:
    folder = root if config_name is None else _config_folder(root, location, key, config_name)
    entries = sorted(_entries(folder), key=lambda file: file.relative_to(folder).parts)
    data = [file for file in entries if _is_data(file)]
    if not data:
        raise SourceError(f"{key}={location}: the directory holds no file to read; name one with files in {KIND_NAMES}")
    chosen = _of_split(data, folder, split, f"{key}={location}")
    read = set(chosen)
    _log_left_out(str(folder), len(chosen), tuple(str(file.relative_to(folder)) for file in entries if file not in read))
    return DataFiles(root=folder, files=tuple(chosen))


def _config_folder(root: Path, location: str, key: str, config_name: str) -> Path:
    """The folder of a config. Raises SourceError, which names the folders there are."""
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if config_name not in names:
        there = f"its folders are {', '.join(names)}" if names else "it has no folders"
        raise SourceError(f"{key}={location}: no folder of the config '{config_name}' (source.config_name); {there}")
    return root / config_name


def _entries(root: Path) -> Iterator[Path]:
    """All files below a directory that are not hidden."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder that was read
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _is_data(file: Path) -> bool:
    return kind_of(file) is not None and file.name.lower() not in _METADATA and file.is_file()


def _of_split(files: Sequence[Path], root: Path, split: str, where: str) -> list[Path]:
    """The files of a split. Raises SourceError, which names the splits there are."""
    splits = {file: split_of(file.relative_to(root)) for file in files}
    counts = Counter(name for name in splits.values() if name is not None)
    if split == EVERY_SPLIT or (not counts and split == "train"):
        return list(files)
    chosen = [file for file in files if splits[file] == _KEYWORDS.get(split, split)]
    if not chosen:
        there = f"its splits are {', '.join(sorted(counts))}" if counts else "no file's name has a split, so all is 'train'"
        raise SourceError(f"{where}: no split '{split}' (source.split); {there}. '{EVERY_SPLIT}' reads every file")
    return chosen


def split_of(path: Path) -> str | None:
    """The split that a path inside a data set names, None if it names none."""
    stem = path.name.partition(".")[0] if kind_of(path) is None else path.name[: -len(kind_of(path) or "")]
    if shard := _SHARD.fullmatch(stem):
        return _KEYWORDS.get(shard["split"], shard["split"])
    words = (word for name in (*path.parts[:-1], stem) for word in _WORD_ENDS.split(name))
    return next((_KEYWORDS[word] for word in words if word in _KEYWORDS), None)


@cache
def _log_left_out(folder: str, read: int, names: tuple[str, ...]) -> None:
    """Logs which files are not read, once in a process."""
    if names:
        more = ", ..." if len(names) > _SHOWN else ""
        shown = ", ".join(names[:_SHOWN])
        log.warning("%s", visible_line(f"{folder}: {read} files are read, and {len(names)} are not: {shown}{more}"))
