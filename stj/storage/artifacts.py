"""Artifacts: one step's results on disk, a directory of Parquet files with a manifest that is written last.

When is a step new? One extreme is "every time": nothing is ever stale, and a run that was killed at 90% starts again from
nothing. The other extreme is "after every change of the code": never wrong, and nothing is ever reused. Here a step is new
when its *key* changes; changed code alone does not make it new. The key holds:

    the settings that matter to this step, the fingerprints of its input artifacts,
    the identity of its model, and the hashes of its prompts

The key's hash is the *fingerprint*. Each step names the fingerprints of its inputs in its own key, so one change makes all
later steps new too. loop/keys.py builds the keys of a run's phases.

What makes a phase stale? Its directory holds another key than the config asks for. Comparing the two needs no run:

    absent    no files
    partial   started.json holds this key, and there is no manifest yet: the next run resumes
    done      manifest.json holds this key: the next run reuses the result
    stale     manifest.json, or started.json if there is no manifest, holds another key: the next run
              stops and names the settings that differ; with --overwrite it deletes the old result

The files of an artifact:

    started.json                              the key, written first
    rows/part-<fingerprint>-<hash>.parquet    rows; each file is complete or absent, and never changes
    rows/staged-...                           rows that count only once the manifest names their file
    manifest.json                             the key, the counts, and each file's name, size and SHA-256, written last

Nothing else is in the folder of rows once there is a manifest: pandas, Polars and DuckDB read it as it is. They take all
files of a directory for data, Polars even hidden ones. Earlier versions kept rows beside the records. They are still read
there: a part is named by its path below the artifact's folder.

How is damage found? The records hold their own SHA-256 (sealed.py). A part's name ends in the first half of its own, so that
parts can be trusted before there is a manifest, and parts of two drivers have one name only if they are the same. Every part is
checked when a process first reads it.

A part counts only under the key whose fingerprint is in its name. So if the source of a pass was repaired, its rows are written
again under the new key (passes/carry_over.py), and started.json makes them count in one step.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stj import __version__
from stj.errors import ArtifactError, NoArtifact, StjError
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.known_digests import known_digest
from stj.storage.sealed import read_sealed, write_sealed

Key = dict[str, Any]
State = Literal["done", "partial", "stale", "absent"]

MANIFEST = "manifest.json"
STARTED = "started.json"
ROWS = "rows"
"""The folder of an artifact's Parquet files."""
_STAGED = "staged-"  # Begins the names of files that count only once the manifest names them.
_PART = re.compile(rf"(?:{ROWS}/)?(?P<prefix>[^/]+)-(?P<fingerprint>[0-9a-f]{{16}})-(?P<hash>[0-9a-f]{{32}})\.parquet")
_NOTHING = object()
_MAKE_AGAIN = (
    "restore it from a copy, or delete it and run the same command again: whole rows are kept, and a model is trained again"
)


def fingerprint(key: Key) -> str:
    """The hash of a key: 16 hex digits."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A config dataclass, or a plain value, as JSON values for a key."""
    return json.loads(json.dumps(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value))


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """The differences between two keys, one line each: `judge.samples: 15 -> 8`."""
    if isinstance(old, dict) and isinstance(new, dict):
        changed = []
        for key in sorted(old.keys() | new.keys()):
            changed += differences(old.get(key, _NOTHING), new.get(key, _NOTHING), f"{name}.{key}" if name else key)
        return changed
    return [] if old == new else [f"{name}: {_value_text(old)} -> {_value_text(new)}"]


def _value_text(value: Any) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value)


