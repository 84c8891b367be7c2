"""The lease of a directory: one driver works there, and keeps other drivers out until it ends, however it ends.

On a disk the lease is a lock of the operating system, which ends with its process. Object stores and some shared disks have no
locks. There the driver renews a small file, its sign of life. A second driver waits to see whether the sign changes. If it
does, the first driver lives and the second is refused. If not, the first is dead and the second takes over.

Each driver takes the next turn and signs that turn's file, driver-000042.lock. So a driver that was suspended while it signed
cannot overwrite the sign of a driver that took over. If two drivers start at the same moment, they sign the same file, and
the one whose sign was overwritten stops. The last file stays, so that no turn number is used twice.
"""

import fcntl
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from stj.errors import ArtifactError, StjError, Stopped
from stj.storage.folder import Folder, explain_write_failure

_LOCK_FILE = "driver.lock"
_SIGN_FILE = "driver-{:06d}.lock"
_SIGN_FILE_PATTERN = re.compile(r"driver-(\d+)\.lock")
_BEAT_S = 15.0  # The time between two signs of life, in seconds.
_MISSED = 4  # A driver counts as dead after this many beats without a sign of life.
_LOOKS, _LOOK_S = 5, 0.02  # Try so often, so far apart: who only looks holds a lock for microseconds.


@contextmanager
def sole_driver(folder: Folder) -> Iterator[None]:
    """Keeps other drivers out of a directory while this driver works there.

    Raises ArtifactError, which names the other driver, if one works there already, or if one takes over.
    """
    driver = f"process {os.getpid()} on {socket.gethostname()}"
    directory = folder.local
    if directory and _has_locks(folder, directory):
        with _locked(folder, directory, driver):
            yield
    else:
        with _renewed(folder, f"{driver}, {uuid.uuid4().hex[:8]}"):
            yield


class Driver(NamedTuple):
    """A driver, as its lease names it."""

    name: str
    alive: bool
    """Whether it is at work for certain. Without locks a driver that was killed looks like one that works, until the next one
    has waited for its sign of life."""


def driver_at(folder: Folder) -> Driver | None:
    """The driver that is at work in a directory; None if there is none. Takes no lease, and does not wait."""
    lock = folder.local / _LOCK_FILE if folder.local else None
    if lock and lock.exists():
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Driver(_text(file.read()) or "its lock names none", alive=True)
            except OSError:  # a disk without locks
                pass
            else:
                return None
    _, sign = _last(folder)
    return Driver(sign, alive=False) if sign else None


def _has_locks(folder: Folder, directory: Path) -> bool:
    """Whether the file system has locks: some shared disks of clusters, and mounted object stores, have none."""
    with explain_write_failure(folder.uri):
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / _LOCK_FILE).open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError:
            return False
    return True


@contextmanager
def _locked(folder: Folder, directory: Path, driver: str) -> Iterator[None]:
    with (directory / _LOCK_FILE).open("ab+", buffering=0) as file:
        try:
            _lock_soon(file)
        except BlockingIOError:
            file.seek(0)
            raise _busy(folder, _text(file.read())) from None
        with explain_write_failure(folder.uri):
            file.truncate(0)
            file.write(driver.encode())
        yield


def _lock_soon(file: IO[bytes]) -> None:
    """Locks a file. Raises BlockingIOError if it is held for longer than `driver_at` takes to look."""
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOOK_S)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _renewed(folder: Folder, driver: str) -> Iterator[None]:
    turn = _wait_for_a_sign_of_life(folder) + 1
    ended, lost = threading.Event(), threading.Event()
    beat = threading.Thread(target=_beat, args=(folder, turn, driver, ended, lost), name="lease", daemon=True)
    _sign(folder, turn, f"{driver}, sign of life 0")
    with suppress(StjError, OSError):  # another driver may have deleted the file a moment ago
        for earlier in _turns(folder):
            if earlier < turn:
                folder.delete(_SIGN_FILE.format(earlier))
    beat.start()
    try:
        yield
    except (KeyboardInterrupt, SystemExit, Stopped):
        if lost.is_set():
            raise _busy(folder, _last(folder)[1] or "and has ended by now") from None
        raise
    finally:
        ended.set()
        beat.join()
        with suppress(StjError, OSError):  # if this fails, the next driver waits, as after a kill
            last, sign = _last(folder)
            if last == turn and sign.startswith(driver):
                _sign(folder, turn, "")


def _wait_for_a_sign_of_life(folder: Folder) -> int:
    """The turn of the last driver, which has ended or counts as dead. Raises ArtifactError if that driver lives."""
    turn, sign = _last(folder)
    deadline = time.monotonic() + _MISSED * _BEAT_S
    while sign and time.monotonic() < deadline:
        time.sleep(_BEAT_S / 2)
        latest_turn, latest_sign = _last(folder)
        if latest_sign and (latest_turn, latest_sign) != (turn, sign):
            raise _busy(folder, latest_sign)
        turn, sign = latest_turn, latest_sign
    return turn


def _beat(folder: Folder, turn: int, driver: str, ended: threading.Event, lost: threading.Event) -> None:
    """Renews the sign until the work ends; stops the work if another driver has taken over."""
    number = 0
    while not ended.wait(_BEAT_S):
        with suppress(StjError, OSError):  # the store may be unreachable for a moment; the next beat may reach it
            last, sign = _last(folder)
            if last > turn or (last == turn and not sign.startswith(driver)):
                lost.set()
                _stop_the_work(ended)
                return
            number += 1
            _sign(folder, turn, f"{driver}, sign of life {number}")


def _stop_the_work(ended: threading.Event) -> None:
    """Interrupts the main thread with SIGINT, as Ctrl-C does; with SIGTERM if the process ignores SIGINT.

    A process in the background may ignore SIGINT. A training answers the first SIGTERM with a new handler and asks its ranks
    for a checkpoint. There is no time for a checkpoint here, so it gets a second SIGTERM. Other work gets only one, because
    it is stopping already.
    """
    main = threading.main_thread().ident
    assert main is not None
    if callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(main, signal.SIGINT)
        return
    handler = signal.getsignal(signal.SIGTERM)
    signal.pthread_kill(main, signal.SIGTERM)
    if not ended.wait(_BEAT_S) and signal.getsignal(signal.SIGTERM) != handler:
        signal.pthread_kill(main, signal.SIGTERM)


def _sign(folder: Folder, turn: int, sign: str) -> None:
    folder.write(_SIGN_FILE.format(turn), sign.encode())


def _turns(folder: Folder) -> list[int]:
    return sorted(int(match[1]) for match in map(_SIGN_FILE_PATTERN.fullmatch, folder.names()) if match)


def _last(folder: Folder) -> tuple[int, str]:
    """The last turn and its driver's sign, which is empty if that driver has ended; turn 0 if no driver was here yet."""
    turns = _turns(folder)
    return (turns[-1], _text(folder.read(_SIGN_FILE.format(turns[-1])))) if turns else (0, "")


def _text(content: bytes) -> str:
    """What a driver wrote of itself; a damaged sign is one all the same."""
    return content.decode(errors="replace")


def _busy(folder: Folder, other: str) -> ArtifactError:
    name = other or "its lock names none"
    return ArtifactError(
        f"{folder.uri}: another driver is at work there ({name}). Wait for it, stop it, or choose another run_root"
    )
