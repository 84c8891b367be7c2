"""Copies of models on this machine's disk: what they are, who uses them, and which of them go when room is short.

    CACHE/NAME/                a model from an object store, whole and checked; or -without-weights
    CACHE/exported-NAME/       shards that this machine wrote in an export, by their SHA-256: they need not be fetched
    CACHE/NAME.lock            locked while the copy is fetched or removed; its time is that of the last use, its text the URI
    CACHE/NAME.held            held by every process that uses the copy (stj/storage/holds.py)
    CACHE/hub-ID.lock, .held   the same for a model that `stj` fetched into the hub's own cache; its text names id and commits

Nothing that a process uses is removed. Of the hub's cache, which belongs to the user, only weights go that `stj` has fetched.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stj.storage.artifacts import MANIFEST
from stj.storage.folder import explain_write_failure
from stj.storage.holds import hold, unheld
from stj.text import data_size

WITHOUT_WEIGHTS = "-without-weights"
"""Ends the name of a copy that lacks its weights; such copies are small and stay."""
_EXPORTED, _HUB = "exported-", "hub-"
_FETCHING = "?"  # In place of a snapshot: its fetch has begun.
_MAY_BE_LOADING_S = 3600  # A copy of an unknown user stays for an hour after its last use: it may still be loading.
_WEIGHTS = "*.safetensors"


@dataclass(frozen=True, kw_only=True)
class ModelCopy:
    """Weights of a model on this machine."""

    model: str
    """The URI or the id on the hub that it was fetched from or exported to."""
    files: tuple[Path, ...]
    size: int
    """In bytes."""
    used_at: float
    """In seconds since 1970."""
    device: int
    """The disk, as the system numbers it."""
    lock: Path

    def remove(self) -> bool:
        """Deletes the files; False if a process uses, fetches or removes them right now, or if they are another user's."""
        with suppress(BlockingIOError, PermissionError), self.lock.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with unheld(self.lock.with_suffix(".held")) as free:
                if free:
                    self._delete()
                return free
        return False

    def _delete(self) -> None:
        directory, temporary = self.lock.with_suffix(""), self.lock.with_suffix(".part")
        if directory.exists():
            shutil.rmtree(temporary, ignore_errors=True)
            directory.rename(temporary)  # after a kill, nothing looks complete
            shutil.rmtree(temporary, ignore_errors=True)
            return
        for link in self.files:
            blob = link.resolve()
            link.unlink(missing_ok=True)
            if not any(other.resolve() == blob for other in link.parents[1].glob(f"*/{_WEIGHTS}")):
                blob.unlink(missing_ok=True)


def model_copies(cache: Path) -> list[ModelCopy]:
    """All copies with weights on this machine, the longest unused first."""
    copies = []
    for lock in cache.glob("*.lock"):
        with suppress(OSError):  # removed at this moment
            files = _hub_files(lock) if lock.name.startswith(_HUB) else _copied_files(lock)
            size = sum(file.stat().st_size for file in files)
            if files:
                model = next(iter(_lines(lock)), lock.stem)
                used_at, device = lock.stat().st_mtime, files[0].stat().st_dev
                copies.append(ModelCopy(model=model, files=files, size=size, used_at=used_at, device=device, lock=lock))
    return sorted(copies, key=lambda copy: copy.used_at)


def make_room(cache: Path, size: int, place: Path | None = None, done: Collection[str] = ()) -> int:
    """Removes copies until `size` bytes are free at `place` (by default in the cache); returns the bytes that are free.

    Models that their run has `done` with go first. Of the others, the longest unused go, and those of the last hour stay.
    Copies on another disk than `place` stay.
    """
    place = place or cache
    copies = [copy for copy in model_copies(cache) if copy.device == place.stat().st_dev]
    old = [copy for copy in copies if copy.model not in done and time.time() - copy.used_at > _MAY_BE_LOADING_S]
    for copy in [copy for copy in copies if copy.model in done] + old:
        if shutil.disk_usage(place).free > size:
            break
        copy.remove()
    return shutil.disk_usage(place).free


