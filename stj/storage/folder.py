"""Folders on a disk or in an object store, with one interface for both.

`Folder.write` is atomic: after a kill or a power cut a file is complete or absent. All resuming relies on this.
"""

import errno
import json
import os
import posixpath
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pyarrow as pa
from pyarrow import fs

from stj.errors import ConfigError, StjError, StorageFailed
from stj.package_files import PACKAGE_SCHEME
from stj.storage.digest import DigestingFile, FileDigest
from stj.storage.location import check_location, is_uri
from stj.text import data_size

_PART_BYTES = 1 << 26  # Upload parts of 64 MiB: S3 allows 10,000 parts a file, so files of up to 640 GB.
_PARTS_AT_ONCE = 8  # Wait for the network after this many parts: at most 512 MiB are in memory.
_LASTING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG),
    *(errno.EIO, errno.EUCLEAN, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN),
}
"""Failures that do not heal: full, over the quota, read-only, not allowed, too large for the disk; and a disk or mount that is
broken or gone. Work that continues on a broken disk loses more."""
_REFUSED = re.compile("ACCESS_DENIED|NO_SUCH_BUCKET|QuotaExceeded|InsufficientCapacity")  # Arrow's words for a store's answer
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_SECRET = re.compile("key|secret|token|passw|signature|credential|^sig$", re.IGNORECASE)


