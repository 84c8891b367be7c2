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

    started.json    the key, written first
    part-*.parquet  rows; each file is complete or absent, and never changes
    staged-*        rows that count only once the manifest names their file
    manifest.json   the key, the counts and the names of the files, written last

If the source of a pass was repaired, its rows move to another key (passes/carry_over.py). They are written again, to files
whose names end with their *generation*: part-*.GENERATION.parquet. Then started.json names the new key and the generation, in
one step. Files of another generation do not count, also if a driver that was taken for dead writes one later.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stj import __version__
from stj.errors import ArtifactError, NoArtifact
from stj.storage.folder import Folder

Key = dict[str, Any]
State = Literal["done", "partial", "stale", "absent"]

MANIFEST = "manifest.json"
STARTED = "started.json"
_FORMAT = 1
_STAGED = "staged-"  # Begins the names of files that count only once the manifest names them.
_NOTHING = object()


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

    def __init__(self, folder: Folder, key: Key, generation: str | None = None) -> None:
        self.folder = folder
        self.key = key
        self._generation = generation

    @property
    def generation(self) -> str:
        """What ends the names of the parts that count; empty if none were carried over. It is read once."""
        if self._generation is None:
            self._generation = str((_record(self.folder, STARTED) or {}).get("generation", ""))
        return self._generation

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

        Raises ArtifactError if the directory is stale; `overwrite` deletes a stale directory instead.
        """
        state, changed = self.state()
        if state == "stale":
            if not overwrite:
                raise self.refusal(changed)
            self.folder.delete(MANIFEST)  # first: after a kill nothing looks finished
            self.folder.remove()
        if state == "done":
            return False
        if state == "partial":
            self._generation = None  # as started.json says now
            self._remove_replaced()
        else:
            self._generation = ""
            self.folder.write_json(STARTED, {"format": _FORMAT, "key": self.key})
        return True

    def write_part(self, name: str, table: pa.Table) -> str:
        """Writes one file of rows, which never changes afterwards; returns its name as `parts` lists it."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.folder.write(self.part_name(name), sink.getvalue())
        return self.part_name(name)

    def stage_part(self, name: str, table: pa.Table) -> str:
        """Writes a file of rows that counts only once the manifest names it; returns its name as `parts` lists it."""
        return self.write_part(f"{_STAGED}{name}", table)

    def remove_part(self, name: str) -> None:
        """Deletes one file of rows of an unfinished artifact, if it exists."""
        self.folder.delete(self.part_name(name))

    def part_name(self, name: str) -> str:
        """The name of a file of rows as `parts` lists it."""
        return f"{name}.{self.generation}.parquet" if self.generation else f"{name}.parquet"

    def successor(self) -> "Artifact":
        """The same artifact with parts of a new generation, which count once it has taken over."""
        return Artifact(self.folder, self.key, uuid.uuid4().hex[:8])

    def take_over(self, successor: "Artifact") -> None:
        """Makes the parts of the successor this unfinished artifact's, in one step. Deletes the manifest and the other parts.

        A kill leaves either the old parts under the old key, or the new ones under this key.
        """
        record = {"format": _FORMAT, "key": self.key, "generation": successor.generation}
        self.folder.write_json(STARTED, record)
        self._generation = successor.generation
        self.folder.delete(MANIFEST)  # before the parts that it names
        self._remove_replaced()

    def _remove_replaced(self) -> None:
        """Deletes parts of other generations: those that were replaced, and those that a kill kept from taking over."""
        for name in self.folder.names():
            if name.endswith(".parquet") and not self._counts(name):
                self.folder.delete(name)

    def _counts(self, name: str) -> bool:
        """Whether a file of rows is of this generation."""
        return name.removesuffix(".parquet").partition(".")[2] == self.generation

    def finish(self, parts: Sequence[str] | None = None, /, **facts: Any) -> None:
        """Writes the manifest, with these facts beside the key: the artifact is done.

        The manifest lists the named parts, or by default all parts in the directory.
        """
        parts = self.parts() if parts is None else sorted(parts)
        rows = 0
        for name in parts:
            with self._parquet(name) as file:
                rows += file.metadata.num_rows
        origin = {"format": _FORMAT, "stj": __version__, "fingerprint": self.fingerprint, "key": self.key}
        self.folder.write_json(MANIFEST, {**origin, "files": parts, "rows": rows, **facts})

    def manifest(self) -> dict[str, Any]:
        """The manifest. Raises ArtifactError if the step is not finished."""
        manifest = _record(self.folder, MANIFEST)
        if manifest is None:
            raise ArtifactError(f"{self.folder.uri} is not finished: it has no {MANIFEST}. Run the step that writes it")
        return manifest

    def parts(self) -> list[str]:
        """Names of the Parquet files: those in the manifest if the artifact is finished, else those written so far."""
        manifest = _record(self.folder, MANIFEST)
        if manifest:
            return [name for name in manifest["files"] if name.endswith(".parquet")]
        names = [name for name in self.folder.names() if name.endswith(".parquet") and not name.startswith(_STAGED)]
        return list(filter(self._counts, names))

    def records(self, columns: list[str] | None = None, parts: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries, from the named parts or by default all `parts`; holds one batch in memory at a time."""
        for name in self.parts() if parts is None else parts:
            with self.opened(name) as file:
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    yield from batch.to_pylist()

    @contextmanager
    def opened(self, name: str) -> Iterator[pq.ParquetFile]:
        """One of the `parts`, open to read. Raises ArtifactError if it is damaged, also while it is read."""
        with self._parquet(name) as file, self._explain_damage(name):
            yield file

    def _parquet(self, name: str) -> pq.ParquetFile:
        with self._explain_damage(name):
            return pq.ParquetFile((self.folder / name).path, filesystem=self.folder.filesystem)

    @contextmanager
    def _explain_damage(self, name: str) -> Iterator[None]:
        """Turns the error of a damaged file into one line for the user."""
        try:
            yield
        except OSError as error:
            raise ArtifactError(
                f"{(self.folder / name).uri}: cannot be read ({str(error).splitlines()[0]}); run the same command again; "
                f"if the error stays, delete {self.folder.uri}"
            ) from None
        except pa.ArrowException as error:
            raise ArtifactError(
                f"{(self.folder / name).uri}: damaged ({str(error).splitlines()[0]}); delete it and run again"
            ) from None


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
    """The artifact in a folder, with the key that its files hold. Raises NoArtifact if there is none."""
    for name in (MANIFEST, STARTED):
        if record := _record(folder, name):
            return Artifact(folder, record["key"])
    raise NoArtifact(f"{folder.uri}: no artifact here (no {MANIFEST}); `stj status` lists the artifacts of a run")


def _record(folder: Folder, name: str) -> dict[str, Any] | None:
    """The content of manifest.json or started.json; None if the file does not exist."""
    if not folder.exists(name):
        return None
    try:
        record: dict[str, Any] = json.loads(folder.read(name))
        if not isinstance(record["key"], dict) or (name == MANIFEST and not _lists_files(record)):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ArtifactError(f"{(folder / name).uri}: damaged; delete {folder.uri} and run again") from None
    return record


def _lists_files(manifest: dict[str, Any]) -> bool:
    files, rows = manifest["files"], manifest["rows"]
    return isinstance(files, list) and all(isinstance(name, str) for name in files) and isinstance(rows, int)