def filling(cache: Path, most: int = 4) -> str:
    """What fills the disk with copies, in words, the largest first; empty if there are none."""
    copies = sorted(model_copies(cache), key=lambda copy: -copy.size)
    listed = [f"{data_size(copy.size)} of {copy.model}" for copy in copies[:most]]
    rest = sum(copy.size for copy in copies[most:])
    return ", ".join(listed + ([f"{data_size(rest)} of others"] if rest else []))


def files_by_digest(cache: Path) -> dict[str, Path]:
    """The files of models that this machine holds, by their SHA-256, as far as it is known."""
    files = {file.name: file for file in cache.glob(f"{_EXPORTED}*/*") if file.parent.suffix != ".part"}
    for manifest in (path for path in cache.glob(f"*/{MANIFEST}") if path.parent.suffix != ".part"):
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            for name, facts in json.loads(manifest.read_bytes())["model"]["files"].items():
                files.setdefault(facts["sha256"], manifest.parent / name)
    return files


@contextmanager
def locked_copy(copy: Path, model: str, *, held: bool) -> Iterator[None]:
    """Locks a copy while it is fetched; `held` has this process hold it afterwards. Counts as a use.

    Raises StjError if the lock cannot be opened, as one of another user.
    """
    lock = copy.with_suffix(".lock")
    with explain_write_failure(str(lock)):
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("a")
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # the system releases the lock if its holder dies
        if _lines(lock)[:1] != [model]:
            lock.write_text(f"{model}\n", encoding="utf-8")
        os.utime(lock)
        yield
        if held:
            copy.with_suffix(".held").touch()
            hold(copy.with_suffix(".held"))


def recorded_snapshot(record: Path, snapshots: Path, fetch: Callable[[], Path]) -> Path:
    """Fetches a snapshot into the hub's cache, and records it unless others had fetched weights of this model before.

    `record` is locked. A fetch that was killed is known by its mark, and the next one records what both have fetched.
    """
    lock = record.with_suffix(".lock")
    model, *recorded = _lines(lock)
    there = {str(file.parent) for file in snapshots.glob(f"*/{_WEIGHTS}")}
    ours = _FETCHING in recorded or there <= set(recorded)
    if ours:
        _write_lines(lock, [model, *recorded, _FETCHING])
    snapshot = fetch()
    if ours:
        _write_lines(lock, [model, *dict.fromkeys(line for line in [*recorded, str(snapshot)] if line != _FETCHING)])
    return snapshot


def _lines(lock: Path) -> list[str]:
    return lock.read_text(encoding="utf-8", errors="replace").splitlines()


def _write_lines(lock: Path, lines: Sequence[str]) -> None:
    """Writes in place: the lock is on this file."""
    lock.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def exported_shards(cache: Path, model: str) -> Path:
    """Where the shards of a model go that this machine has exported; its lock must be taken by `locked_copy`."""
    return cache / (_EXPORTED + _name(model))


def hub_record(cache: Path, model: str) -> Path:
    """The place of the lock of a model in the hub's cache; there is no copy there."""
    return cache / (_HUB + _name(model))


def _name(model: str) -> str:
    return hashlib.sha256(model.encode()).hexdigest()[:24]


def _copied_files(lock: Path) -> tuple[Path, ...]:
    directory = lock.with_suffix("")
    return () if directory.name.endswith(WITHOUT_WEIGHTS) else tuple(file for file in directory.rglob("*") if file.is_file())


def _hub_files(lock: Path) -> tuple[Path, ...]:
    """The weights of the snapshots that `stj` has fetched: links into the hub's blobs."""
    return tuple(file for snapshot in _lines(lock)[1:] for file in Path(snapshot).glob(_WEIGHTS) if file.exists())
