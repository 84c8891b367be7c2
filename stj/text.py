"""Text for a terminal: durations, and the code that clears the live line."""

from collections.abc import Callable

PrintLine = Callable[[str], None]
"""Prints one line for the user."""

CLEAR_LINE = "\r\x1b[2K"
"""Clears the live line of a terminal."""


def duration(seconds: float) -> str:
    """A duration as people write it: 2h11m, 12m, 40s."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m" if minutes else f"{seconds:.0f}s"
