"""Words for a reader: durations, and what a terminal needs to be told."""

from collections.abc import Callable

PrintLine = Callable[[str], None]
"""Prints one line for the user."""

CLEAR_LINE = "\r\x1b[2K"
"""What takes a live line off a terminal."""


def duration(seconds: float) -> str:
    """A time for a reader: 2h11m, 12m, 40s."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m" if minutes else f"{seconds:.0f}s"
