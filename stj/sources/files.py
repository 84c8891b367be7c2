"""Local .jsonl, .csv and .parquet files as streams of records, with one batch in memory; .json files are read whole.

A record comes with its position in words ("pool.jsonl, line 12"), for errors.
"""

import csv
import difflib
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from stj.errors import SourceError

_T = TypeVar("_T")
Record = Mapping[str, Any]
Located = tuple[str, Record]
"""The position of a record in words, and the record."""

KIND_NAMES = ".jsonl, .ndjson, .json, .csv (each also as .gz) or .parquet"
"""The formats, for errors."""
_PARQUET_ROWS = 64
"""Rows in memory at once: few, because WildChat's conversations reach 200 kB each."""


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields that a reader needs, or all if none is named; other Parquet columns are never read."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Members to read of a field that is a list of structs; all members if the field is not named here."""

    def check(self, present: Iterable[object], where: str) -> None:
        """Raises SourceError if a required field is missing; the error lists the present ones."""
        names = [str(name) for name in present]
        for name in self.required:
            if name not in names:
                close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                guess = f"; did you mean '{close[0]}'?" if close else ""
                raise SourceError(f"{where}: no field '{name}'; the fields there are {_listed(names)}{guess}")

    def check_columns(self, names: Sequence[str], where: str) -> None:
        """Raises SourceError if a column is missing, or if one to read comes twice."""
        self.check(names, where)
        wanted = (*self.required, *self.optional) or names
        if twice := [name for name in wanted if name and names.count(name) > 1]:
            raise SourceError(f"{where}: column '{twice[0]}' comes twice; which one counts is not known: keep one of them")


def kind_of(file: Path) -> str | None:
    """The format that a file's name ends with, in lower case and with its .gz; None if it is not one that stj reads."""
    name = file.name.lower()
    return next((kind for kind in _READERS if name.endswith(kind) and name != kind), None)


def files_size(files: Sequence[Path]) -> int:
    """Approximate number of records, without parsing them: rows of Parquet files, lines of others."""
    return sum(map(_size, files))


def at_most(limit: int | None, size: int) -> int:
    """The smaller of size and limit."""
    return size if limit is None else min(limit, size)


def near_names(path: Path) -> str:
    """Words that list names like that of a missing path in its directory; empty if there are none."""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.5)
    return f"; {path.parent} has {_listed(close)}" if close else ""


def read_files(files: Sequence[Path], fields: Fields) -> Iterator[Located]:
    """The records of files, in order.

    Raises SourceError if a file is not in the format of its suffix, or a record lacks a required field.
    """
    for file in files:
        with _explained(file):
            yield from _READERS[_format(file)](file, fields)


def not_empty(rows: Iterator[_T], message: str) -> Iterator[_T]:
    """The same rows. Raises SourceError with the message if there are none."""
    first = next(rows, None)
    if first is None:
        raise SourceError(message)
    yield first
    yield from rows


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Turns a file that cannot be read into one line for the user."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(f"{file}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: cannot be read: {_first_line(error)}") from None


def _size(file: Path) -> int:
    with _explained(file):
        return _SIZES.get(_format(file), _lines)(file)


def _format(file: Path) -> str:
    kind = kind_of(file)
    if kind is None:
        raise SourceError(f"{file}: cannot read a '{file.suffix}' file; give a file in {KIND_NAMES}")
    return kind


