"""Text for the user: durations, tables, and a live line on a terminal."""

import sys
from collections.abc import Callable
from typing import TextIO

from stj.text.amounts import data_size, duration, so_far
from stj.text.characters import (
    cells_of,
    for_encoding,
    in_ascii,
    json_line,
    json_text,
    shows_something,
    visible,
    visible_line,
    without_surrogates,
)
from stj.text.live import CLEAR_LINE, LiveLine, Part, Parts, line_of, parts_that_fit
from stj.text.passage import Passage, Span
from stj.text.tables import WIDTH, Column, Table

__all__ = [
    "CLEAR_LINE",
    "WIDTH",
    "Column",
    "LiveLine",
    "Part",
    "Parts",
    "Passage",
    "Show",
    "Span",
    "Table",
    "cells_of",
    "data_size",
    "duration",
    "in_ascii",
    "json_line",
    "json_text",
    "line_of",
    "parts_that_fit",
    "show",
    "shows_something",
    "so_far",
    "visible",
    "visible_line",
    "without_surrogates",
]

Show = Callable[[str | Table], None]
"""Shows the user a line or a table."""


def show(item: str | Table | Passage, stream: TextIO | None = None, *, wide: bool = False) -> None:
    """Prints a line, a table or a passage on `stream`, stdout if none is given.

    All are plain text, except on a terminal: there tables and passages fit its width and have colours, unless NO_COLOR is set.
    A table that is wider than its terminal loses columns there, and a line below it names them; with `wide` they continue
    below. Plain text is always complete.
    """
    stream = stream or sys.stdout
    if not isinstance(item, str) and stream.isatty():
        from rich.console import Console

        console = Console(file=stream, highlight=False)
        console.print(item.fitted(console.width) if isinstance(item, Table) and not wide else item)
    else:
        text = visible(item) if isinstance(item, str) else str(item)
        print(for_encoding(text, stream.encoding or "utf-8"), file=stream, flush=True)