@dataclass(frozen=True)
class Folder:
    """A directory of a local disk or of an object store (s3://, gs://, file://)."""

    filesystem: fs.FileSystem
    path: str
    uri: str
    """The location as a user writes it."""

    @classmethod
    def at(cls, location: str | Path) -> "Folder":
        """The folder of a path or URI; it need not exist. The path in a URI may have any characters, encoded (%20) or not.

        Raises ConfigError if the URI has an unknown scheme, names no bucket, or holds a secret.
        """
        text = str(location)
        check_location(text)
        if not is_uri(text):
            absolute = os.path.abspath(os.path.expanduser(text))
            return cls(fs.LocalFileSystem(), absolute, absolute)
        _refuse_secrets(text)
        try:
            filesystem, path = fs.FileSystem.from_uri(_encoded(text))
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(f"{text}: not a path or URI that this machine can use: {str(error).splitlines()[0]}") from None
        return cls(filesystem, path, text)

    def __truediv__(self, name: str) -> "Folder":
        location, options = self._uri_parts()
        encoded = name.replace("%", "%25") if is_uri(location) else name
        return Folder(self.filesystem, self._at(name), f"{location}/{encoded}{options}")

    @property
    def parent(self) -> "Folder":
        """The folder that holds this one."""
        location, options = self._uri_parts()
        return Folder(self.filesystem, posixpath.dirname(self.path.rstrip("/")), posixpath.dirname(location) + options)

    @property
    def local(self) -> Path | None:
        """The path if the folder is on this machine, else None."""
        return Path(self.path) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of this name exists, or a link: one that leads nowhere is an error when it is read."""
        found = self._info(name).type != fs.FileType.NotFound
        return bool(found or (self.local and os.path.islink(self._at(name))))

    def names(self) -> list[str]:
        """Names of the files in this folder, sorted; empty if the folder does not exist."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Sizes of the files in this folder, in bytes; empty if the folder does not exist."""
        return {info.base_name: info.size for info in self._files()}

    def listing(self) -> list[tuple[str, int, int]]:
        """Name, size in bytes and write time in ns of each file in this folder, sorted: changes whenever a file changes."""
        return sorted((info.base_name, info.size, info.mtime_ns) for info in self._files())

    def folders(self) -> list[str]:
        """Names of the folders in this folder, sorted; empty if it does not exist."""
        return sorted(info.base_name for info in self._listing() if info.type == fs.FileType.Directory)

    def pipes(self) -> list[str]:
        """Names of what is neither file nor folder in this folder, sorted: to open a named pipe may take for ever."""
        return sorted(info.base_name for info in self._listing() if info.type == fs.FileType.Unknown)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises StjError if it cannot be read."""
        with explain_read_failure((self / name).uri):
            if self.local:
                refuse_pipe(self.local / name)
            with self.filesystem.open_input_stream(self._at(name)) as stream:
                data: bytes = stream.read()
                return data

    def read_start(self, name: str, size: int) -> bytes:
        """At most the first `size` bytes of a file. Raises StjError if it cannot be read."""
        with explain_read_failure((self / name).uri), self.filesystem.open_input_file(self._at(name)) as file:
            data: bytes = file.read(size)
            return data

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Writes a file atomically: even after a kill -9 or a power cut it is complete or absent."""
        with explain_write_failure(self.uri):
            if self.local is None:  # an object store shows only complete objects, and needs no folders
                with self.filesystem.open_output_stream(self._at(name)) as stream:
                    stream.write(data)
                return
            self.local.mkdir(parents=True, exist_ok=True)
            temporary = self.local / f".{name}.{uuid.uuid4().hex}.tmp"
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.rename(self.local / name)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(self.local)

    def keep(self, name: str, data: bytes) -> None:
        """Writes a file unless it has this content already."""
        if not self.holds(name, data):
            self.write(name, data)

    def holds(self, name: str, data: bytes) -> bool:
        """Whether a file has this content."""
        return self.exists(name) and self.read(name) == data

    def write_json(self, name: str, record: Any) -> None:
        """Writes a value as JSON for people and programs: indented, in UTF-8, without escapes for non-ASCII text."""
        self.write(name, json_bytes(record))

    def upload(self, file: Path) -> None:
        """Copies a file of this machine into the folder under the same name; does nothing if it is there already.

        Raises StjError if it cannot be written.
        """
        if file.parent == self.local:
            return
        with explain_write_failure(self.uri):
            if self.local:
                self.local.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, self.filesystem.open_output_stream(self._at(file.name)) as sink:
                for number, part in enumerate(iter(partial(source.read, _PART_BYTES), b""), start=1):
                    sink.write(part)
                    if number % _PARTS_AT_ONCE == 0:
                        sink.flush()  # waits, since a disk faster than the network would fill the memory

    def download(self, name: str, to: Path) -> Path:
        """The path of a file in the directory `to`; copies the file there, unless `to` is this folder."""
        if to != self.local:
            self.fetch(name, to)
        return to / name

    def fetch(self, name: str, to: Path) -> FileDigest:
        """Copies a file of this folder into a directory of this machine; returns the digest of the copy.

        Raises StjError if the file cannot be read or the copy cannot be written.
        """
        to.mkdir(parents=True, exist_ok=True)
        with (to / name).open("wb") as file:
            sink = DigestingFile(file)
            with explain_read_failure(self.uri):
                source = self.filesystem.open_input_stream(self._at(name))
            with source:
                while part := self._read(source):
                    with explain_write_failure(str(to)):
                        sink.write(part)
        return sink.digest

    def _read(self, source: pa.NativeFile) -> bytes:
        with explain_read_failure(self.uri):
            part: bytes = source.read(1 << 24)
            return part

    def move(self, name: str, to: "Folder") -> None:
        """Moves a file into another folder of the same disk or store; a store copies it part by part."""
        if to.local:
            to.local.mkdir(parents=True, exist_ok=True)
            Path(self._at(name)).rename(to.local / name)
            sync_directory(to.local)
            return
        with explain_write_failure(to.uri):
            source, sink = self.filesystem.open_input_stream(self._at(name)), to.filesystem.open_output_stream(to._at(name))
            with source, sink:
                shutil.copyfileobj(source, sink, length=_PART_BYTES)
            self.delete(name)

    def delete(self, name: str) -> None:
        """Deletes a file, if it exists. Raises StjError if it cannot be deleted."""
        if self.exists(name):
            with explain_write_failure((self / name).uri):
                self.filesystem.delete_file(self._at(name))

    def remove(self) -> None:
        """Deletes the folder and its content, if it exists. Raises StjError if it cannot be deleted."""
        if self.exists():
            with explain_write_failure(self.uri):
                self.filesystem.delete_dir(self.path)

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def _info(self, name: str) -> fs.FileInfo:
        with explain_read_failure(self.uri):
            return self.filesystem.get_file_info(self._at(name))

    def _listing(self) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self.path, allow_not_found=True)
        with explain_read_failure(self.uri):
            return [info for info in self.filesystem.get_file_info(selector) if _has_text_name(info)]

    def _files(self) -> list[fs.FileInfo]:
        return [info for info in self._listing() if info.type == fs.FileType.File]

    def _uri_parts(self) -> tuple[str, str]:
        """The URI without its options, and the options: `s3://bucket/run`, `?region=eu-west-1`."""
        location, mark, options = self.uri.partition("?") if self.local is None else (self.uri, "", "")
        return location.rstrip("/"), mark + options