def _opened(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.name.lower().endswith(".gz") else file.open("rb")


def _jsonl(file: Path, fields: Fields) -> Iterator[Located]:
    # Binary mode: only \n ends a line, not a U+2028 inside a string.
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.strip():
                where = f"{file}, line {number}"
                record = _json_object(text, where)
                fields.check(record, where)
                yield where, record


def _json(file: Path, fields: Fields) -> Iterator[Located]:
    """The members of a JSON list, or of the list `examples` of an object. A file with one object a line is read as .jsonl."""
    records = _json_records(file)
    if records is None:
        yield from _jsonl(file, fields)
        return
    for number, record in enumerate(records):
        where = f"{file}, item {number}"
        if not isinstance(record, dict):
            raise SourceError(f"{where}: a JSON {type(record).__name__}; an object is needed")
        fields.check(record, where)
        yield where, record


def _json_records(file: Path) -> list[Any] | None:
    """The members of a .json file; None if the file holds one value a line."""
    value = _json_value(file)
    if value is None:
        return None
    records = value.get("examples", [value]) if isinstance(value, dict) else value
    if not isinstance(records, list):
        raise SourceError(f"{file}: a JSON {type(records).__name__}; a list of objects is needed")
    return records


def _json_size(file: Path) -> int:
    records = _json_records(file)
    return _lines(file) if records is None else len(records)


def _json_value(file: Path) -> Any:
    """The value of a .json file; None if the file holds one value a line."""
    with _opened(file) as stream:
        text = stream.read().decode("utf-8-sig")
    try:
        return json.loads(text, object_pairs_hook=_members)
    except _ContradictoryField as error:
        raise SourceError(f"{file}: {error}") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return None
        raise SourceError(f"{file}, line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:  # The same errors as in _json_object.
        raise SourceError(f"{file}: JSON that Python cannot hold ({error})") from None


def _lines(file: Path) -> int:
    with _opened(file) as content:
        if ".csv" in _format(file):  # Its lines end in \n, \r or \r\n.
            return sum(1 for _ in io.TextIOWrapper(content, encoding="utf-8", errors="replace"))
        return sum(1 for _ in content)


def _json_object(text: str, where: str) -> Record:
    try:
        record = json.loads(text, object_pairs_hook=_members)
    except _ContradictoryField as error:
        raise SourceError(f"{where}: {error}") from None
    except json.JSONDecodeError as error:
        raise SourceError(
            f"{where}, column {error.colno}: not JSON ({error.msg}); .jsonl holds one JSON object a line"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 open brackets
        raise SourceError(f"{where}: JSON that Python cannot hold ({error})") from None
    if not isinstance(record, dict):
        raise SourceError(f"{where}: a JSON {type(record).__name__}; .jsonl holds one JSON object a line")
    return record


class _ContradictoryField(ValueError):
    """A JSON object has two values for one field."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object. Raises _ContradictoryField where Python would silently take the last of two values."""
    members = dict(pairs)
    if len(members) < len(pairs):
        for name, value in pairs:
            if repr(value) != repr(members[name]):
                raise _ContradictoryField(
                    f"field {name!r} comes twice, with different values; which one counts is not known: keep one of them"
                )
    return members


def _csv(file: Path, fields: Fields) -> Iterator[Located]:
    csv.field_size_limit(sys.maxsize)  # Python's limit of 131,072 characters a field is below real conversations.
    with _opened(file) as content, io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            if reader.fieldnames is None:
                return
            fields.check_columns(reader.fieldnames, str(file))
            for record in reader:
                where = f"{file}, line {reader.line_num}"
                if None in record:
                    raise SourceError(f"{where}: more values than the header has names ({len(reader.fieldnames)})")
                if None in record.values():
                    raise SourceError(f"{where}: fewer values than the header has names ({len(reader.fieldnames)})")
                yield where, record
        except csv.Error as error:
            raise SourceError(f"{file}, line {reader.line_num}: not CSV ({error})") from None


def _parquet(file: Path, fields: Fields) -> Iterator[Located]:
    try:
        with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
            fields.check_columns(parquet.schema_arrow.names, str(file))
            columns = _columns(parquet.schema, fields)
            number = 0
            for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                for record in batch.to_pylist():
                    yield f"{file}, row {number}", record
                    number += 1
    except pa.ArrowException as error:
        raise _not_parquet(file, error) from None


def _parquet_rows(file: Path) -> int:
    try:
        rows: int = pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(file, error) from None
    return rows


def _not_parquet(file: Path, error: Exception) -> SourceError:
    return SourceError(f"{file}: not a Parquet file, or a damaged one ({_first_line(error)})")


def _columns(schema: pq.ParquetSchema, fields: Fields) -> list[str] | None:
    """Paths of the leaves to read, as `conversation.list.element.role` (writers vary the middle levels); None is all."""
    if not fields.required and not fields.optional:
        return None
    paths = [schema.column(index).path for index in range(len(schema))]
    return [
        path
        for name in (*fields.required, *fields.optional)
        for path in paths
        if path == name or (path.startswith(f"{name}.") and _wanted(path, fields.parts.get(name)))
    ]


def _wanted(path: str, parts: tuple[str, ...] | None) -> bool:
    return parts is None or path.rsplit(".", 1)[-1] in parts


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:20]) or "none"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_READERS: dict[str, Callable[[Path, Fields], Iterator[Located]]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".ndjson": _jsonl,
    ".ndjson.gz": _jsonl,
    ".json": _json,
    ".json.gz": _json,
    ".csv": _csv,
    ".csv.gz": _csv,
    ".parquet": _parquet,
}
_SIZES: dict[str, Callable[[Path], int]] = {".parquet": _parquet_rows, ".json": _json_size, ".json.gz": _json_size}
