"""Folders on a disk or in an object store behind one small face, and the atomic write that everything rests on."""

import hashlib
import json
import os
import posixpath
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from stj.errors import ConfigError, StjError
from stj.storage.digest import DigestingFile, FileDigest

PACKAGE_SCHEME = "package://"
_SAMPLE_BYTES = 1 << 20
_PART_BYTES = 1 << 26  # 64 MiB: S3 takes 10,000 parts of a file, so one of up to 640 GB
_PARTS_AT_ONCE = 8  # 512 MiB in memory at most
_SECRET = re.compile("key|secret|token|password", re.IGNORECASE)


@dataclass(frozen=True)
class Folder:
    """A directory of a local disk or of an object store (s3://, gs://, file://)."""

    filesystem: fs.FileSystem
    path: str
    uri: str
    """As a user would write it."""

    @classmethod
    def at(cls, location: str | Path) -> "Folder":
        """The folder of a path or URI; it need not exist.

        Raises ConfigError for a URI whose scheme is not known, or that carries a secret.
        """
        text = str(location)
        if "://" not in text:
            absolute = os.path.abspath(os.path.expanduser(text))
            return cls(fs.LocalFileSystem(), absolute, absolute)
        _refuse_secrets(text)
        try:
            filesystem, path = fs.FileSystem.from_uri(text)
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(f"{text}: not a path or URI that can be reached: {str(error).splitlines()[0]}") from None
        return cls(filesystem, path, text)

    def __truediv__(self, name: str) -> "Folder":
        location, options = self._uri_parts()
        return Folder(self.filesystem, self._at(name), f"{location}/{name}{options}")

    @property
    def parent(self) -> "Folder":
        """The folder that holds this one."""
        location, options = self._uri_parts()
        return Folder(self.filesystem, posixpath.dirname(self.path.rstrip("/")), posixpath.dirname(location) + options)

    @property
    def local(self) -> Path | None:
        """The path where this is a folder of this machine, else None."""
        return Path(self.path) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of this name is there."""
        return bool(self._info(name).type != fs.FileType.NotFound)

    def names(self) -> list[str]:
        """Names of the files in this folder, sorted; none where it does not exist."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """Sizes of the files in this folder, in bytes; none where it does not exist."""
        return {info.base_name: info.size for info in self._files()}

    def listed(self) -> list[tuple[str, int, int]]:
        """Names, sizes in bytes and times of writing in ns of the files in this folder, sorted: it changes when they do."""
        return sorted((info.base_name, info.size, info.mtime_ns) for info in self._files())

    def folders(self) -> list[str]:
        """Names of the folders in this folder, sorted; none where it does not exist."""
        return sorted(info.base_name for info in self._listing() if info.type == fs.FileType.Directory)

    def read(self, name: str) -> bytes:
        """A file's content. Raises StjError where it cannot be read."""
        with _unreachable_told((self / name).uri), self.filesystem.open_input_stream(self._at(name)) as stream:
            data: bytes = stream.read()
            return data

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Writes a file so that it is there whole or not at all, even through a kill -9 or a power cut."""
        with out_of_space_told(self.uri):
            if self.local is None:  # an object store shows an object only when it is whole, and needs no folders
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
            _sync_directory(self.local)

    def write_json(self, name: str, record: Any) -> None:
        """Writes a value as JSON for people and programs: indented, its text as it is, in UTF-8."""
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        self.write(name, text.encode(errors="backslashreplace"))  # half of a surrogate pair becomes its own JSON escape

    def upload(self, file: Path) -> None:
        """Copies a file of this machine into the folder, under its own name; one that lies there already stays as it is.

        Raises StjError where it cannot be written.
        """
        if file.parent == self.local:
            return
        with out_of_space_told(self.uri):
            if self.local:
                self.local.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, self.filesystem.open_output_stream(self._at(file.name)) as sink:
                for number, part in enumerate(iter(partial(source.read, _PART_BYTES), b""), start=1):
                    sink.write(part)
                    if number % _PARTS_AT_ONCE == 0:
                        sink.flush()  # waits: a disk that is faster than the network would fill the memory

    def download(self, name: str, to: Path) -> Path:
        """A file of this folder as a file of the directory `to`, copied there unless `to` is this folder."""
        if to != self.local:
            self.fetch(name, to)
        return to / name

    def fetch(self, name: str, to: Path) -> FileDigest:
        """Copies a file of this folder into another directory; says what came.

        Raises StjError where it cannot be read.
        """
        to.mkdir(parents=True, exist_ok=True)
        with (to / name).open("wb") as file:
            sink = DigestingFile(file)
            with _unreachable_told(self.uri):
                source = self.filesystem.open_input_stream(self._at(name))
            with source:
                while part := self._read(source):
                    with out_of_space_told(str(to)):
                        sink.write(part)
        return sink.stamp

    def _read(self, source: pa.NativeFile) -> bytes:
        with _unreachable_told(self.uri):
            part: bytes = source.read(1 << 24)
            return part

    def move(self, name: str, to: "Folder") -> None:
        """Moves a file into another folder of the same disk or store; in a store it is copied, a part at a time."""
        if to.local:
            to.local.mkdir(parents=True, exist_ok=True)
            Path(self._at(name)).rename(to.local / name)
            _sync_directory(to.local)
            return
        with out_of_space_told(to.uri):
            source, sink = self.filesystem.open_input_stream(self._at(name)), to.filesystem.open_output_stream(to._at(name))
            with source, sink:
                shutil.copyfileobj(source, sink, length=_PART_BYTES)
            self.delete(name)

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        if self.exists(name):
            self.filesystem.delete_file(self._at(name))

    def remove(self) -> None:
        """Deletes the folder and all in it, if it is there."""
        if self.exists():
            self.filesystem.delete_dir(self.path)

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def _info(self, name: str) -> fs.FileInfo:
        with _unreachable_told(self.uri):
            return self.filesystem.get_file_info(self._at(name))

    def _listing(self) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self.path, allow_not_found=True)
        with _unreachable_told(self.uri):
            infos: list[fs.FileInfo] = self.filesystem.get_file_info(selector)
            return infos

    def _files(self) -> list[fs.FileInfo]:
        return [info for info in self._listing() if info.type == fs.FileType.File]

    def _uri_parts(self) -> tuple[str, str]:
        """The URI without its options, and the options: `s3://bucket/run`, `?region=eu-west-1`."""
        location, mark, options = self.uri.partition("?") if self.local is None else (self.uri, "", "")
        return location.rstrip("/"), mark + options


@contextmanager
def workspace(folder: Folder) -> Iterator[Path]:
    """A directory of this machine to prepare a folder's files in; what is prepared there is uploaded.

    It is the folder itself, where uploading does nothing, or for an object store a scratch directory under TMPDIR, removed at
    the end.
    """
    if folder.local:
        yield folder.local
        return
    with tempfile.TemporaryDirectory(prefix="stj-") as scratch:
        yield Path(scratch)


@contextmanager
def out_of_space_told(where: str) -> Iterator[None]:
    """Turns an operating system's refusal to write into one line for the user."""
    try:
        yield
    except OSError as error:
        raise StjError(
            f"{where}: cannot write: {error.strerror or error}. What was finished is kept; "
            "make room or rights and run the same command again"
        ) from None


