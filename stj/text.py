"""Text for the user: durations, tables, and a live line on a terminal."""

import json
import re
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console, ConsoleOptions, RenderResult

CLEAR_LINE = "\r\x1b[2K"
"""Erases a live line; log lines on the same terminal start with it."""

_WIDEST = 120  # columns; longer lines of text are hard to read
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, format (bidi too), surrogate, private use, line and paragraph ends
_HARMLESS = "\n\t\u200c\u200d"  # Persian and emoji need the joiners.
_NOT_PLAIN = re.compile(r"[^\n -~]")
_WIDEST_TABLE = 100  # columns of plain text; a log or a pull request shows them without a scroll bar
_LONGEST_NAME = 60  # characters in the first column, so that a table has room for an accuracy and its interval
_GAP = 2  # Columns of a plain table stand this many spaces apart.
_RICH_GAP = 3  # rich puts this many characters between two columns: padding, a border of spaces, padding.


def duration(seconds: float) -> str:
    """A duration for a reader: 2h11m, 12m, 40s."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m" if minutes else f"{seconds:.0f}s"


def gigabytes(size: float) -> str:
    """A number of bytes in words: `0.0121 GB`, `3,250 GB`. A GB is 10^9 bytes."""
    return f"{size / 1e9:,.0f} GB" if size >= 1e11 else f"{size / 1e9:.3g} GB"


def without_surrogates(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD: UTF-8, Arrow and tokenizers fail on them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def visible(text: str) -> str:
    """The text with the code of every character that a terminal obeys or does not show: ESC becomes `\\x1b`."""
    lines_ended = text.replace("\r\n", "\n")
    return "".join(_code(c) if unicodedata.category(c) in _INVISIBLE and c not in _HARMLESS else c for c in lines_ended)


def visible_line(text: str) -> str:
    """The text, visible, as one line: data cannot end a line and pretend that the next is ours."""
    return visible(text).replace("\n", "\\n")


def shows_something(text: str) -> bool:
    """Whether a reader sees a character; spaces and marks of direction or joining are none."""
    return any(character.isprintable() and not character.isspace() for character in text)


def in_ascii(text: str) -> str:
    """The text with the codes of all other characters: `\\u6570\\u636e.jsonl`."""
    return text.encode("ascii", "backslashreplace").decode()


def json_text(value: object, stream: TextIO, *, indent: int | None = None) -> str:
    """A value as JSON for a stream: text of every script as it is written, so that a person can read it.

    What the stream's encoding lacks, and what a terminal obeys or does not show, is a JSON escape.
    """
    return _json_text(value, stream.encoding or "utf-8", indent)


def json_line(value: object) -> bytes:
    """A value as one line of a .jsonl file in UTF-8, with the escapes of `json_text`."""
    return f"{_json_text(value, 'utf-8', None)}\n".encode()


def _json_text(value: object, encoding: str, indent: int | None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _NOT_PLAIN.sub(lambda match: _json_character(match[0], encoding), text)


@cache
def _json_character(character: str, encoding: str) -> str:
    plain = character in _HARMLESS or unicodedata.category(character) not in _INVISIBLE
    lacking = not character.encode(encoding, "ignore")
    return character if plain and not lacking else json.dumps(character)[1:-1]


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


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


class LiveLine:
    """One line at the bottom of the terminal, written over in place; prints nothing if stderr is not a terminal, or is a dumb
    one.

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
                self._console.print(visible_line(line), end="", markup=False, emoji=False, no_wrap=True, overflow="crop")
            self._shown = bool(line)
        except (OSError, ValueError):  # the terminal or the stream was closed; the work continues
            self._console = None


