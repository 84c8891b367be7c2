"""A training that must stop does what it has time for: rank 0 decides, after the driver's SIGTERM."""

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
from stj.train.notice import Notice, NoticeHandler, RankAction, asking_to_stop, stop_notice, stop_poll, stopped
from tests.waiting import wait_for_a_signal


def checkpoint(step: int, seconds: float) -> Checkpoint:
    return Checkpoint(fingerprint="mine", step=step, epoch=0, samples=step, world_size=2, files={}, seconds=seconds)


def action(end: bool, left_s: float, done: int, last: Checkpoint | None, *, writing: bool = False) -> RankAction:
    notice = Notice(time.time() + left_s, end)
    return NoticeHandler(lambda: notice).next_action(done, last, writing=writing)


def test_without_a_notice_training_continues() -> None:
    assert NoticeHandler(lambda: None).next_action(7, None, writing=False) == RankAction()


def test_a_checkpoint_is_made_if_one_as_long_as_the_last_fits_the_notice() -> None:
    last = checkpoint(step=100, seconds=30)
    assert action(True, 60, 107, last) == RankAction(save=True, end=True)
    assert action(True, 20, 107, last) == RankAction(save=False, end=True)
    assert action(False, 60, 107, last) == RankAction(save=True, end=False)
    assert action(False, 20, 107, last) == RankAction()


def test_if_another_checkpoint_is_being_written_there_must_be_time_for_both() -> None:
    last = checkpoint(step=100, seconds=30)
    assert action(True, 70, 207, last, writing=True) == RankAction(save=True, end=True)
    assert action(True, 50, 207, last, writing=True) == RankAction(save=False, end=True)
    assert action(True, 50, 207, last) == RankAction(save=True, end=True)


def test_what_is_saved_is_not_saved_again_and_what_never_was_is_tried() -> None:
    assert action(True, 60, 100, checkpoint(step=100, seconds=1)) == RankAction(end=True)
    assert action(True, 60, 0, None) == RankAction(end=True)
    assert action(True, 5, 7, None) == RankAction(save=True, end=True)
    assert action(True, -1, 7, None) == RankAction(end=True)


def test_each_machine_that_goes_is_answered_with_one_checkpoint() -> None:
    notices = [Notice(math.inf, end=False)] * 2 + [Notice(time.time() + 60, end=False)] * 2
    handler = NoticeHandler(iter(notices).__next__)
    last = checkpoint(step=1, seconds=0)
    assert [handler.next_action(step, last, writing=False).save for step in (2, 3, 4, 5)] == [True, False, True, False]


def test_the_message_says_where_training_resumes() -> None:
    assert "stopped after step 7 of 9. Run the same command again to resume from its checkpoint after step 6" in str(
        stopped(7, 9, checkpoint(step=6, seconds=1))
    )
    assert "resume from the beginning" in str(stopped(0, 9, None))


def test_ranks_ignore_what_another_driver_was_asked(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    assert stop_poll(folder, "mine")() is None
    folder.write("stop.json", json.dumps({"run": "another", "seconds": 5.0}).encode())
    assert stop_poll(folder, "mine")() is None
    notice = stop_poll(folder, "another")()
    assert notice is not None
    assert notice.end
    assert 0 < notice.by - time.time() <= 5, "the time of this machine counts, whatever that of the driver's is"


def test_the_notice_is_as_configured_or_as_ray_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    assert stop_notice(None) == 30
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "120")
    assert stop_notice(None) == 120
    assert stop_notice(5) == 5


@pytest.fixture
def handlers() -> Iterator[None]:
    """Checks that a test leaves the handlers of signals as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def terminate_soon() -> None:
    """Sends SIGTERM to this process, in a moment."""
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()


def terminate_again(asked: Path) -> None:
    deadline = time.monotonic() + 60
    while not asked.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    terminate_soon()


def drive(folder: Path, notice_s: float, signals: int = 1, work: Callable[[], None] = wait_for_a_signal) -> None:
    """A driver with working ranks that soon gets SIGTERM, and a second one after it has asked the ranks to stop."""
    with asking_to_stop(Folder.at(folder), "mine", notice_s):
        if signals:
            terminate_soon()
        if signals == 2:
            threading.Thread(target=terminate_again, args=(folder / "stop.json",)).start()
        work()


@pytest.mark.usefixtures("handlers")
def test_sigterm_asks_the_ranks_and_waits_for_their_end(tmp_path: Path) -> None:
    notices: list[Notice] = []
    poll = stop_poll(Folder.at(tmp_path), "mine")

    def ranks() -> None:
        while (notice := poll()) is None:
            time.sleep(0.05)
        notices.append(notice)

    with pytest.raises(Stopped, match="had been finished before"):
        drive(tmp_path, 60, work=ranks)
    assert 0 < notices[0].by - time.time() < 60


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(("notice_s", "signals"), [(2.2, 1), (600, 2)], ids=["time is up", "second signal"])
def test_ranks_that_do_not_end_are_not_waited_for(notice_s: float, signals: int, tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="did not finish in time"):
        drive(tmp_path, notice_s, signals)


@pytest.mark.usefixtures("handlers")
def test_if_the_ranks_cannot_be_asked_it_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Stopped, match="did not finish in time"):
        drive(tmp_path / "file", 600)


@pytest.mark.usefixtures("handlers", "ctrl_c")
def test_ctrl_c_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        drive(tmp_path, 600, 0, work=lambda: signal.raise_signal(signal.SIGINT))


@pytest.mark.usefixtures("handlers", "ctrl_c")
def test_a_process_that_ignores_ctrl_c_still_does(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts a script's background processes
    drive(tmp_path, 600, 0, work=lambda: signal.raise_signal(signal.SIGINT))
