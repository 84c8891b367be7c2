"""One driver a directory, on a disk and on S3: a second driver is refused; it takes over from a dead one."""

import ast
import fcntl
import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from stj.errors import ArtifactError, StjError, StorageFailed
from stj.storage import holds, lease
from stj.storage.folder import Folder
from stj.storage.lease import sole_driver
from tests.conftest import running
from tests.waiting import wait_for_a_signal

HOLD = """
import sys, time
from stj.storage.lease import sole_driver
from stj.storage.folder import Folder
with sole_driver(Folder.at(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_second_driver_is_refused_unless_the_first_was_killed(tmp_path: Path) -> None:
    with running([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refused = f"another driver is at work there .process {other.pid} on "
        with pytest.raises(ArtifactError, match=refused), sole_driver(Folder.at(tmp_path / "run")):
            pytest.fail("two drivers at once")
    with sole_driver(Folder.at(tmp_path / "run")):
        pass
    with sole_driver(Folder.at(tmp_path / "run")):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0"])
def test_a_damaged_lock_is_one_line_while_it_is_held_and_nothing_afterwards(content: bytes, tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock"
    lock.write_bytes(content)
    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match=r"another driver is at work there \(.+\)"), sole_driver(Folder.at(tmp_path)):
            pass
    with sole_driver(Folder.at(tmp_path)):
        assert lock.read_text().startswith("process ")


def test_a_full_disk_is_one_line(small_disk: Path) -> None:
    (small_disk / "driver.lock").touch()
    with suppress(OSError):
        (small_disk / "data").write_bytes(bytes(1 << 21))
    with pytest.raises(StorageFailed, match=r"cannot write: No space left on device"), sole_driver(Folder.at(small_disk)):
        pass


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StjError, match=r"cannot write: .*check the free space"), sole_driver(Folder.at(tmp_path / "file")):
        pass


def test_a_directory_on_a_full_disk_is_one_line(small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(b"x" * 4096):
            pass
    full = pytest.raises(StorageFailed, match=r"cannot write: No space left on device.*check the free space")
    with full, sole_driver(Folder.at(small_disk / "run")):
        pass


def test_a_disk_without_locks_is_treated_as_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lease.fcntl, "flock", refuse)
    monkeypatch.setattr(lease, "_MISSED", 100)
    folder = Folder.at(tmp_path / "run")
    with sole_driver(folder), pytest.raises(ArtifactError, match="another driver"), sole_driver(folder):
        pytest.fail("two drivers at once")
    with sole_driver(folder):
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_BEAT_S", 0.2)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_damaged_sign_of_life_is_that_of_a_dead_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_has_locks", lambda *_: False)
    (tmp_path / "driver-000007.lock").write_bytes(b"\xff\xfe\0")
    with sole_driver(Folder.at(tmp_path)):
        assert (tmp_path / "driver-000008.lock").read_text().startswith("process ")


@pytest.mark.usefixtures("quick")
def test_in_an_object_store_a_second_driver_is_refused_while_the_first_lives(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_MISSED", 100)  # even a slow machine renews its sign in this time
    folder = Folder.at(bucket) / "lease_1"
    with sole_driver(folder), pytest.raises(ArtifactError, match="another driver"), sole_driver(folder):
        pytest.fail("two drivers at once")
    with sole_driver(folder):  # the first has ended
        pass


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_in_an_object_store_a_driver_takes_over_from_a_dead_one(bucket: str) -> None:
    folder = Folder.at(bucket) / "lease_2"
    folder.write("driver-000041.lock", b"process 1 on nowhere, sign of life 7")
    with sole_driver(folder):
        assert folder.names() == ["driver-000042.lock"]
        assert b"nowhere" not in folder.read("driver-000042.lock")


def work_until_overtaken(folder: Folder, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that another driver takes for dead: after its first sign of life the other one signs."""
    sign = lease._sign

    def sign_and_be_overtaken(where: Folder, mine: int, content: str) -> None:
        sign(where, mine, content)
        if content.endswith(" 1"):
            sign(where, turn, "process 1 on elsewhere, sign of life 1")

    monkeypatch.setattr(lease, "_sign", sign_and_be_overtaken)
    with sole_driver(folder):
        wait_for_a_signal()


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "ctrl_c")
@pytest.mark.parametrize("turn", [1, 2], ids=["both came at once", "the other came later"])
def test_a_driver_that_was_taken_for_dead_stops(bucket: str, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder.at(bucket) / f"lease_3_{turn}"
    with pytest.raises(ArtifactError, match="process 1 on elsewhere"):
        work_until_overtaken(folder, turn, monkeypatch)
    assert folder.read(f"driver-{turn:06d}.lock"), "the other's sign is left alone"


@pytest.fixture
def in_background(ctrl_c: None) -> Iterator[None]:
    """Signals as the command line has them in a script's background: Ctrl-C ignored, SIGTERM ends the process."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("quick", "in_background")
def test_a_driver_in_the_background_that_was_taken_for_dead_stops(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="process 1 on elsewhere"):
        work_until_overtaken(Folder.at(bucket) / "lease_5", 2, monkeypatch)


@pytest.mark.usefixtures("quick", "ctrl_c")
def test_a_driver_that_wakes_up_while_it_signs_takes_nobody_s_place(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes its sign of life late, after another driver has taken over."""
    folder = Folder.at(bucket) / "lease_4"
    signing, awake = threading.Event(), threading.Event()
    sign = lease._sign

    def sleep_then_sign(where: Folder, turn: int, content: str) -> None:
        if content.endswith(" 1") and not awake.is_set():
            signing.set()
            awake.wait(600)
        sign(where, turn, content)

    monkeypatch.setattr(lease, "_sign", sleep_then_sign)

    def work() -> None:
        with sole_driver(folder):
            signing.wait(600)
            sign(folder, 2, "process 1 on elsewhere, sign of life 0")
            folder.delete("driver-000001.lock")
            awake.set()
            wait_for_a_signal()

    with pytest.raises(ArtifactError, match="process 1 on elsewhere"):
        work()
    assert folder.read("driver-000002.lock") == b"process 1 on elsewhere, sign of life 0"


def test_no_lease_or_hold_reads_a_clock_that_can_jump() -> None:
    """Two machines have different times, and a time may be set: signs of life are counted, and waits are monotonic."""
    for module in (lease, holds):
        names = {node.attr for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Attribute)}
        assert not names & {"time", "time_ns", "now", "utcnow", "st_mtime", "st_mtime_ns", "st_ctime", "mtime_ns"}
