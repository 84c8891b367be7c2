"""Who is told to stop does what there is time for: decided by rank 0, asked for by the driver's SIGTERM."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stj.errors import Stopped
from stj.storage.folder import Folder
from stj.train.committed import Checkpoint
from stj.train.notice import Notice, Order, Watch, asked_to_stop, asking_to_stop, stop_notice, stopped


def checkpoint(step: int, seconds: float) -> Checkpoint:
    return Checkpoint(fingerprint="mine", step=step, epoch=0, samples=step, world_size=2, files={}, seconds=seconds)


def order(end: bool, left_s: float, done: int, last: Checkpoint | None) -> Order:
    notice = Notice(time.time() + left_s, end)
    return Watch(lambda: notice).order(done, last)


def test_without_a_notice_training_goes_on() -> None:
    assert Watch(lambda: None).order(7, None) == Order()


def test_a_checkpoint_is_made_where_one_as_long_as_the_last_fits_the_notice() -> None:
    last = checkpoint(step=100, seconds=30)
    assert order(True, 60, 107, last) == Order(save=True, end=True)
    assert order(True, 20, 107, last) == Order(save=False, end=True)
    assert order(False, 60, 107, last) == Order(save=True, end=False)
    assert order(False, 20, 107, last) == Order()


def test_what_is_saved_is_not_saved_again_and_what_never_was_is_tried() -> None:
    assert order(True, 60, 100, checkpoint(step=100, seconds=1)) == Order(end=True)
    assert order(True, 60, 0, None) == Order(end=True)
    assert order(True, 5, 7, None) == Order(save=True, end=True)
    assert order(True, -1, 7, None) == Order(end=True)


def test_a_machine_that_goes_is_answered_with_one_checkpoint_and_another_one_with_another() -> None:
    notices = [Notice(math.inf, end=False)] * 2 + [Notice(time.time() + 60, end=False)] * 2
    watch = Watch(iter(notices).__next__)
    last = checkpoint(step=1, seconds=0)
    assert [watch.order(step, last).save for step in (2, 3, 4, 5)] == [True, False, True, False]


def test_the_message_says_where_it_goes_on() -> None:
    assert "after step 7 of 9. Run the same command again to go on from its checkpoint after step 6" in str(
        stopped(7, 9, checkpoint(step=6, seconds=1))
    )
    assert "go on from the beginning" in str(stopped(0, 9, None))


def test_only_what_this_driver_was_told_is_heeded(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert asked_to_stop(folder, "mine")() is None
    folder.write("stop.json", json.dumps({"run": "another", "by": 5.0}).encode())
    assert asked_to_stop(folder, "mine")() is None
    assert asked_to_stop(folder, "another")() == Notice(5.0, end=True)


def test_the_notice_is_as_configured_or_as_ray_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    assert stop_notice(None) == 30
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "120")
    assert stop_notice(None) == 120
    assert stop_notice(5) == 5


@pytest.fixture
def handlers() -> Iterator[None]:
    """Leaves the handlers of signals as they were found, whatever a test does to them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def tell() -> None:
    """A SIGTERM to this process, in a moment."""
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()


def tell_again(asked: Path) -> None:
    deadline = time.monotonic() + 60
    while not asked.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    tell()


def be_told(folder: Path, notice_s: float, times: int = 1, work: Callable[[], None] = lambda: time.sleep(600)) -> None:
    """A driver whose ranks work, and which is told to stop in a moment; again when it has asked them."""
    with asking_to_stop(Folder.at(folder), "mine", notice_s):
        if times:
            tell()
        if times == 2:
            threading.Thread(target=tell_again, args=(folder / "stop.json",)).start()
        work()


@pytest.mark.usefixtures("handlers")
def test_sigterm_asks_and_lets_the_ranks_end_by_themselves(tmp_path: Path) -> None:
    heard: list[Notice] = []
    look = asked_to_stop(Folder.at(tmp_path), "mine")

    def ranks() -> None:
        while (notice := look()) is None:
            time.sleep(0.05)
        heard.append(notice)

    with pytest.raises(Stopped, match="was finished before"):
        be_told(tmp_path, 60, work=ranks)
    assert 0 < heard[0].by - time.time() < 60


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(("notice_s", "times"), [(2.2, 1), (600, 2)], ids=["time is up", "told twice"])
def test_ranks_that_do_not_end_are_not_waited_for(notice_s: float, times: int, tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="not done in time"):
        be_told(tmp_path, notice_s, times)


@pytest.mark.usefixtures("handlers")
def test_where_the_ranks_cannot_be_asked_it_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Stopped, match="not done in time"):
        be_told(tmp_path / "file", 600)


@pytest.mark.usefixtures("handlers")
def test_ctrl_c_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        be_told(tmp_path, 600, 0, work=lambda: signal.raise_signal(signal.SIGINT))
