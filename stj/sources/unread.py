"""Rows that cannot be read: each is a tombstone that says where and why, and keeps its place among the others.

    not_readable        a line that is torn or not UTF-8, no JSON object, or has more or fewer values than the header
    no_field            a record without a field that the config names
    bad_field           an id that is empty, not text or not new; a language or a mark of the wrong type
    content_not_text    a dialogue that is not text (dialogue.py)

A row behind a tombstone has the position and the id that it would have if the line were whole. So the repair of a line changes
no other row.
"""

from collections.abc import Callable, Iterable, Iterator

from stj.errors import SourceError
from stj.rows import Row
from stj.sources.dialogue import NOT_TEXT, clean
from stj.sources.ids import UNREAD_PREFIX
from stj.sources.records import NO_FIELD, NOT_READABLE, BadRecord, Record, Scanned

BAD_FIELD = "bad_field"
UNREAD = frozenset({NOT_READABLE, NO_FIELD, BAD_FIELD, NOT_TEXT})
"""The reasons of tombstones of rows that cannot be read."""


def read_each(records: Iterable[Scanned], make: Callable[[int, str, Record], Row]) -> Iterator[Row]:
    """The rows that `make` makes of position, place and values; a tombstone where there are none, or where it raises."""
    for position, (where, record) in enumerate(records):
        yield _row(position, where, record, make)


def _row(position: int, where: str, record: Record | BadRecord, make: Callable[[int, str, Record], Row]) -> Row:
    if isinstance(record, BadRecord):
        return _unread(position, record)
    try:
        return make(position, where, record)
    except SourceError as error:
        return _unread(position, BadRecord(BAD_FIELD, str(error)))


def _unread(position: int, bad: BadRecord) -> Row:
    row = Row(id=f"{UNREAD_PREFIX}{position:08d}", position=position, turns=())
    return row.drop(bad.reason, clean(bad.message))  # a file may have any name
