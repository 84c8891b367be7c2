"""One driver a directory: who works there says so, and keeps the others out until it ends, however it ends.

On a disk that is a lock of the operating system, which goes with its process. An object store has none, nor have some shared
disks: there the driver renews a small file, and whoever comes waits to see whether it is renewed. A driver that was killed
is taken over from, one that lives is left alone.

Each driver takes the next turn, and signs that turn's file: one that is suspended while it writes its sign, and wakes up when
another has taken over, does not write over the other's. Of two that come in the same moment, and sign the same file, the one
whose sign is gone stops. The last file stays, so that no turn comes again.
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

from stj.errors import ArtifactError, StjError, Stopped
from stj.storage.folder import Folder, out_of_space_told

_NAME = "driver.lock"
_SIGN = "driver-{:06d}.lock"
_A_SIGN = re.compile(r"driver-(\d+)\.lock")
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
    turn = _wait_for_a_sign_of_life(folder) + 1
    ended, lost = threading.Event(), threading.Event()
    beat = threading.Thread(target=_beat, args=(folder, turn, me, ended, lost), name="lease", daemon=True)
    _sign(folder, turn, f"{me}, sign of life 0")
    with suppress(StjError, OSError):  # a file that somebody else has just deleted
        for earlier in _turns(folder):
            if earlier < turn:
                folder.delete(_SIGN.format(earlier))
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
        with suppress(StjError, OSError):  # without it the next driver waits, as after a kill
            last, sign = _last(folder)
            if last == turn and sign.startswith(me):
                _sign(folder, turn, "")


def _wait_for_a_sign_of_life(folder: Folder) -> int:
    """The turn of the last driver, which has ended or counts as dead; raises ArtifactError where it lives."""
    found = _last(folder)
    deadline = time.monotonic() + _MISSED * _BEAT_S
    while found[1] and time.monotonic() < deadline:
        time.sleep(_BEAT_S / 2)
        now = _last(folder)
        if now[1] and now != found:
            raise _busy(folder, now[1])
        found = now
    return found[0]


def _beat(folder: Folder, turn: int, me: str, ended: threading.Event, lost: threading.Event) -> None:
    """Renews the sign until the work has ended; where another has taken over, stops the work."""
    number = 0
    while not ended.wait(_BEAT_S):
        with suppress(StjError, OSError):  # a store that is away for a moment; the next beat may reach it
            last, sign = _last(folder)
            if last > turn or (last == turn and not sign.startswith(me)):
                lost.set()
                _stop_the_work(ended)
                return
            number += 1
            _sign(folder, turn, f"{me}, sign of life {number}")


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


def _sign(folder: Folder, turn: int, sign: str) -> None:
    folder.write(_SIGN.format(turn), sign.encode())


def _turns(folder: Folder) -> list[int]:
    return sorted(int(found[1]) for found in map(_A_SIGN.fullmatch, folder.names()) if found)


def _last(folder: Folder) -> tuple[int, str]:
    """The last turn and what its driver signed with: nothing where it has ended; turn 0 where nobody was here yet."""
    turns = _turns(folder)
    return (turns[-1], folder.read(_SIGN.format(turns[-1])).decode()) if turns else (0, "")


def _busy(folder: Folder, other: str) -> ArtifactError:
    return ArtifactError(
        f"{folder.uri}: another driver is at work there ({other}). Wait for it, stop it, or choose another run_root"
    )
