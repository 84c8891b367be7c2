"""A table as its columns: each knows its head, and how to write the cell of a thing. The terminal and the page share them.

So a number has one head, one definition (`stj explain`) and one spelling. The page has room for more columns.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from stj.text import Column, Table

T = TypeVar("T")


@dataclass(frozen=True)
class Cell(Generic[T]):
    """A column of a table of things."""

    head: Column
    of: Callable[[T], str]
    page_only: bool = False
    """Whether a terminal has no room for it."""


def table_of(cells: Sequence[Cell[T]], things: Iterable[T], *, page: bool = False, keys: int = 1) -> Table:
    """A row for each thing; `page` gives all columns."""
    shown = [cell for cell in cells if page or not cell.page_only]
    rows = [[cell.of(thing) for cell in shown] for thing in things]
    return Table(columns=[cell.head for cell in shown], rows=rows, keys=keys)


def without_repeats(table: Table) -> Table:
    """The table with a name only in the first of the rows that share it."""
    names = [row[0] for row in table.rows]
    rows = [
        ["" if place and name == names[place - 1] else name, *row[1:]]
        for place, (name, row) in enumerate(zip(names, table.rows, strict=True))
    ]
    return replace(table, rows=rows)
