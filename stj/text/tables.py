"""Tables as data: aligned plain text for logs, pipes and files, and the same cells on a terminal of any width."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from stj.text.characters import cells_of, visible_line
from stj.text.fitting import places_that_fit

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console, ConsoleOptions, RenderResult

WIDTH = 80
"""Columns of plain text, at most: those of a terminal, a log, or a pull request without a scroll bar."""
_LONGEST_NAME = 60  # characters in the first column, so that a table has room for an accuracy and its interval
_LONGEST_TITLE = 24  # characters of a title in the head of the first column; a longer one has a line of its own
_GAP = 2  # Columns of a plain table stand this many spaces apart.


class Column(NamedTuple):
    """The head of a column: two lines, and above them the name of a group that begins with this column."""

    upper: str
    lower: str
    group: str = ""
    priority: int = 0
    """0 is always shown. On a terminal that is too narrow, the columns with the highest number are left out first."""
    word: str = ""
    """What `stj explain` and docs/reading-results.md call it, if the head is not that."""

    @property
    def name(self) -> str:
        """The head in one line: `winner first`, `position-consistent`."""
        return f"{self.upper}{self.lower}" if self.upper.endswith("-") else f"{self.upper} {self.lower}".strip()


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as data. `str` gives plain text for logs, pipes and files; `rich` renders it for a terminal.

    The first column is aligned left, all others right. Plain text is at most 80 columns wide. If a table is wider, or wider
    than its terminal, its columns continue below in another table, group by group. That table repeats the first columns.
    `fitted` leaves columns out instead.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    """Cells, one for each column."""
    title: str = ""
    plain: Sequence[str] = ()
    """Lines that replace the plain table; empty for aligned columns."""
    note: str = ""
    """Lines below the table."""
    keys: int = 1
    """The first columns, which say what a row is about: each part of a table that is too wide repeats them."""

    def __post_init__(self) -> None:
        """Makes all text visible, as a Passage does: names of models and subsets come from files."""
        visible_columns = [
            column._replace(
                upper=visible_line(column.upper), lower=visible_line(column.lower), group=visible_line(column.group)
            )
            for column in self.columns
        ]
        object.__setattr__(self, "columns", visible_columns)
        object.__setattr__(self, "rows", [[_name(name), *map(visible_line, cells)] for name, *cells in self.rows])
        object.__setattr__(self, "title", visible_line(self.title))
        object.__setattr__(self, "plain", [visible_line(line) for line in self.plain])
        object.__setattr__(self, "note", "\n".join(map(visible_line, self.note.split("\n"))))

    def fitted(self, width: int) -> "Table":
        """The columns that a terminal of this width has room for, by their priority; a line below names the others.

        Each group of columns is a table of its own there, so each is fitted alone.
        """
        kept = list(range(self.keys))
        heads = list(self.columns[: self.keys])
        for group in self._groups():
            places = self._fitting(group, width)[self.keys :]
            kept += places
            heads += [self.columns[place]._replace(group="") for place in places]
            if places:
                heads[-len(places)] = heads[-len(places)]._replace(group=self.columns[group[self.keys]].group)
        if len(kept) == len(self.columns):
            return self
        left_out = ", ".join(column.name for place, column in enumerate(self.columns) if place not in kept)
        note = f"left out for want of room: {left_out} (--wide shows all)"
        return replace(
            self,
            columns=heads,
            rows=[[row[place] for place in kept] for row in self.rows],
            note="\n".join(filter(None, (note, self.note))),
        )

    def _fitting(self, places: Sequence[int], width: int) -> list[int]:
        """Those of these places that a terminal of this width has room for, those of the keys always."""
        widths = [self._rich_width(place) for place in places]

        def fits(kept: Sequence[int]) -> bool:
            return sum(widths[number] for number in kept) + _GAP * (len(kept) - 1) <= width

        priorities = [0] * self.keys + [self.columns[place].priority for place in places[self.keys :]]
        return [places[number] for number in places_that_fit(priorities, fits)]

    def __str__(self) -> str:
        title = [] if self.plain or self._head_title == self.title else textwrap.wrap(self.title, WIDTH)
        note = ["", *(_wrapped(line) for line in self.note.split("\n"))] if self.note else []
        return "\n".join([*title, *(self.plain or self._plain_lines()), *note])

    def _plain_lines(self) -> list[str]:
        """The table, in parts if it is too wide, with an empty line between two parts."""
        widths = [self._plain_width(place) for place in range(len(self.columns))]
        whole = list(range(len(self.columns)))
        fits = sum(widths) + _GAP * (len(widths) - 1) <= WIDTH
        parts = [whole] if fits else list(self._parts(WIDTH, widths, _GAP))
        lines = [line for part in parts for line in ("", *self._plain_part(part, [widths[place] for place in part]))]
        return lines[1:]

    def _plain_part(self, places: Sequence[int], widths: Sequence[int]) -> list[str]:
        heads = self._heads()
        if places[self.keys : self.keys + 1] != [self.keys]:  # The title stands above the first part only.
            heads[0][0] = self.columns[0].upper
        lines = [_plain_line([cells[place] for place in places], widths) for cells in (*heads, *self.rows)]
        groups = [self._group_line(places, widths)] if any(self.columns[place].group for place in places) else []
        rule = "-" * (sum(widths) + _GAP * (len(widths) - 1))
        return [*groups, *lines[:2], rule, *lines[2:]]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        widths = [self._rich_width(place) for place in range(len(self.columns))]
        for number, places in enumerate(self._parts(options.max_width, widths, _GAP)):
            group = next((self.columns[place].group for place in places if self.columns[place].group), "")
            title = ", ".join(filter(None, ("" if number else self.title, group)))
            if number:
                yield Text("")
            if title:
                yield Text(title, style="bold")
            yield self._rich_part(places)
        if self.note:
            yield Text(f"\n{self.note}")

    def _groups(self) -> list[list[int]]:
        """The places of the columns of each group, the keys in each."""
        groups: list[list[int]] = []
        for place, column in enumerate(self.columns[self.keys :], self.keys):
            if not groups or column.group:
                groups.append(list(range(self.keys)))
            groups[-1].append(place)
        return groups

    def _heads(self) -> list[list[str]]:
        upper, lower = [column.upper for column in self.columns], [column.lower for column in self.columns]
        return [[self._head_title or upper[0], *upper[1:]], lower]

    @property
    def _head_title(self) -> str:
        """The title if it is short enough for the head of the first column."""
        return self.title if len(self.title) <= _LONGEST_TITLE else ""

    def _plain_width(self, place: int) -> int:
        return max(cells_of(cells[place]) for cells in (*self._heads(), *self.rows))

    def _group_line(self, places: Sequence[int], widths: Sequence[int]) -> str:
        """The names of the groups, each above the left end of its first column."""
        line = ""
        for number, place in enumerate(places):
            if group := self.columns[place].group:
                line = _padded(line, sum(widths[:number]) + _GAP * number) + group
        return line

    def _parts(self, width: int, widths: Sequence[int], gap: int) -> Iterator[list[int]]:
        """The places of the columns of each part that is at most this wide, the first column in each."""
        keys = list(range(self.keys))
        of_keys = sum(widths[: self.keys]) + gap * (self.keys - 1)
        part, used = keys.copy(), of_keys
        for place in range(self.keys, len(self.columns)):
            needed = gap + widths[place]
            if len(part) > self.keys and (used + needed > width or self.columns[place].group):
                yield part
                part, used = keys.copy(), of_keys
            part.append(place)
            used += needed
        yield part

    def _rich_width(self, place: int) -> int:
        """The width of a column on a terminal; the title stands above the table there."""
        column = self.columns[place]
        return max(map(cells_of, (column.upper, column.lower, *(row[place] for row in self.rows))))

    def _rich_part(self, places: Sequence[int]) -> "rich.table.Table":
        import rich.box
        import rich.table
        from rich.text import Text

        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for place in places:
            head = "\n".join(self.columns[place][:2])
            if place == 0:
                table.add_column(Text(head), style="cyan", vertical="bottom", overflow="fold")
            else:
                table.add_column(Text(head), justify="right", no_wrap=True, vertical="bottom")
        for row in self.rows:
            table.add_row(*(Text(row[place]) for place in places))
        return table


def _name(cell: str) -> str:
    """The first cell of a row; of a longer name the start and the end."""
    name = visible_line(cell)
    half = _LONGEST_NAME // 2
    return name if cells_of(name) <= _LONGEST_NAME else f"{_start(name, half)}…{_start(name[::-1], half - 1)[::-1]}"


def _start(text: str, cells: int) -> str:
    """The start of a text that takes at most so many cells."""
    taken = 0
    for place, character in enumerate(text):
        taken += cells_of(character)
        if taken > cells:
            return text[:place]
    return text


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells_of(text))


def _plain_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    aligned = [_padded(first, widths[0])]
    aligned += [" " * (width - cells_of(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
    return (" " * _GAP).join(aligned).rstrip()


def _wrapped(line: str) -> str:
    """A line of a note, at most as wide as a table."""
    return line if len(line) <= WIDTH else textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