def _has_text_name(info: fs.FileInfo) -> bool:
    """Whether a name is UTF-8, as all names are that stj writes and reads: Arrow cannot give others."""
    try:
        _ = info.base_name
    except UnicodeDecodeError:
        return False
    return True


def json_bytes(record: Any) -> bytes:
    """The content of a file of JSON, as `Folder.write_json` writes it."""
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # half a surrogate pair becomes a JSON escape


@contextmanager
def workspace(folder: Folder) -> Iterator[Path]:
    """A directory of this machine in which to prepare files before `Folder.upload`.

    For a local folder it is the folder itself, so uploading does nothing. For an object store it is a scratch directory under
    TMPDIR, which is removed at the end.
    """
    if folder.local:
        yield folder.local
        return
    with tempfile.TemporaryDirectory(prefix="stj-") as scratch:
        yield Path(scratch)


@contextmanager
def explain_write_failure(location: str) -> Iterator[None]:
    """Turns a failed write into one line for the user.

    Raises StorageFailed if only a person can help, for instance on a full disk, and StjError for other failures.
    """
    try:
        yield
    except OSError as error:
        raise write_failure(location, error.strerror or str(error), lasting=is_lasting(error)) from None


def is_lasting(error: OSError) -> bool:
    """Whether only a person can help: trying again meets the same failure."""
    return error.errno in _LASTING or _REFUSED.search(str(error)) is not None


def write_failure(location: str, reason: str, *, lasting: bool) -> StjError:
    """The error for a failed write at a path or URI: the reason, the free space of a disk, and the remedy."""
    free = _free_space(location)
    return (StorageFailed if lasting else StjError)(
        f"{location}: cannot write: {' '.join(reason.split())}{f' ({free})' if free else ''}. Finished work is kept; "
        "check the free space and the permissions, then run the same command again"
    )


def _free_space(location: str) -> str:
    """The free space of the disk of a path; empty for a URI, or if the disk does not answer."""
    if is_uri(location):
        return ""
    with suppress(OSError):
        return f"{data_size(shutil.disk_usage(existing(Path(location))).free)} are free there"
    return ""


@contextmanager
def explain_read_failure(location: str) -> Iterator[None]:
    """Turns a failed read, for instance from a store that does not answer, into one line for the user."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        message = f"{location}: cannot be read: {reason}. Check the name, the network and this machine's rights"
        if is_lasting(error):
            raise StorageFailed(f"{message}, then run the same command again") from None
        raise StjError(message) from None


def refuse_pipe(path: Path) -> None:
    """Raises OSError if a path is neither file nor directory: to open a named pipe may take for ever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is no file but a pipe or a device")


def absolute_path(location: str) -> str:
    """The absolute path of an existing file or directory of this machine; any other location unchanged.

    Processes with other working directories need it.
    """
    path = Path(os.path.expanduser(location))
    return str(path.absolute()) if path.exists() and not is_uri(location) else location


def is_store(location: str) -> bool:
    """Whether a location is in an object store; asks no store."""
    return is_uri(location) and not location.startswith(("file://", PACKAGE_SCHEME))


def existing(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    return next(above for above in (path, *path.parents) if above.exists() or above.is_symlink())


def _encoded(uri: str) -> str:
    """The URI with codes for all characters that Arrow refuses in a URI, or that would end its path unseen, as `#` does."""
    escaped = _LONE_PERCENT.sub("%25", uri)
    options = "" if uri.startswith("file://") else "?"  # a file's path may hold a question mark
    return quote(escaped, safe=f"%:/=&@+,;~!$'()*{options}")


def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret."""
    return _SECRET.search(name) is not None


def _refuse_secrets(uri: str) -> None:
    """Raises ConfigError if a URI holds a password or a key: a run prints its URI and stores it in manifests."""
    parts = urlsplit(uri)
    secrets = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if is_secret_name(name)]
    secrets += ["the part before @"] if parts.password is not None else []
    if secrets:
        raise ConfigError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: a URI is printed and stored, so it must hold no "
            f"secret ({', '.join(secrets)}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every machine, or give the "
            "machines a role"
        )


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory last, as fsync does for the content of a file."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
