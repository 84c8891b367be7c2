"""Reading sources while they may change or break."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from stj.errors import SourceError
from stj.rows import Row


def resumable(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows; an error on the way says what to do. The check before the start does not read all pages of all files."""
    try:
        yield from rows
    except SourceError as error:
        raise SourceError(f"{error}. Finished rows are kept: once the file is in order, run the same command again") from None


def unchanged(
    rows: Iterable[Row], content: Callable[[], Mapping[str, Any]], identity: Mapping[str, Any] | None, named: str
) -> Iterator[Row]:
    """The rows of sources. Raises SourceError before or behind them if their content is no longer what it was."""
    for part in (rows, ()):
        if identity is not None and content() != identity:
            raise SourceError(f"{named}: was changed while it was read")
        yield from part


def sum_of(counts: Sequence[int | None]) -> int | None:
    """The sum; None if a number is not known."""
    return None if None in counts else sum(count for count in counts if count is not None)