class Column(NamedTuple):
    """The head of a column: two lines, and above them the name of a group that begins with this column."""

    upper: str
    lower: str
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as data. `str` gives plain text for logs, pipes and files; `rich` renders it for a terminal.

    The first column is aligned left, all others right. Plain text is at most 100 columns wide. If a table is wider, or wider
    than its terminal, its columns continue below in another table, group by group. That table repeats the first column.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    """Cells, one for each column."""
    title: str = ""
    plain: Sequence[str] = ()
    """Lines that replace the plain table; empty for aligned columns."""
    note: str = ""
    """Lines below the table."""

    def __post_init__(self) -> None:
        """Makes all text visible, as a Passage does: names of models and subsets come from files."""
        visible_columns = [Column(*map(visible_line, column)) for column in self.columns]
        object.__setattr__(self, "columns", visible_columns)
        object.__setattr__(self, "rows", [[_name(name), *map(visible_line, cells)] for name, *cells in self.rows])
        object.__setattr__(self, "title", visible_line(self.title))
        object.__setattr__(self, "plain", [visible_line(line) for line in self.plain])
        object.__setattr__(self, "note", "\n".join(map(visible_line, self.note.split("\n"))))

    def __str__(self) -> str:
        return "\n".join([*(self.plain or self._plain_lines()), *(["", self.note] if self.note else [])])

    def _plain_lines(self) -> list[str]:
        """The table, in parts if it is too wide, with an empty line between two parts."""
        widths = [self._plain_width(place) for place in range(len(self.columns))]
        whole = list(range(len(self.columns)))
        fits = sum(widths) + _GAP * (len(widths) - 1) <= _WIDEST_TABLE
        parts = [whole] if fits else list(self._parts(_WIDEST_TABLE, widths, _GAP))
        lines = [line for part in parts for line in ("", *self._plain_part(part, [widths[place] for place in part]))]
        return lines[1:]

    def _plain_part(self, places: Sequence[int], widths: Sequence[int]) -> list[str]:
        heads = self._heads()
        if places[1:2] != [1]:  # The title stands above the first part only.
            heads[0][0] = self.columns[0].upper
        lines = [_plain_line([cells[place] for place in places], widths) for cells in (*heads, *self.rows)]
        groups = [self._group_line(places, widths)] if any(self.columns[place].group for place in places) else []
        rule = "-" * (sum(widths) + _GAP * (len(widths) - 1))
        return [*groups, *lines[:2], rule, *lines[2:]]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        widths = [self._rich_width(place) for place in range(len(self.columns))]
        for number, places in enumerate(self._parts(options.max_width, widths, _RICH_GAP)):
            title = ", ".join(filter(None, ("" if number else self.title, self.columns[places[1]].group)))
            if number:
                yield Text("")
            if title:
                yield Text(title, style="bold")
            yield self._rich_part(places)
        if self.note:
            yield Text(f"\n{self.note}")

    def _heads(self) -> list[list[str]]:
        upper, lower = ([column[line] for column in self.columns] for line in (0, 1))
        return [[self.title or upper[0], *upper[1:]], lower]

    def _plain_width(self, place: int) -> int:
        return max(len(cells[place]) for cells in (*self._heads(), *self.rows))

    def _group_line(self, places: Sequence[int], widths: Sequence[int]) -> str:
        """The names of the groups, each above the left end of its first column."""
        line = ""
        for number, place in enumerate(places):
            if group := self.columns[place].group:
                line = line.ljust(sum(widths[:number]) + _GAP * number) + group
        return line

    def _parts(self, width: int, widths: Sequence[int], gap: int) -> Iterator[list[int]]:
        """The places of the columns of each part that is at most this wide, the first column in each."""
        part, used = [0], widths[0]
        for place in range(1, len(self.columns)):
            needed = gap + widths[place]
            if len(part) > 1 and (used + needed > width or self.columns[place].group):
                yield part
                part, used = [0], widths[0]
            part.append(place)
            used += needed
        yield part

    def _rich_width(self, place: int) -> int:
        """The width of a column on a terminal; the title stands above the table there."""
        column = self.columns[place]
        return max(map(len, (column.upper, column.lower, *(row[place] for row in self.rows))))

    def _rich_part(self, places: Sequence[int]) -> "rich.table.Table":
        import rich.box
        import rich.table
        from rich.text import Text

        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for place in places:
            head = "\n".join(self.columns[place][:2])
            if place == 0:
                table.add_column(Text(head), style="cyan", vertical="bottom", overflow="fold")
            else:
                table.add_column(Text(head), justify="right", no_wrap=True, vertical="bottom")
        for row in self.rows:
            table.add_row(*(Text(row[place]) for place in places))
        return table


Show = Callable[[str | Table], None]
"""Shows the user a line or a table."""


def show(item: str | Table | Passage, stream: TextIO | None = None) -> None:
    """Prints a line, a table or a passage on `stream`, stdout if none is given.

    All are plain text, except on a terminal: there tables and passages fit its width and have colours, unless NO_COLOR is set.
    """
    stream = stream or sys.stdout
    if not isinstance(item, str) and stream.isatty():
        from rich.console import Console

        Console(file=stream, highlight=False).print(item)
    else:
        text = visible(item) if isinstance(item, str) else str(item)
        print(_for_encoding(text, stream.encoding or "utf-8"), file=stream, flush=True)


def _for_encoding(text: str, encoding: str) -> str:
    """The text with ASCII for our own signs if the encoding lacks them, so that tables stay aligned."""
    for sign, ascii_sign in (("–", "-"), ("…", "~")):
        if not sign.encode(encoding, "ignore"):
            text = text.replace(sign, ascii_sign)
    return text


def _name(cell: str) -> str:
    """The first cell of a row; of a longer name the start and the end."""
    name = visible_line(cell)
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _plain_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    aligned = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
    return (" " * _GAP).join(aligned).rstrip()


def _terminal() -> "Console | None":
    """rich's console on stderr, None if it cannot erase a line; importing rich takes 50 ms."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None
