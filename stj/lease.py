"""One driver a directory: who works there says so, and keeps the others out until it ends, however it ends.

On a disk that is a lock of the operating system, which goes with its process. An object store has none, nor have some shared
disks: there the driver renews a small file, and whoever comes waits to see whether it is renewed. A driver that was killed
is taken over from, one that lives is left alone.
"""

import fcntl
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stj.errors import ArtifactError, StjError, Stopped
from stj.storage import Folder, out_of_space_told

_NAME = "driver.lock"
_BEAT_S = 15.0
_MISSED = 4  # beats without a sign of life, after which a driver counts as dead


@contextmanager
def sole_driver(folder: Folder) -> Iterator[None]:
    """Keeps other drivers out of a directory for as long as this one works there.

    Raises ArtifactError, which names the other one, where there is one, or where one has come to think this one dead.
    """
    me = f"process {os.getpid()} on {socket.gethostname()}"
    directory = folder.local
    if directory and _has_locks(folder, directory):
        with _locked(folder, directory, me):
            yield
    else:
        with _renewed(folder, f"{me}, {uuid.uuid4().hex[:8]}"):
            yield


def _has_locks(folder: Folder, directory: Path) -> bool:
    """Whether the file system has locks: some that clusters share, and mounted object stores, have none."""
    with out_of_space_told(folder.uri):
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / _NAME).open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError:
            return False
    return True


@contextmanager
def _locked(folder: Folder, directory: Path, me: str) -> Iterator[None]:
    with (directory / _NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _busy(folder, file.read()) from None
        file.truncate(0)
        file.write(me)
        file.flush()
        yield


@contextmanager
def _renewed(folder: Folder, me: str) -> Iterator[None]:
    _wait_for_a_sign_of_life(folder)
    ended, lost = threading.Event(), threading.Event()
    beat = threading.Thread(target=_beat, args=(folder, me, ended, lost), name="lease", daemon=True)
    _sign(folder, me, 0)
    beat.start()
    try:
        yield
    except (KeyboardInterrupt, SystemExit, Stopped):
        if lost.is_set():
            raise _busy(folder, _signed(folder)) from None
        raise
    finally:
        ended.set()
        beat.join()
        if not lost.is_set():
            folder.delete(_NAME)


def _wait_for_a_sign_of_life(folder: Folder) -> None:
    found = _signed(folder)
    deadline = time.monotonic() + _MISSED * _BEAT_S
    while found and time.monotonic() < deadline:
        time.sleep(_BEAT_S / 2)
        now = _signed(folder)
        if now and now != found:
            raise _busy(folder, now)
        found = now


def _beat(folder: Folder, me: str, ended: threading.Event, lost: threading.Event) -> None:
    """Renews the file until the work has ended; where another has signed it, stops the work."""
    number = 0
    while not ended.wait(_BEAT_S):
        with suppress(StjError, OSError):  # a store that is away for a moment; the next beat may reach it
            if not _signed(folder).startswith(me):
                lost.set()
                _stop_the_work(ended)
                return
            number += 1
            _sign(folder, me, number)


def _stop_the_work(ended: threading.Event) -> None:
    """Interrupts the main thread, as Ctrl-C does; in the background, where that is not heard, as a job's stop does.

    A training that is told to stop puts another handler in the place of its own and asks its ranks for a checkpoint; there is
    no time for one here, so it is told again. Other work is not: it is on its way out.
    """
    main = threading.main_thread().ident
    assert main is not None
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.pthread_kill(main, signal.SIGINT)
        return
    handler = signal.getsignal(signal.SIGTERM)
    signal.pthread_kill(main, signal.SIGTERM)
    if not ended.wait(_BEAT_S) and signal.getsignal(signal.SIGTERM) != handler:
        signal.pthread_kill(main, signal.SIGTERM)


def _sign(folder: Folder, me: str, number: int) -> None:
    folder.write(_NAME, f"{me}, sign of life {number}".encode())


def _signed(folder: Folder) -> str:
    return folder.read(_NAME).decode() if folder.exists(_NAME) else ""


def _busy(folder: Folder, other: str) -> ArtifactError:
    return ArtifactError(
        f"{folder.uri}: another driver is at work there ({other}). Wait for it, stop it, or choose another run_root"
    )
