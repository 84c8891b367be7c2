"""`stj watch`: shows a run that another process drives, perhaps on another machine. It reads one file of the run, and writes
nothing."""

import logging
import os
import socket
import time
from dataclasses import dataclass, field

from stj.errors import ArtifactError, NoArtifact
from stj.loop.board import BEAT_S, BOARD, Shown, read_board
from stj.loop.status import RUN_CONFIG
from stj.storage.folder import Folder
from stj.text import LiveLine, Show, line_of

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_IN_STORE_S = 5.0
_LOG_EVERY_S = 20.0
_SILENT_S = 4 * BEAT_S
"""A driver without a sign of life for so long counts as dead, as for other drivers (stj/storage/lease.py)."""
_DAMAGED_S = 30.0  # Something else than a driver wrote it: a driver would have written it anew.


@dataclass(kw_only=True)
class _Watch:
    """What was shown of one driver."""

    began: float | None = None
    said: int = 0
    beat: int = -1
    beat_at: float = field(default_factory=time.monotonic)


def watch_run(folder: Folder, print_line: Show) -> None:
    """Shows a run until it ends: its line, live on a terminal, else every 20 s, and what its driver prints.

    Raises NoArtifact if no driver has worked there, and ArtifactError if the run has failed or its driver is dead.
    """
    line, watch = LiveLine(), _Watch()
    logged_at, logged, read_at = -_LOG_EVERY_S, "", time.monotonic()
    try:
        while True:
            try:
                shown = _read(folder)
            except ArtifactError as error:
                if isinstance(error, NoArtifact) or time.monotonic() - read_at > _DAMAGED_S:
                    raise
                time.sleep(_LOOK_S)
                continue
            read_at = time.monotonic()
            line.clear()
            _say(shown, watch, print_line)
            if shown.ended is not None:
                return _end(folder, shown, print_line)
            if why := _why_dead(shown, watch):
                last = f"; its last line: {line_of(shown.line)}" if shown.line else ""
                raise ArtifactError(f"{folder.uri}: the driver is dead ({why}){last}. Run the same command again to resume")
            line.show(shown.line)
            words = line_of(shown.line)
            if not line.live and words != logged and read_at - logged_at >= _LOG_EVERY_S:
                log.info("%s", words)
                logged, logged_at = words, read_at
            time.sleep(_LOOK_S if folder.local else _LOOK_IN_STORE_S)
    finally:
        line.clear()


def _read(folder: Folder) -> Shown:
    shown = read_board(folder)
    if shown is None and folder.exists(RUN_CONFIG):
        raise NoArtifact(f"{folder.uri}: its driver has left no {BOARD} to watch; `stj status {folder.uri}` shows its phases")
    if shown is None:
        raise NoArtifact(f"{folder.uri}: no run here (no {BOARD}); give the run_root of a run")
    return shown


def _say(shown: Shown, watch: _Watch, print_line: Show) -> None:
    """Prints what the driver has printed since the last look; all of it for another driver."""
    if shown.began != watch.began:
        watch.began, watch.said, watch.beat = shown.began, 0, -1
        print_line(f"driven by {shown.driver}")
    for text in shown.said[watch.said :]:
        print_line(text)
    watch.said = len(shown.said)
    if shown.beat != watch.beat:
        watch.beat, watch.beat_at = shown.beat, time.monotonic()


def _end(folder: Folder, shown: Shown, print_line: Show) -> None:
    """Says how the run ended. Raises ArtifactError if it is not done."""
    if shown.ended != "done":
        raise ArtifactError(f"{folder.uri}: the run has {shown.ended}. Run the same command again to resume")
    print_line(f"the run is done; its tables are in {(folder / 'report.html').uri}")


def _why_dead(shown: Shown, watch: _Watch) -> str:
    """Why the driver counts as dead; empty if it lives."""
    if shown.host == socket.gethostname() and not _lives(shown.process):
        return f"{shown.driver} is gone"
    silent = time.monotonic() - watch.beat_at
    return f"{shown.driver} has shown no sign of life for {silent:.0f} s" if silent > _SILENT_S else ""


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
