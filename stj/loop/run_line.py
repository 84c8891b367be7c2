"""The live line of a run: its phase, and beside it how far the run is; and what the driver does between phases."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from stj.errors import StjError
from stj.loop.board import Board
from stj.loop.outlook import Outlook
from stj.loop.phase import Phase
from stj.storage.folder import Folder
from stj.text import LiveLine, Part, Parts, Show, Table, so_far

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_FIRST_LOG_S = 2.0  # A log says nothing of what takes less.
_LOG_EVERY_S = 20.0  # Seconds between two lines in a log, as between two commits of a pass.


class RunLine(LiveLine):
    """A live line that adds the outlook of the run, and gives all of it to the board."""

    def __init__(self, outlook: Outlook, board: Board) -> None:
        super().__init__()
        self._outlook = outlook
        self._board = board

    def whole(self, parts: Parts, eta_s: float | None = None, dollars: float | None = None) -> Parts:
        """These parts of a phase, the phases left, what the run costs, and the time to its end."""
        whole = [*parts, *self._outlook.parts(eta_s, dollars)]
        self._board.show(whole)
        return whole


class ShownRun:
    """What a driver shows of its run, on the terminal and on the board."""

    def __init__(self, outlook: Outlook, board: Board) -> None:
        self._outlook = outlook
        self._board = board
        self._line = RunLine(outlook, board)

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[RunLine]:
        """Gives the line of a phase while it runs."""
        self._outlook.begin(phase)
        yield self._line
        self._outlook.end(phase)

    def doing(self, activity: str) -> AbstractContextManager[None]:
        """Shows what happens before the first phase."""
        return doing(activity, self._line)

    def also(self, print_line: Show) -> Show:
        """Prints, and puts lines on the board too; its tables are in the report."""

        def print_and_say(item: str | Table) -> None:
            print_line(item)
            if isinstance(item, str):
                self._board.say(item)

        return print_and_say


@contextmanager
def shown_run(folder: Folder, outlook: Outlook) -> Iterator[ShownRun]:
    """Shows a run while it is driven from here; the board says at the end how it ended."""
    board = Board(folder)
    how = "stopped"
    try:
        yield ShownRun(outlook, board)
        how = "done"
    except StjError as error:
        how = f"failed: {error}"
        raise
    except Exception as error:
        how = f"failed: {type(error).__name__}"
        raise
    finally:
        board.end(how)


@contextmanager
def doing(activity: str, line: LiveLine | None = None) -> Iterator[None]:
    """Shows what happens now, and for how long already: each second on a terminal, after 2 s and every 20 s in a log."""
    line = line or LiveLine()
    ended = threading.Event()
    thread = threading.Thread(target=_show_time, args=(activity, line, ended), name="activity", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        line.clear()


def _show_time(activity: str, line: LiveLine, ended: threading.Event) -> None:
    began = time.monotonic()
    log_at = began + _FIRST_LOG_S
    while not ended.wait(_LOOK_S):
        now = time.monotonic()
        words = so_far(activity, now - began)
        line.show(line.whole([Part(words)]))
        if not line.live and now >= log_at:
            log.info("%s", words)
            log_at = now + _LOG_EVERY_S
