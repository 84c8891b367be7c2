"""Writes checkpoints behind the steps, which wait only until the state is copied to memory (stj/train/snapshot.py).

A thread of each rank writes the rank's files, brings them to the run's folder and hashes them, while the next steps are
computed. When all ranks are done, rank 0 writes the manifest. So a kill leaves the whole new checkpoint, or those before it.

The threads never meet each other: collectives of two threads would mix. The ranks meet between two steps, in `look`. There an
error of one thread ends all ranks.
"""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

import deepspeed
import torch
import torch.distributed as dist

from stj.storage.artifacts import MANIFEST
from stj.storage.faults import storage_fault
from stj.storage.folder import Folder, explain_write_failure, workspace
from stj.storage.sealed import write_sealed
from stj.train.checkpoint import hash_and_sync, rng_state
from stj.train.committed import Checkpoint, prune
from stj.train.ranks import gathered
from stj.train.snapshot import FileStates, HostMemory, snapshot

log = logging.getLogger(__name__)

_LOOK_S = 0.2  # Ranks that wait for a checkpoint meet at least this often.


@dataclass(frozen=True, kw_only=True)
class RankFiles:
    """What one rank has written of a checkpoint."""

    files: dict[str, str]
    """SHA-256 of each file."""
    seconds: float
    """From the beginning of the save to here."""


class CheckpointWriter:
    """The checkpoints of one training, written one at a time; all ranks must call each method.

    A checkpoint has one of two works in the thread: the rank's files, and then, on rank 0, the manifest.
    """

    def __init__(self, engine: deepspeed.DeepSpeedEngine, folder: Folder, last: Checkpoint | None) -> None:
        self.last = last
        """The newest whole checkpoint."""
        self._engine = engine
        self._folder = folder
        self._memory = HostMemory()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._position: Checkpoint | None = None
        self._work: Future[RankFiles] | Future[Checkpoint] | None = None

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is not whole yet."""
        return self._work is not None

    def save(self, position: Checkpoint) -> None:
        """Begins a checkpoint of these steps, after the one before it is whole; `position` comes without files.

        Waits for the copy in memory. If the machine has no room for one, waits until the files are written.
        """
        self.finish()
        if self.last and self.last.step == position.step:
            return
        started = time.monotonic()
        if dist.get_rank() == 0:
            (self._folder / position.tag).remove()  # a torn one, if an earlier run was killed while it wrote
        memory = (
            self._memory if self._memory.fits(self._engine) else None
        )  # all decide before DeepSpeed's first barrier, behind which they copy
        states = snapshot(self._engine, {"rng": rng_state()}, memory)
        written = threading.Event()
        work = self._thread.submit(write_files, self._folder, position.tag, states, written, started)
        if memory is None:
            work.add_done_callback(lambda _: written.set())  # it may have failed
            written.wait()
        self._work, self._position = work, replace(position, stopped=round(time.monotonic() - started, 3))

    def look(self) -> None:
        """Brings the checkpoint on if all ranks are done with their work. Raises, on all ranks, the error of any of them."""
        if self._work is None or self._position is None:
            return
        mine = _result(self._work)
        results = gathered(mine)
        for error in (mine, *results):
            if isinstance(error, BaseException):
                raise error
        if isinstance(results[0], Checkpoint):
            self.last, self._work = results[0], None
        elif None not in results:
            whole = _whole(self._position, [of_rank for of_rank in results if isinstance(of_rank, RankFiles)])
            self._work = self._thread.submit(commit, self._folder, whole, dist.get_rank())

    def finish(self) -> None:
        """Waits until the checkpoint is whole. Raises as `look` does."""
        while self._work is not None:
            with suppress(TimeoutError):
                self._work.exception(_LOOK_S)
            self.look()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends the thread: after an error, when it has written its files."""
        self._thread.shutdown()


def write_files(folder: Folder, tag: str, states: FileStates, written: threading.Event, started: float) -> RankFiles:
    """Writes one rank's files, hashes them and brings them to the folder; sets `written` when nobody needs the states.

    Raises StorageFailed if the disk is full.
    """
    with workspace(folder) as directory, _explained(directory):
        place = directory / tag
        place.mkdir(parents=True, exist_ok=True)
        for name, state in states.items():
            torch.save(state, place / name)
        written.set()
        hashes = {name: hash_and_sync(place / name) for name in states}
        for name in states:
            (folder / tag).upload(place / name)
    return RankFiles(files=hashes, seconds=time.monotonic() - started)


def commit(folder: Folder, whole: Checkpoint, rank: int) -> Checkpoint:
    """Makes a checkpoint whole by its manifest, on rank 0, and deletes all but the newest two."""
    if rank == 0:
        write_sealed(folder / whole.tag, MANIFEST, asdict(whole))
        prune(folder, whole.fingerprint)
        log.info("checkpoint after step %d: %.1f s, in %.1f s of which no step ran", whole.step, whole.seconds, whole.stopped)
    return whole


def _whole(position: Checkpoint, ranks: list[RankFiles]) -> Checkpoint:
    """The manifest of a checkpoint whose files all ranks have written."""
    files = {name: digest for of_rank in ranks for name, digest in of_rank.files.items()}
    return replace(position, files=files, seconds=round(max(of_rank.seconds for of_rank in ranks), 3))


def _result(work: Future[RankFiles] | Future[Checkpoint]) -> RankFiles | Checkpoint | BaseException | None:
    """What a work has brought, or its error; None while it lasts."""
    return (work.exception() or work.result()) if work.done() else None


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turns a failed write into one line. PyTorch's writer of files names no reason: it is mostly a full disk."""
    try:
        with explain_write_failure(str(directory)):
            yield
    except RuntimeError as error:
        if fault := storage_fault(error, [str(directory)]):
            raise fault from None
        raise
