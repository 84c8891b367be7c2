"""Records of files and data sets: what a reader needs of them, and those that cannot be read."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stj.errors import SourceError

Record = Mapping[str, Any]
Located = tuple[str, Record]
"""The position of a record in words, and the record."""

_DEEPEST = 8  # Objects inside of objects: a name of nine parts is no name, and a hostile file nests a thousand.
NOT_READABLE = "not_readable"
NO_FIELD = "no_field"


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be read, while those behind it can."""

    reason: str
    """NOT_READABLE: a torn line, for instance. NO_FIELD: it lacks a required field."""
    message: str
    """The error: its position, what is wrong, and the remedy."""


Scanned = tuple[str, Record | BadRecord]
"""The position of a record in words, and the record if it can be read."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields that a reader needs, or all if none is named; other Parquet columns are never read."""

    required: tuple[str, ...]
    """Their names. A dotted one that is no field itself names a member: `prompt.text` of {"prompt": {"text": "..."}}."""
    optional: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Members to read of a field that is a list of structs; all members if the field is not named here."""

    def check(self, present: Iterable[object], where: str) -> None:
        """Raises SourceError if a required field is missing; the error lists the present ones."""
        names = [str(name) for name in present]
        if isinstance(present, Mapping) and not all(name in present for name in self.required):
            names = list(with_members(present))
        for name in self.required:
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                guess = f"; did you mean '{close[0]}'?" if close else ""
                raise SourceError(f"{where}: no field '{name}'; the fields there are {listed(names)}{guess}")

    def checked(self, record: Record, where: str) -> Record | BadRecord:
        """The record, with the members that dotted names ask for under these names; a BadRecord if a field is missing."""
        try:
            self.check(record, where)
        except SourceError as error:
            return BadRecord(NO_FIELD, str(error))
        if all(name in record for name in self.required):
            return record
        every = with_members(record)
        return {**record, **{name: every[name] for name in self.required}}

    def check_columns(self, names: Sequence[str], where: str) -> None:
        """Raises SourceError if a column is missing, or if one to read comes twice."""
        self.check(names, where)
        wanted = (*self.required, *self.optional) or names
        if twice := [name for name in wanted if name and names.count(name) > 1]:
            raise SourceError(f"{where}: column '{twice[0]}' comes twice; which one counts is not known: keep one of them")


def with_members(record: Record, depth: int = _DEEPEST) -> dict[str, Any]:
    """A record and, behind its fields, the members of its objects under their dotted names; a field goes before a member."""
    if not depth:
        return dict(record)
    members = {
        f"{name}.{inner}": member
        for name, value in record.items()
        if isinstance(value, Mapping)
        for inner, member in with_members(value, depth - 1).items()
    }
    return {**record, **{name: value for name, value in members.items() if name not in record}}


def strict(records: Iterable[Scanned]) -> Iterator[Located]:
    """The records. Raises SourceError at the first one that cannot be read."""
    for where, record in records:
        if isinstance(record, BadRecord):
            raise SourceError(record.message)
        yield where, record


def not_utf8(reason: str) -> str:
    """The error for text in another encoding."""
    return f"not UTF-8 text ({reason}); convert the file to UTF-8"


def listed(names: Sequence[str]) -> str:
    """At most 20 names in quotes, for errors."""
    return ", ".join(f"'{name}'" for name in names[:20]) or "none"
