"""Disks and stores that fail under two real ranks: the training ends at once, and resumes when the fault is mended.

Nothing is patched: small disks are mounted and filled, made read-only, and a bucket is deleted. Only root may mount.
"""

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from pyarrow import fs

from stj.config import ModelConfig
from stj.errors import StorageFailed
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.train.launch import train
from tests.conftest import soon
from tests.train.conftest import write_examples
from tests.train.test_launch import CONFIG, EXAMPLES, ranks_of, same_weights, saved

pytestmark = [pytest.mark.engine, pytest.mark.long]

LONG = replace(CONFIG, max_epochs=6, max_failures=3)
ROOM = "48m"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The TMPDIR of the ranks, a disk of its own."""
    with mounted(tmp_path_factory.mktemp("scratch"), ROOM) as place:
        yield place


@pytest.fixture(scope="module", autouse=True)
def cluster(bucket: str, scratch: Path) -> Iterator[None]:
    """A Ray only for these tests; its ranks inherit the environment of `bucket`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", str(scratch))
        environment.setenv("RAY_TMPDIR", "/tmp")
        ray.init(address="local", include_dashboard=False, num_cpus=3, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, seed_directory: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    fine_tune(folder, seed_directory)
    return folder


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A disk of this size in memory."""
    place.mkdir(parents=True, exist_ok=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    ).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def remount(place: Path, options: str) -> bool:
    return subprocess.run(["mount", "-o", f"remount,{options}", place], capture_output=True, check=False).returncode == 0


def fill(place: Path) -> None:
    """Takes all that is left of a disk."""
    with (place / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass


def fine_tune(folder: Path | str, seed: Path) -> None:
    """Trains the model in folder/model, or resumes its training."""
    examples = write_examples(Folder.at(folder) / "examples", EXAMPLES)
    train(LONG, ModelConfig(path=str(seed)), examples, Artifact(Folder.at(folder) / "model", {"step": "model"}))


def fails_at_once(
    folder: Path | str, seed: Path, when: Callable[[], bool] = lambda: True, act: Callable[[], object] = int
) -> str:
    """Trains, and acts when a condition is met. Returns the one line of the error; the ranks have started only once."""
    over, seen = threading.Event(), set()

    def watch() -> None:
        acted = False
        while not over.wait(0.02):
            seen.update(rank for rank in ranks_of(os.getpid()) if not is_rank(parent_of(rank)))
            if not acted and when():
                acted = act() is not False

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with pytest.raises(StorageFailed) as caught:
            fine_tune(folder, seed)
    finally:
        over.set()
        watching.join()
    line = str(caught.value)
    assert caught.value.exit_code == 1
    assert "\n" not in line
    assert "run the same command again" in line
    assert len(seen) == LONG.workers, line
    return line


def parent_of(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has just ended
        return process


def is_rank(process: int) -> bool:
    """Whether a process is a rank, or has just ended. What a rank starts has the rank's name at first."""
    try:
        return b"RayTrainWorker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return True


def whole(folder: Path | str, step: int = 3) -> Callable[[], bool]:
    """Whether a checkpoint of this step, or a later one, is whole."""
    return lambda: saved(Folder.at(folder) / "checkpoints")[-1:] >= [step]


def resumes(folder: Path | str, seed: Path, undisturbed: Path) -> None:
    fine_tune(folder, seed)
    assert same_weights(folder, undisturbed)


def test_no_room_for_the_model(tmp_path: Path, seed_directory: Path, undisturbed: Path) -> None:
    with mounted(tmp_path / "model", "64k") as disk:
        line = fails_at_once(tmp_path, seed_directory)
        assert "model: cannot write: No space left on device" in line
        assert whole(tmp_path)()
        remount(disk, f"size={ROOM}")
        resumes(tmp_path, seed_directory, undisturbed)


def test_a_disk_that_fills_in_the_middle(tmp_path: Path, seed_directory: Path, undisturbed: Path) -> None:
    with mounted(tmp_path / "run", ROOM) as disk:
        line = fails_at_once(disk, seed_directory, whole(disk), lambda: fill(disk))
        assert str(disk) in line
        (disk / "ballast").unlink()
        assert whole(disk)()
        resumes(disk, seed_directory, undisturbed)


def test_a_disk_that_becomes_read_only(tmp_path: Path, seed_directory: Path, undisturbed: Path) -> None:
    with mounted(tmp_path / "run", ROOM) as disk:
        line = fails_at_once(disk, seed_directory, whole(disk), lambda: remount(disk, "ro"))
        assert str(disk) in line
        assert "Read-only file system" in line
        remount(disk, "rw")
        resumes(disk, seed_directory, undisturbed)


@pytest.mark.parametrize("store", [False, True])
def test_a_full_temporary_folder(
    store: bool, scratch: Path, bucket: str, tmp_path: Path, seed_directory: Path, undisturbed: Path
) -> None:
    """A run on a disk needs it for DeepSpeed's script; one in an object store has its checkpoints there."""
    run = (Folder.at(bucket) / "full").uri if store else str(tmp_path)
    line = fails_at_once(run, seed_directory, whole(run), lambda: fill(scratch))
    assert str(scratch) in line
    (scratch / "ballast").unlink()
    resumes(run, seed_directory, undisturbed)


def test_a_bucket_that_is_gone(bucket: str, seed_directory: Path) -> None:
    options = bucket.partition("?")[2]
    host = dict(option.split("=") for option in options.split("&"))["endpoint_override"]
    admin = fs.S3FileSystem(
        endpoint_override=host, scheme="http", allow_bucket_creation=True, allow_bucket_deletion=True, region="us-east-1"
    )
    admin.create_dir("short")
    run = f"s3://short/run?{options}"
    line = fails_at_once(run, seed_directory, whole(run), lambda: admin.delete_dir("short"))
    assert "NO_SUCH_BUCKET" in line or "does not exist" in line
    assert soon(lambda: not ranks_of(os.getpid()))
