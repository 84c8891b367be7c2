"""Notices that a training must stop, or will lose a machine, and what follows: training ends, or continues, with a checkpoint.

The driver writes a small file beside the checkpoints, which works on a disk and in an object store. Rank 0 looks for it between
two steps. No thread of ours waits for it: a thread that is in Ray while Ray shuts down can end the process.
"""

import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from stj.config import in_ray_job
from stj.errors import StjError, Stopped
from stj.storage.folder import Folder
from stj.train.committed import Checkpoint

log = logging.getLogger(__name__)

_FILE = "stop.json"
_RAYS_NOTICE = "RAY_JOB_STOP_WAIT_TIME_S"
_LOOK_S = 1.0  # Looks at most this often: a look at an object store takes some 50 ms.
_LEAVING_S = 2.0  # Seconds of a notice held in reserve: the driver must see its ranks end, and end itself.
_AGAIN = "Run the same command again to resume from"


@dataclass(frozen=True)
class Notice:
    """An announcement that the run, or a machine, will soon be gone."""

    by: float
    """When it is gone, in seconds since 1970; infinite if nobody knows."""
    end: bool
    """Whether training ends. If not, it continues, and restarts on other machines when these are gone."""


PollNotice = Callable[[], Notice | None]
"""Returns the notice that holds now, if there is one; must be quick, since rank 0 calls it before each step."""


@dataclass(frozen=True)
class RankAction:
    """What all ranks do before the next step."""

    save: bool = False
    end: bool = False


class NoticeHandler:
    """Decides on rank 0 what follows from a notice."""

    def __init__(self, poll_notice: PollNotice) -> None:
        self._poll_notice = poll_notice
        self._handled: Notice | None = None

    def next_action(self, done: int, last: Checkpoint | None, *, writing: bool) -> RankAction:
        """A checkpoint of the steps that are done, once a notice, if they are not saved yet and there is time for it.

        The last whole checkpoint shows how long it takes; the first one is tried in any case. If one is still being written,
        there must be time for both.
        """
        notice = self._poll_notice()
        if notice is None or notice == self._handled:
            return RankAction()
        self._handled = notice
        unsaved, seconds = (done > last.step, last.seconds) if last else (done > 0, 0.0)
        seconds, left = seconds * (1 + writing), notice.by - time.time()
        if unsaved and seconds >= left:
            log.warning("no checkpoint: it takes about %.0f s, and there are %.0f s left", seconds, left)
        return RankAction(save=unsaved and seconds < left, end=notice.end)


def stopped(done: int, steps: int, last: Checkpoint | None) -> Stopped:
    """The error that ends a training before its last step."""
    kept = f"its checkpoint after step {last.step}" if last else "the beginning"
    return Stopped(f"stopped after step {done} of {steps}. {_AGAIN} {kept}")


def stop_notice(configured: float | None) -> float:
    """Seconds between SIGTERM and the kill: as configured, else the wait of Ray's job supervisor (3 by default), else 30."""
    return configured if configured is not None else float(os.environ.get(_RAYS_NOTICE, "3" if in_ray_job() else "30"))


def stop_poll(checkpoints: Folder, run: str) -> PollNotice:
    """Looks, at most once a second, whether the driver of this run has asked its ranks to stop."""
    notice: Notice | None = None
    looked = -math.inf

    def poll() -> Notice | None:
        nonlocal notice, looked
        if notice is None and time.monotonic() - looked >= _LOOK_S:
            looked = time.monotonic()
            with suppress(StjError, OSError):  # an unreachable store; the next look may reach it
                request = json.loads(checkpoints.read(_FILE)) if checkpoints.exists(_FILE) else {}
                if request.get("run") == run:  # not one that an earlier driver left
                    notice = Notice(time.time() + request["seconds"], end=True)  # the driver's machine may have another time
        return notice

    return poll


@contextmanager
def asking_to_stop(checkpoints: Folder, run: str, notice_s: float) -> Iterator[None]:
    """Makes SIGTERM ask the ranks to stop. A second SIGTERM, or the end of the notice, ends the wait for them at once.

    Raises Stopped at the end if SIGTERM came.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    asked = False

    def at_once(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # the only exception that Ray lets through while it waits

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        log.warning("stopping: the ranks are asked for a checkpoint, and have %g s", notice_s)
        left = max(0.1, notice_s - _LEAVING_S)
        signal.signal(signal.SIGTERM, at_once)
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            checkpoints.write(_FILE, json.dumps({"run": run, "seconds": left}).encode())
        except (StjError, OSError):
            at_once(signum, frame)

    before = signal.signal(signal.SIGTERM, ask), signal.signal(signal.SIGALRM, at_once)
    try:
        yield
    except KeyboardInterrupt:
        if asked:
            raise Stopped(f"stopped, and the ranks did not finish in time. {_AGAIN} the last checkpoint") from None
        raise
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
    if asked:
        raise Stopped(f"stopped; the model had been finished before. {_AGAIN} there")
