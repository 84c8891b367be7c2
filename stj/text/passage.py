"""A line with a text below it, in colour on a terminal."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stj.text.characters import visible, visible_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_WIDEST = 120  # columns; longer lines of text are hard to read


class Span(NamedTuple):
    """A part of a line."""

    text: str
    style: str = ""
    """rich's style on a terminal, such as "bold green"; empty for plain."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A line, and a text below it if there is one. `str` gives plain text; on a terminal `rich` styles and wraps it.

    All characters are shown, none is obeyed: neither escape sequences nor rich's [markup] and :emoji: codes.
    """

    line: Sequence[Span]
    text: str | None = None
    dim: bool = False
    """Whether a terminal shows all of it dimmed."""
    hang: int = 0
    """The column at which a terminal continues a line that is too long."""
    width: int = _WIDEST
    """The most columns that the text takes."""

    def __str__(self) -> str:
        line = "".join(visible_line(span.text) for span in self.line)
        if self.text is None:
            return line
        wrapped = (textwrap.wrap(row, self.width - 4, replace_whitespace=False) for row in visible(self.text).split("\n"))
        return "\n".join([f"{line}:", *(textwrap.indent("\n".join(rows), "    ") for rows in wrapped)])

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.constrain import Constrain
        from rich.padding import Padding
        from rich.table import Table as Grid
        from rich.text import Text

        style = "dim" if self.dim else ""
        line = Text(style=style)
        for span in (*self.line, *([Span(":")] if self.text is not None else ())):
            line.append(visible_line(span.text), style=span.style or None)
        if self.hang:
            grid = Grid.grid()
            grid.add_column(width=self.hang)
            grid.add_row(line[: self.hang], line[self.hang :])
        yield grid if self.hang else line
        if self.text is not None:
            yield Constrain(
                Padding(Text(visible(self.text), style=style), (0, 0, 0, 4)), width=min(self.width, options.max_width)
            )
