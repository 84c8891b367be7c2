"""Being told to stop: by the driver, or by a cluster that takes a machine away. Training ends, or goes on, with a checkpoint.

The driver writes a small file beside the checkpoints, which works on a disk and in an object store. Rank 0 looks for it between
two steps. No thread of ours waits for anything: Ray ends badly where one is left in it.
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
_LOOK_S = 1.0  # a look at an object store takes some 50 ms
_LEAVING_S = 2.0  # of a notice, for the driver: to hear that its ranks have ended, and to end
_AGAIN = "Run the same command again to go on from"


@dataclass(frozen=True)
class Notice:
    """Word that something will be gone soon."""

    by: float
    """When, in seconds since 1970; infinite where nobody knows."""
    end: bool
    """Whether training is to end. Else it goes on, and is started again on other machines when these are gone."""


@dataclass(frozen=True)
class Order:
    """What all ranks do before the next step."""

    save: bool = False
    end: bool = False


class Watch:
    """What follows from the notices that come, on rank 0."""

    def __init__(self, told: Callable[[], Notice | None]) -> None:
        self._told = told
        self._followed: Notice | None = None

    def order(self, done: int, last: Checkpoint | None) -> Order:
        """A checkpoint of the steps that are done, once a notice, where they are not saved yet and there is time for it.

        How long one takes is known from the last; where there is none, it is tried.
        """
        notice = self._told()
        if notice is None or notice == self._followed:
            return Order()
        self._followed = notice
        unsaved, seconds = (done > last.step, last.seconds) if last else (done > 0, 0.0)
        left = notice.by - time.time()
        if unsaved and seconds >= left:
            log.warning("no checkpoint: the last took %.0f s, and there are %.0f s left", seconds, left)
        return Order(save=unsaved and seconds < left, end=notice.end)


def stopped(done: int, steps: int, last: Checkpoint | None) -> Stopped:
    """What to raise where training ends before its last step."""
    kept = f"its checkpoint after step {last.step}" if last else "the beginning"
    return Stopped(f"told to stop after step {done} of {steps}. {_AGAIN} {kept}")


def stop_notice(configured: float | None) -> float:
    """Seconds between SIGTERM and the kill: as configured, or as Ray's job supervisor is told (by itself it waits 3), or 30."""
    return configured if configured is not None else float(os.environ.get(_RAYS_NOTICE, "3" if in_ray_job() else "30"))


def asked_to_stop(checkpoints: Folder, run: str) -> Callable[[], Notice | None]:
    """Looks, once a second at most, whether the driver of this run has asked its ranks to stop."""
    found: Notice | None = None
    looked = -math.inf

    def look() -> Notice | None:
        nonlocal found, looked
        if found is None and time.monotonic() - looked >= _LOOK_S:
            looked = time.monotonic()
            with suppress(StjError, OSError):  # a store that is away for a moment; the next look may reach it
                asked = json.loads(checkpoints.read(_FILE)) if checkpoints.exists(_FILE) else {}
                if asked.get("run") == run:  # and not another driver's, that was told to stop before
                    found = Notice(asked["by"], end=True)
        return found

    return look


@contextmanager
def asking_to_stop(checkpoints: Folder, run: str, notice_s: float) -> Iterator[None]:
    """Makes SIGTERM ask the ranks to stop; when it comes again, or when the notice is over, what waits for them ends at once.

    Raises Stopped in the end where SIGTERM came.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to that one alone
        yield
        return
    asked = False

    def at_once(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # Ray passes this on from where it waits, and no other

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        log.warning("told to stop: the ranks are asked for a checkpoint, and have %g s", notice_s)
        left = max(0.1, notice_s - _LEAVING_S)
        signal.signal(signal.SIGTERM, at_once)
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            checkpoints.write(_FILE, json.dumps({"run": run, "by": time.time() + left}).encode())
        except (StjError, OSError):
            at_once(signum, frame)

    before = signal.signal(signal.SIGTERM, ask), signal.signal(signal.SIGALRM, at_once)
    try:
        yield
    except KeyboardInterrupt:
        if asked:
            raise Stopped(f"told to stop, and the ranks were not done in time. {_AGAIN} the last checkpoint") from None
        raise
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
    if asked:
        raise Stopped(f"told to stop: the model was finished before. {_AGAIN} there")