@contextmanager
def _unreachable_told(where: str) -> Iterator[None]:
    """Turns a store that does not answer, or refuses, into one line for the user."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise StjError(f"{where}: cannot be read: {reason}. Check the name, the network and this machine's rights") from None


def absolute_path(location: str) -> str:
    """A file or directory of this machine as processes in other working directories understand it; any other as it is."""
    path = Path(location).expanduser()
    return str(path.absolute()) if "://" not in location and path.exists() else location


def package_path(location: str) -> str:
    """A location with `package://x/y` replaced by where stj carries x/y; any other as it is."""
    if not location.startswith(PACKAGE_SCHEME):
        return location
    return str(package_files("stj").joinpath(location.removeprefix(PACKAGE_SCHEME)))


def content_identity(path: Path) -> str:
    """A hash of a file or directory: names, sizes, and 1 MiB from both ends of each file.

    Cheap enough for the 141 GB of a 70B. Files up to 2 MiB count whole; a change of the same length in the middle of a larger
    one is not seen. Raises StjError for what cannot be read.
    """
    digest = hashlib.sha256()
    with _unreachable_told(str(path)):
        members = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for member in members:
            size = member.stat().st_size
            digest.update(f"{member.relative_to(path)}\0{size}\0".encode())
            with member.open("rb") as file:
                digest.update(file.read(_SAMPLE_BYTES))
                file.seek(max(0, size - _SAMPLE_BYTES))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _refuse_secrets(uri: str) -> None:
    """Raises ConfigError for a URI with a password or a key in it: a run's URI is printed, and stored in its manifests."""
    parts = urlsplit(uri)
    found = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name)]
    found += ["the part before @"] if parts.password is not None else []
    if found:
        raise ConfigError(
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}: a URI is printed and stored, so it must carry no "
            f"secret ({', '.join(found)}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every machine, or give the "
            "machines a role"
        )


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
