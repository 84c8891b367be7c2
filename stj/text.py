"""Text for the user: durations, and a live line on a terminal."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PrintLine = Callable[[str], None]
"""Prints one line for the user."""

CLEAR_LINE = "\r\x1b[2K"
"""Erases a live line; log lines on the same terminal start with it."""


def duration(seconds: float) -> str:
    """A duration for a reader: 2h11m, 12m, 40s."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m" if minutes else f"{seconds:.0f}s"


class LiveLine:
    """One line at the bottom of the terminal, written over in place; prints nothing if stderr is no terminal, or a dumb one.

    rich cuts the line to the terminal's width and colors it, without color under NO_COLOR. rich's own `Live` is not used: it
    hides the cursor, and a killed process would leave it hidden.
    """

    def __init__(self) -> None:
        self._console = _terminal() if sys.stderr.isatty() else None
        self._shown = False

    @property
    def live(self) -> bool:
        """Whether there is a terminal to write on."""
        return self._console is not None

    def show(self, line: str) -> None:
        """Replaces the line shown before."""
        self._write(line)

    def clear(self) -> None:
        """Removes the line, so that other text can be printed in its place."""
        if self._shown:
            self._write("")

    def _write(self, line: str) -> None:
        if self._console is None:
            return
        from rich.control import Control
        from rich.segment import ControlType

        erase = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
        try:
            with self._console:  # one write to the terminal, so that no other text comes between
                self._console.control(erase)
                self._console.print(line, end="", markup=False, emoji=False, no_wrap=True, overflow="crop")
            self._shown = bool(line)
        except OSError:  # the terminal was closed; the work continues
            self._console = None


def _terminal() -> "Console | None":
    """rich's console on stderr, None if it cannot erase a line; importing rich takes 50 ms."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None
