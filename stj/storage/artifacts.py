"""Artifacts: a directory of Parquet files and a manifest that is written last.

When is a step new? One extreme is "whenever it is asked for": nothing is ever stale, and a run that was killed at 90% begins
again. The other is "whenever a byte of the code changed": never wrong, and nothing is ever reused. Here a step is new when
its *key* changes: the part of the config that matters to it, the fingerprints of its inputs, the identity of its model and
the hashes of its prompts. The key's hash is the fingerprint; a later step names it as its input, so a change travels down
the chain, and what would be stale is known without running anything.

    started.json    the key, written first: to whom the files beside it belong
    part-*.parquet  immutable, each there whole or not at all
    manifest.json   the key, the counts and the files, written last: no manifest, not finished
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from stj import __version__
from stj.errors import ArtifactError
from stj.storage.folder import Folder

Key = dict[str, Any]
State = Literal["done", "partial", "stale", "absent"]

MANIFEST = "manifest.json"
STARTED = "started.json"
_FORMAT = 1
_STAGED = "staged-"
_NOTHING = object()


def fingerprint(key: Key) -> str:
    """Hash of a key: 16 hex digits."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A config dataclass as JSON values, for a key."""
    return json.loads(json.dumps(asdict(value) if is_dataclass(value) and not isinstance(value, type) else value))


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two keys, a line each: `judge.samples: 15 -> 8`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            found += differences(old.get(key, _NOTHING), new.get(key, _NOTHING), f"{name}.{key}" if name else key)
        return found
    return [] if old == new else [f"{name}: {_shown(old)} -> {_shown(new)}"]


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value)


class Artifact:
    """One step's directory: asked for its state, read, or begun and finished."""

    def __init__(self, folder: Folder, key: Key) -> None:
        self.folder = folder
        self.key = key

    @property
    def fingerprint(self) -> str:
        """Hash of the key; later steps name it as their input."""
        return fingerprint(self.key)

    def state(self) -> tuple[State, list[str]]:
        """Whether the step is done, partial, stale or absent, and for a stale one which fields changed."""
        record = _record(self.folder, MANIFEST)
        found: State = "done" if record else "partial"
        record = record or _record(self.folder, STARTED)
        if record is None:
            return "absent", []
        changed = differences(record["key"], self.key)
        return ("stale", changed) if changed else (found, [])

    def refusal(self, changed: list[str]) -> ArtifactError:
        """What to raise where the directory was made with settings that have changed."""
        return ArtifactError(
            f"{self.folder.uri} was made with other settings: {'; '.join(changed[:4])}"
            f"{' and more' if len(changed) > 4 else ''}. "
            "Set these back, choose another run_root, or pass --overwrite to make it again"
        )

    def begin(self, *, overwrite: bool = False) -> bool:
        """Takes the directory for this key; True where there is work to do, False where it is done already.

        Raises ArtifactError where the directory holds the work of another key, unless it is to be overwritten.
        """
        state, changed = self.state()
        if state == "stale":
            if not overwrite:
                raise self.refusal(changed)
            self.folder.delete(MANIFEST)  # first, so that a kill leaves nothing that looks finished
            self.folder.remove()
        if state == "done":
            return False
        if state != "partial":
            self.folder.write_json(STARTED, {"format": _FORMAT, "key": self.key})
        return True

    def write_part(self, name: str, table: pa.Table) -> str:
        """Writes one immutable file of rows, and gives its name back as `parts` has it."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.folder.write(f"{name}.parquet", sink.getvalue())
        return f"{name}.parquet"

    def stage_part(self, name: str, table: pa.Table) -> str:
        """Writes a file of rows that counts only once the manifest names it; returns its name as `parts` has it."""
        return self.write_part(f"{_STAGED}{name}", table)

    def remove_staged_parts(self) -> None:
        """Deletes the staged files that an earlier start wrote before it could finish."""
        for name in self.folder.names():
            if name.startswith(_STAGED):
                self.folder.delete(name)

    def remove_part(self, name: str) -> None:
        """Deletes one file of rows of an unfinished artifact, if it is there."""
        self.folder.delete(f"{name}.parquet")

    def finish(self, parts: Sequence[str] | None = None, /, **facts: Any) -> None:
        """Writes the manifest: from here on the artifact is done, with these facts beside its key.

        It rests on the parts that are named, else on all that are there.
        """
        parts = self.parts() if parts is None else sorted(parts)
        rows = 0
        for name in parts:
            with self._parquet(name) as file:
                rows += file.metadata.num_rows
        own = {"format": _FORMAT, "stj": __version__, "fingerprint": self.fingerprint, "key": self.key}
        self.folder.write_json(MANIFEST, {**own, "files": parts, "rows": rows, **facts})

    def manifest(self) -> dict[str, Any]:
        """The manifest. Raises ArtifactError where the step is not finished."""
        manifest = _record(self.folder, MANIFEST)
        if manifest is None:
            raise ArtifactError(f"{self.folder.uri} is not finished: it has no {MANIFEST}. Run the step that writes it")
        return manifest

    def parts(self) -> list[str]:
        """Names of the Parquet files: of a finished artifact those that its manifest names, else those committed so far."""
        manifest = _record(self.folder, MANIFEST)
        if manifest:
            return [name for name in manifest["files"] if name.endswith(".parquet")]
        return [name for name in self.folder.names() if name.endswith(".parquet") and not name.startswith(_STAGED)]

    def records(self, columns: list[str] | None = None, parts: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries, one batch in memory at a time; of an unfinished artifact, those committed so far.

        Those of the parts that are named, else of all.
        """
        for name in self.parts() if parts is None else parts:
            with self._parquet(name) as file, self._damage_told(name):
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    yield from batch.to_pylist()

    def _parquet(self, name: str) -> pq.ParquetFile:
        with self._damage_told(name):
            return pq.ParquetFile((self.folder / name).path, filesystem=self.folder.filesystem)

    @contextmanager
    def _damage_told(self, name: str) -> Iterator[None]:
        """Turns a file that is not what was written into one line for the user."""
        try:
            yield
        except OSError as error:
            raise ArtifactError(
                f"{(self.folder / name).uri}: cannot be read ({str(error).splitlines()[0]}); run the same command again, and "
                f"where it stays so delete {self.folder.uri}"
            ) from None
        except pa.ArrowException as error:
            raise ArtifactError(
                f"{(self.folder / name).uri}: damaged ({str(error).splitlines()[0]}); delete it and run again"
            ) from None


def artifacts_to_make(artifacts: Iterable[Artifact], *, overwrite: bool) -> list[Artifact]:
    """Those of the artifacts that are not done.

    Raises ArtifactError for the first stale one, unless stale ones may be overwritten. Nothing is written.
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
    """The artifact in a folder, under the key that its own files name.

    Raises ArtifactError where there is none.
    """
    for name in (MANIFEST, STARTED):
        if record := _record(folder, name):
            return Artifact(folder, record["key"])
    raise ArtifactError(f"{folder.uri}: no artifact here (no {MANIFEST}); `stj status` lists those of a run")


def _record(folder: Folder, name: str) -> dict[str, Any] | None:
    """What one of an artifact's own files says, or None where it is not there."""
    if not folder.exists(name):
        return None
    try:
        record: dict[str, Any] = json.loads(folder.read(name))
        if not isinstance(record["key"], dict) or (name == MANIFEST and not {"files", "rows"} <= record.keys()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArtifactError(f"{(folder / name).uri}: damaged; delete {folder.uri} and run again") from None
    return record
