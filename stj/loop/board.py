"""What a driver shows, in a file of its run: `stj watch` reads it from any machine.

    progress.json   the line of the phase that runs, the lines of those that are done, a beat, and how the run ended

It is written when the line has changed, at most every 2 s on a disk and every 20 s in an object store, and every 15 s anyway as
a sign of life. A store that does not answer for a moment is no reason to stop a run: the file is left out.
"""

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from stj.errors import ArtifactError, StjError
from stj.storage.folder import Folder
from stj.storage.sealed import read_sealed, write_sealed
from stj.text import Part, Parts

BOARD = "progress.json"
BEAT_S = 15.0
_LOOK_S = 0.5
_LEAST_S, _LEAST_IN_STORE_S = 2.0, 20.0  # Seconds between two writes; each takes some 100 ms in a store.


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a driver shows now."""

    host: str
    process: int
    began: float
    """When the driver started, in seconds since 1970; with host and process it names one driver."""
    beat: int = 0
    """Rises as long as the driver lives."""
    line: tuple[Part, ...] = ()
    """The line of the phase that runs."""
    said: tuple[str, ...] = ()
    """What the driver has printed of its phases so far."""
    ended: str | None = None
    """How the run ended; None while it runs."""

    @property
    def driver(self) -> str:
        """The driver in words."""
        return f"process {self.process} on {self.host}"


class Board:
    """Writes what this driver shows, from a thread of its own: the phases never wait for a store."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._least_s = _LEAST_S if folder.local else _LEAST_IN_STORE_S
        self._driver: dict[str, Any] = {"host": socket.gethostname(), "process": os.getpid(), "began": time.time()}
        self._line: Sequence[Part] = ()
        self._said: list[str] = []
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._beat = 0
        self._ended: str | None = None
        self._write()
        self._thread = threading.Thread(target=self._write_changes, name="board", daemon=True)
        self._thread.start()

    def show(self, parts: Parts) -> None:
        """Takes the line of the phase that runs."""
        self._line = tuple(parts)
        self._changed.set()

    def say(self, line: str) -> None:
        """Takes a line that stays."""
        self._said.append(line)
        self._changed.set()

    def end(self, how: str) -> None:
        """Writes how the run ended."""
        self._closed.set()
        self._thread.join(BEAT_S)
        self._ended = how
        self._write()

    def _write_changes(self) -> None:
        written = time.monotonic()
        while not self._closed.wait(_LOOK_S):
            since = time.monotonic() - written
            if since >= BEAT_S or (self._changed.is_set() and since >= self._least_s):
                self._changed.clear()
                self._write()
                written = time.monotonic()

    def _write(self) -> None:
        self._beat += 1
        shown = Shown(**self._driver, beat=self._beat, line=tuple(self._line), said=tuple(self._said), ended=self._ended)
        with suppress(StjError, OSError):
            write_sealed(self._folder, BOARD, asdict(shown))


def read_board(folder: Folder) -> Shown | None:
    """What the last driver of a run shows; None if none has written it. Raises ArtifactError if the file is damaged."""
    if not folder.exists(BOARD):
        return None
    fields = ("host", "process", "began", "beat", "line", "said", "ended")
    remedy = "if the run goes on, it is written anew within seconds"
    record = read_sealed(folder, BOARD, remedy, fields=fields)
    try:
        return Shown(
            **{
                **{name: record[name] for name in fields},
                "line": tuple(Part(str(text), int(priority), str(before)) for text, priority, before in record["line"]),
                "said": tuple(map(str, record["said"])),
            }
        )
    except (TypeError, ValueError):
        raise ArtifactError(f"{(folder / BOARD).uri}: damaged: it holds no line of a driver; {remedy}") from None