class Artifact:
    """The directory of one step under one key: reports its state, is written part by part, and is read."""

    def __init__(self, folder: Folder, key: Key) -> None:
        self.folder = folder
        self.key = key
        self._digests: dict[str, FileDigest] = {}
        self._fetched: set[str] = set()
        """Parts in a store that were fetched whole, and are what was written: only the columns asked for are fetched again."""

    @property
    def fingerprint(self) -> str:
        """Hash of the key; later steps name it in their own keys."""
        return fingerprint(self.key)

    def state(self) -> tuple[State, list[str]]:
        """The state of the step, and the differences of the keys if it is stale."""
        record = _record(self.folder, MANIFEST)
        state: State = "done" if record else "partial"
        record = record or _record(self.folder, STARTED)
        if record is None:
            return "absent", []
        changed = differences(record["key"], self.key)
        return ("stale", changed) if changed else (state, [])

    def refusal(self, changed: list[str]) -> ArtifactError:
        """The error for a stale directory: names up to four settings that changed, and the remedies."""
        return ArtifactError(
            f"{self.folder.uri} was made with other settings: {'; '.join(changed[:4])}"
            f"{' and more' if len(changed) > 4 else ''}. "
            "Set these back, choose another run_root, or pass --overwrite to make it again"
        )

    def begin(self, *, overwrite: bool = False) -> bool:
        """Claims the directory for this key; returns True if there is work to do, False if the step is done already.

        Raises ArtifactError if the directory is stale, or holds parts of another key; `overwrite` deletes these instead.
        """
        state, changed = self.state()
        if state == "stale":
            if not overwrite:
                raise self.refusal(changed)
            self._remove()
        if state == "done":
            return False
        if state == "absent" and any(map(self._is_of_another_key, self._files())):
            if not overwrite:
                raise ArtifactError(
                    f"{self.folder.uri}: holds rows without {STARTED} and {MANIFEST}, and they were made with other settings: "
                    "copy it again as a whole, choose another run_root, or pass --overwrite to make it again"
                )
            self._remove()
        if state == "partial":
            self._remove_replaced()
        else:
            write_sealed(self.folder, STARTED, {"key": self.key})
        return True

    def take_over(self) -> None:
        """Makes the directory of another key this one's, in one step, with the parts that were written under this key.

        Deletes the manifest and the other parts afterwards. A kill leaves either the old parts under the old key, or the new
        ones under this key.
        """
        write_sealed(self.folder, STARTED, {"key": self.key})
        self.folder.delete(MANIFEST)
        self._remove_replaced()

    def _remove_replaced(self) -> None:
        """Deletes parts of other keys: those that were replaced, and those that a kill kept from taking over."""
        for name in filter(self._is_of_another_key, self._files()):
            self.folder.delete(name)

    def _files(self) -> list[str]:
        """The files in the artifact's folder and in that of its rows, by their paths below it, sorted."""
        return [*self.folder.names(), *(f"{ROWS}/{name}" for name in (self.folder / ROWS).names())]

    def _is_of_another_key(self, name: str) -> bool:
        match = _PART.fullmatch(name)
        return match is not None and match["fingerprint"] != self.fingerprint

    def _remove(self) -> None:
        self.folder.delete(MANIFEST)  # first: after a kill nothing looks finished
        self.folder.remove()

    def write_part(self, prefix: str, table: pa.Table) -> str:
        """Writes one file of rows, which never changes afterwards; returns its path below the artifact's folder."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        content = sink.getvalue()
        digest = FileDigest.of(content)
        name = f"{prefix}-{self.fingerprint}-{digest.sha256[:32]}.parquet"
        (self.folder / ROWS).write(name, content)
        part = f"{ROWS}/{name}"
        self._digests[part] = digest
        return part

    def stage_part(self, prefix: str, table: pa.Table) -> str:
        """Writes a file of rows that counts only once the manifest names it; returns its name as `parts` lists it."""
        return self.write_part(f"{_STAGED}{prefix}", table)

    def remove_parts(self, prefix: str) -> None:
        """Deletes the files of rows with this prefix, of an unfinished artifact."""
        for name in self.parts():
            if prefix_of(name) == prefix:
                self.folder.delete(name)

    def finish(self, parts: Sequence[str] | None = None, /, **facts: Any) -> None:
        """Writes the manifest, with these facts beside the key: the artifact is done.

        The manifest lists the named parts, or by default all parts in the directory. Raises ArtifactError if one is damaged.
        """
        rows = 0
        files: dict[str, dict[str, Any]] = {}
        for name in sorted(self.parts() if parts is None else parts):
            with self._parquet(name) as file:
                rows += file.metadata.num_rows
            files[name] = asdict(self._digests[name])
        origin = {"stj": __version__, "fingerprint": self.fingerprint, "key": self.key}
        write_sealed(self.folder, MANIFEST, {**origin, "files": files, "rows": rows, **facts})

    def manifest(self) -> dict[str, Any]:
        """The manifest. Raises ArtifactError if the step is not finished."""
        manifest = _record(self.folder, MANIFEST)
        if manifest is None:
            raise ArtifactError(f"{self.folder.uri} is not finished: it has no {MANIFEST}. Run the step that writes it")
        return manifest

    def parts(self) -> list[str]:
        """The Parquet files, by their paths below the folder: those in the manifest, or else those written so far."""
        manifest = _record(self.folder, MANIFEST)
        if manifest:
            self._digests |= {name: FileDigest(**facts) for name, facts in manifest["files"].items()}
            return list(manifest["files"])
        names = [name for name in self._files() if name.endswith(".parquet") and not self._is_of_another_key(name)]
        return _without_copies(name for name in names if not name.rpartition("/")[2].startswith((_STAGED, ".")))

    def records(self, columns: list[str] | None = None, parts: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries, from the named parts or by default all `parts`; holds one batch in memory at a time."""
        for name in self.parts() if parts is None else parts:
            with self.opened(name) as file:
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    yield from batch.to_pylist()

    @contextmanager
    def opened(self, name: str) -> Iterator[pq.ParquetFile]:
        """One of the `parts`, open to read. Raises ArtifactError if it is damaged, before any of it is read."""
        with self._parquet(name) as file, self._explain_damage(name):
            yield file

    def _parquet(self, name: str) -> pq.ParquetFile:
        with self._explain_damage(name):
            if self.folder.local:
                self._check(name, known_digest(self.folder.local / name))
                return pq.ParquetFile((self.folder / name).path, filesystem=self.folder.filesystem)
            if name in self._fetched:
                return pq.ParquetFile((self.folder / name).path, filesystem=self.folder.filesystem, pre_buffer=True)
            content = self._fetch(name)
            self._check(name, FileDigest.of(content))
            self._fetched.add(name)
            return pq.ParquetFile(pa.BufferReader(content))

    def _fetch(self, name: str) -> bytes:
        try:
            return self.folder.read(name)
        except StjError:
            if self.folder.exists(name):
                raise
            raise FileNotFoundError from None

    def _check(self, name: str, found: FileDigest) -> None:
        """Raises ArtifactError unless a part has the digest in the manifest or, before there is one, the hash in its name."""
        match = _PART.fullmatch(name)
        if match is None or self._digests.setdefault(name, found) != found or not found.sha256.startswith(match["hash"]):
            self._digests.pop(name, None)
            raise self._damaged(name, "its content does not have the SHA-256 that it was written with")

    @contextmanager
    def _explain_damage(self, name: str) -> Iterator[None]:
        """Turns the error of a damaged file into one line for the user."""
        try:
            yield
        except FileNotFoundError:
            raise ArtifactError(
                f"{(self.folder / name).uri}: missing; if only a part of the directory was copied, copy it again, else "
                f"{self._remedy(name)}"
            ) from None
        except OSError as error:
            raise ArtifactError(
                f"{(self.folder / name).uri}: cannot be read ({str(error).splitlines()[0]}); run the same command again; "
                f"if the error stays, {self._remedy(name)}"
            ) from None
        except pa.ArrowException as error:
            raise self._damaged(name, str(error).splitlines()[0]) from None

    def _damaged(self, name: str, how: str) -> ArtifactError:
        return ArtifactError(f"{(self.folder / name).uri}: damaged: {how}; {self._remedy(name)}")

    def _remedy(self, name: str) -> str:
        beside = f" and {MANIFEST} beside it" if self.folder.exists(MANIFEST) else ""
        return f"delete {name}{beside} and run the same command again: only its rows are made again"


