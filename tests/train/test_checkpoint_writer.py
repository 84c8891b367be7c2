"""Checkpoints behind the steps, killed or broken at any file operation; ranks are threads, and only their meetings are ours."""

import errno
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from stj.errors import StorageFailed
from stj.storage.folder import Folder, explain_write_failure
from stj.train import checkpoint_writer
from stj.train.checkpoint_writer import CheckpointWriter
from stj.train.committed import Checkpoint, committed
from stj.train.snapshot import HostMemory

RANKS = 2
STEPS = (1, 2, 3)
NEVER = 10_000
ENGINE = SimpleNamespace(module=SimpleNamespace(parameters=list))


class Killed(BaseException):
    """The end of a process: nothing catches it."""


class Gone(BaseException):
    """What a rank meets in a collective if another one has died."""


@dataclass
class Disk:
    """Counts the file operations of all ranks, and ends the one that comes after `left` of them."""

    left: int
    ending: BaseException = field(default_factory=Killed)
    manifests: list[int] = field(default_factory=list)
    """Steps of the manifests that were written."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def touch(self) -> None:
        with self._lock:
            self.left -= 1
            if self.left == -1 or (self.left < 0 and isinstance(self.ending, Killed)):
                raise self.ending

    def touch_without_writing(self) -> None:
        """An operation that a full disk does not end."""
        if isinstance(self.ending, Killed):
            self.touch()


@dataclass
class Ranks:
    """Ranks as threads of this process, with the collectives that a writer uses."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(RANKS))
    sent: list[Any] = field(default_factory=lambda: [None] * RANKS)
    rank: threading.local = field(default_factory=threading.local)

    def get_rank(self) -> int:
        return int(self.rank.number)

    def get_world_size(self) -> int:
        return RANKS

    def all_gather_object(self, results: list[Any], mine: Any) -> None:
        self.sent[self.rank.number] = mine
        self.meet()
        results[:] = self.sent
        self.meet()

    def meet(self) -> None:
        try:
            self.barrier.wait(600)
        except threading.BrokenBarrierError:
            raise Gone from None

    def run(self, work: Callable[[int], None]) -> list[BaseException | None]:
        """Runs the work as each rank; returns how each ended."""
        ends: list[BaseException | None] = [None] * RANKS

        def live(number: int) -> None:
            self.rank.number = number
            try:
                work(number)
            except BaseException as error:
                ends[number] = error
                if isinstance(error, Killed):
                    self.barrier.abort()

        threads = [threading.Thread(target=live, args=(number,)) for number in range(RANKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
        assert not any(thread.is_alive() for thread in threads), "a rank hangs"
        return ends


@contextmanager
def on(disk: Disk, ranks: Ranks, *, fits: bool = True) -> Iterator[None]:
    """Has writers use this disk and these ranks. A kill may leave any part of a file."""
    save, upload, write, remove = torch.save, Folder.upload, Folder.write, Folder.remove

    def torn_save(state: Any, path: Path) -> None:
        disk.touch()
        path.write_bytes(b"half")
        disk.touch()
        save(state, path)

    def counted_upload(self: Folder, file: Path) -> None:
        with explain_write_failure(self.uri):
            disk.touch()
        if not self.local:
            self.filesystem.create_dir(self.path)  # which an object store needs not
        upload(self, file)

    def counted_write(self: Folder, name: str, data: bytes) -> None:
        with explain_write_failure(self.uri):
            disk.touch()
        write(self, name, data)
        disk.manifests.append(int(self.path.rpartition("_")[2]))
        disk.touch_without_writing()

    def torn_remove(self: Folder) -> None:
        for name in self.names():
            disk.touch_without_writing()
            self.delete(name)
        remove(self)

    def taken(engine: Any, client_state: Any, memory: HostMemory | None) -> dict[str, Any]:
        ranks.meet()  # as DeepSpeed's ranks do before they write
        return {f"zero_pp_rank_{ranks.get_rank()}_{kind}.pt": {"of": kind, **client_state} for kind in ("model", "optim")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_writer, "dist", ranks)
        patch.setattr("stj.train.ranks.dist", ranks)
        patch.setattr(checkpoint_writer, "snapshot", taken)
        patch.setattr(checkpoint_writer, "rng_state", dict)  # two threads in torch's generator may wait for each other forever
        patch.setattr(checkpoint_writer, "_LOOK_S", 0.01)
        patch.setattr(HostMemory, "fits", lambda self, engine: fits)
        patch.setattr(torch, "save", torn_save)
        patch.setattr(Folder, "upload", counted_upload)
        patch.setattr(Folder, "write", counted_write)
        patch.setattr(Folder, "remove", torn_remove)
        yield


def train(folder: Folder, ranks: Ranks, last: Checkpoint | None) -> list[BaseException | None]:
    """Saves after each step that is not done, and looks between two steps."""

    def rank(number: int) -> None:
        with CheckpointWriter(ENGINE, folder, last) as writer:
            for step in STEPS[last.step if last else 0 :]:
                writer.look()
                writer.save(position(step))
                assert writer.last is None or writer.last.step == step - 1
            writer.finish()
            assert writer.last
            assert writer.last.step == STEPS[-1]

    return ranks.run(rank)


def position(step: int) -> Checkpoint:
    return Checkpoint(fingerprint="mine", step=step, epoch=0, samples=step, world_size=RANKS, files={})


def is_whole(folder: Folder, checkpoint: Checkpoint) -> bool:
    place = folder / checkpoint.tag
    digests = {name: hashlib.sha256(place.read(name)).hexdigest() for name in place.names() if name != "manifest.json"}
    return digests == checkpoint.files and len(digests) == 2 * RANKS


@contextmanager
def folders() -> Iterator[list[Folder]]:
    """A folder on a disk, and one that is used as an object store is: through a scratch directory."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "store").mkdir()
        store = fs.SubTreeFileSystem(place, fs.LocalFileSystem())
        yield [Folder.at(f"{place}/disk"), Folder(store, "store", "s3://store")]


def operations(*, stored: bool) -> int:
    """File operations of a training that nobody disturbs."""
    with folders() as both:
        disk, ranks = Disk(left=NEVER), Ranks()
        with on(disk, ranks):
            assert train(both[stored], ranks, None) == [None] * RANKS
        kept = committed(both[stored], "mine")
        assert [checkpoint.step for checkpoint in kept] == [3, 2]
        assert both[stored].folders() == ["step_00000002", "step_00000003"]
        assert all(is_whole(both[stored], checkpoint) for checkpoint in kept)
        return NEVER - disk.left


LAST = {stored: operations(stored=stored) for stored in (False, True)}


@pytest.mark.slow
@given(data=st.data(), stored=st.booleans(), fits=st.booleans())
def test_a_kill_at_any_file_operation_leaves_the_new_checkpoint_or_the_one_before(
    data: st.DataObject, stored: bool, fits: bool
) -> None:
    """Killed twice, so that the second training finds torn folders; the third is left in peace."""
    with folders() as both:
        folder, last = both[stored], None
        for left in (data.draw(st.integers(0, LAST[stored])), data.draw(st.integers(0, LAST[stored])), NEVER):
            disk, ranks = Disk(left=left), Ranks()
            with on(disk, ranks, fits=fits):
                train(folder, ranks, last)
            whole = committed(folder, "mine")
            assert all(is_whole(folder, checkpoint) for checkpoint in whole)
            newest = max(disk.manifests, default=last.step if last else 0)
            last = whole[0] if whole else None
            assert (last.step if last else 0) == newest
        assert [checkpoint.step for checkpoint in whole][:1] == [STEPS[-1]]


@settings(max_examples=20)
@given(data=st.data(), stored=st.booleans(), fits=st.booleans())
def test_a_full_disk_of_one_rank_ends_all_ranks_with_its_error(data: st.DataObject, stored: bool, fits: bool) -> None:
    with folders() as both:
        full = OSError(errno.ENOSPC, "No space left on device")
        disk, ranks = Disk(data.draw(st.integers(0, LAST[stored] // 2)), full), Ranks()
        with on(disk, ranks, fits=fits):
            ends = train(both[stored], ranks, None)
        assert [type(end) for end in ends] == [StorageFailed] * RANKS
        assert all("cannot write: No space left on device" in str(end) and "\n" not in str(end) for end in ends)
        assert all(is_whole(both[stored], checkpoint) for checkpoint in committed(both[stored], "mine"))
