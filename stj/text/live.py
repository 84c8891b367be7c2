"""One line at the bottom of a terminal, which shows what happens now."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stj.text.characters import cells_of, visible_line
from stj.text.fitting import places_that_fit

if TYPE_CHECKING:
    from rich.console import Console

CLEAR_LINE = "\r\x1b[2K"
"""Erases a live line; log lines on the same terminal start with it."""


class Part(NamedTuple):
    """A part of a live line: `loss 0.412`."""

    text: str
    priority: int = 0
    """0 is always shown. On a terminal that is too narrow, the parts with the highest number are left out first."""
    before: str = " | "
    """What separates it from the part before it."""


Parts = Sequence[Part]
"""A live line; a log has all of it."""


def line_of(parts: Parts) -> str:
    """All parts as one line."""
    return "".join(f"{part.before if place else ''}{part.text}" for place, part in enumerate(parts))


def parts_that_fit(parts: Parts, width: int) -> Parts:
    """The parts that a terminal of this width shows."""

    def fits(places: Sequence[int]) -> bool:
        return cells_of(line_of([parts[place] for place in places])) <= width

    return [parts[place] for place in places_that_fit([part.priority for part in parts], fits)]


class LiveLine:
    """One line at the bottom of the terminal, written over in place; prints nothing if stderr is not a terminal, or is a dumb
    one.

    Parts that do not fit are left out by their priority; what is still too wide is cut. rich's own `Live` is not used: it
    hides the cursor, and a killed process would leave it hidden.
    """

    def __init__(self) -> None:
        self._console = _terminal() if sys.stderr.isatty() else None
        self._shown = False

    @property
    def live(self) -> bool:
        """Whether there is a terminal to write on."""
        return self._console is not None

    def whole(self, parts: Parts, eta_s: float | None = None, dollars: float | None = None) -> Parts:
        """These parts of a phase, and what a run says of itself beside them (stj/loop/run_line.py); here they are all.

        `eta_s` are the seconds to the end of the phase, `dollars` what it has cost so far; None if they are not known.
        """
        return parts

    def show(self, line: str | Parts) -> None:
        """Replaces the line shown before."""
        parts = [Part(line)] if isinstance(line, str) else line
        self._write(line_of(parts_that_fit(parts, self._console.width) if self._console else parts))

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
                self._console.print(visible_line(line), end="", markup=False, emoji=False, no_wrap=True, overflow="crop")
            self._shown = bool(line)
        except (OSError, ValueError):  # the terminal or the stream was closed; the work continues
            self._console = None


def _terminal() -> "Console | None":
    """rich's console on stderr, None if it cannot erase a line; importing rich takes 50 ms."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None