def prefix_of(part: str) -> str:
    """The prefix with which `write_part` was called for this part."""
    match = _PART.fullmatch(part)
    return match["prefix"] if match else part


def _without_copies(parts: Iterable[str]) -> list[str]:
    """The parts, each content once: a file that was copied beside itself would double its rows."""
    by_content: dict[str, str] = {}
    for name in parts:
        match = _PART.fullmatch(name)
        by_content.setdefault(match["hash"] if match else name, name)
    return list(by_content.values())


def artifacts_to_make(artifacts: Iterable[Artifact], *, overwrite: bool) -> list[Artifact]:
    """The artifacts that are not done; writes nothing.

    Raises ArtifactError for the first stale artifact; `overwrite` includes stale artifacts instead.
    """
    to_make = []
    for artifact in artifacts:
        state, changed = artifact.state()
        if state == "stale" and not overwrite:
            raise artifact.refusal(changed)
        if state != "done":
            to_make.append(artifact)
    return to_make


def read_artifact(folder: Folder) -> Artifact:
    """The artifact in a folder, with the key that its files hold; that of a folder of rows is above it.

    Raises NoArtifact if there is none.
    """
    for place in (folder, folder.parent) if folder.path.endswith(f"/{ROWS}") else (folder,):
        for name in (MANIFEST, STARTED):
            if record := _record(place, name):
                return Artifact(place, record["key"])
    raise NoArtifact(f"{folder.uri}: no artifact here (no {MANIFEST}); `stj status` lists the artifacts of a run")


def _record(folder: Folder, name: str) -> dict[str, Any] | None:
    """The content of manifest.json or started.json; None if the file does not exist."""
    if not folder.exists(name):
        return None
    remedy = (
        _MAKE_AGAIN
        if name == MANIFEST
        else "delete it and run the same command again: rows made with the same settings are kept"
    )
    record = read_sealed(
        folder, name, remedy, f"finish with that version, or delete {folder.uri} and run the same command again"
    )
    if not isinstance(record.get("key"), dict) or (name == MANIFEST and not _lists_files(record)):
        raise ArtifactError(f"{(folder / name).uri}: no {name} that stj writes: it has other fields; {remedy}")
    return record


def _lists_files(manifest: dict[str, Any]) -> bool:
    files = manifest.get("files")
    listed = isinstance(files, dict) and all(
        isinstance(facts, dict) and facts.keys() == {"size", "sha256"} for facts in files.values()
    )
    return listed and isinstance(manifest.get("rows"), int)
