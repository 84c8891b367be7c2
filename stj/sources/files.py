"""Local .jsonl, .csv and .parquet files as streams of records, with one batch in memory; .json files are read whole.

A record comes with its position in words ("pool.jsonl, line 12"), for errors. `scan_files` gives a BadRecord for a line that
cannot be read, and continues behind it. `read_files` is for files of which every record counts: it raises the error instead.
"""

import codecs
import difflib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from stj.errors import SourceError
from stj.sources.csv_files import check_csv_columns, csv_size, opened, read_csv
from stj.sources.records import NOT_READABLE, BadRecord, Fields, Located, Record, Scanned, listed, not_utf8, strict

_T = TypeVar("_T")
KIND_NAMES = ".jsonl, .ndjson, .json, .csv (each also as .gz) or .parquet"
"""The formats, for errors."""
_PARQUET_ROWS = 64
"""Rows in memory at once: few, because WildChat's conversations reach 200 kB each."""


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
    return f"; {path.parent} has {listed(close)}" if close else ""


def read_files(files: Sequence[Path], fields: Fields) -> Iterator[Located]:
    """The records of files, in order.

    Raises SourceError if a file is not in the format of its suffix, or a record cannot be read or lacks a required field.
    """
    return strict(scan_files(files, fields))


def scan_files(files: Sequence[Path], fields: Fields) -> Iterator[Scanned]:
    """The records of files, in order, with those that cannot be read or lack a required field as BadRecords.

    Raises SourceError if a file cannot be read any further: it is not in the format of its suffix, its columns lack a required
    field, its compression is torn, or a quote in it never ends.
    """
    for file in files:
        with _explained(file):
            yield from _READERS[_format(file)](file, fields)


def check_columns(files: Sequence[Path], fields: Fields) -> None:
    """Raises SourceError if the columns of a file lack a required field; reads no further than headers and footers."""
    for file in files:
        if check := _COLUMNS.get(_format(file)):
            with _explained(file):
                check(file, fields)


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
        raise SourceError(f"{file}: {not_utf8(error.reason)}") from None
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


def _jsonl(file: Path, fields: Fields) -> Iterator[Scanned]:
    # Binary mode: only \n ends a line, not a U+2028 inside a string.
    with opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}, line {number}"
            record = _of_line(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, where)
            if record is not None:
                yield where, record if isinstance(record, BadRecord) else fields.checked(record, where)


def _of_line(line: bytes, where: str) -> Record | BadRecord | None:
    """The record of a line; None if the line is blank."""
    try:
        text = line.decode()
        return _json_object(text, where) if text.strip() else None
    except UnicodeDecodeError as error:
        return BadRecord(NOT_READABLE, f"{where}: {not_utf8(error.reason)}")
    except SourceError as error:
        return BadRecord(NOT_READABLE, str(error))


def _json(file: Path, fields: Fields) -> Iterator[Scanned]:
    """The members of a JSON list, or of the list `examples` of an object. A file with one object a line is read as .jsonl."""
    records = _json_records(file)
    if records is None:
        yield from _jsonl(file, fields)
        return
    for number, record in enumerate(records):
        where = f"{file}, item {number}"
        if isinstance(record, dict):
            yield where, fields.checked(record, where)
        else:
            yield where, BadRecord(NOT_READABLE, f"{where}: a JSON {type(record).__name__}; an object is needed")


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
    with opened(file) as stream:
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
    with opened(file) as content:
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


def _parquet(file: Path, fields: Fields) -> Iterator[Scanned]:
    with _parquet_file(file) as parquet:
        fields.check_columns(_column_names(parquet), str(file))
        columns = _columns(parquet.schema, fields)
        number = 0
        for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
            for record in _batch_records(batch):
                where = f"{file}, row {number}"
                bad = BadRecord(NOT_READABLE, f"{where}: {not_utf8('invalid bytes')}")
                yield where, bad if record is None else fields.checked(record, where)
                number += 1
        if number != parquet.metadata.num_rows:
            raise SourceError(
                f"{file}: damaged: its footer counts {parquet.metadata.num_rows:,} rows, and {number:,} can be read; copy it "
                "again"
            )


def _batch_records(batch: pa.RecordBatch) -> Iterator[Record | None]:
    """The records of a batch; None for one whose text is not UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield None
        else:
            for row in range(batch.num_rows):
                yield from _batch_records(batch.slice(row, 1))


@contextmanager
def _parquet_file(file: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file. Raises SourceError, also while it is read, if it is damaged."""
    try:
        with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True) as parquet:
            yield parquet
    except pa.ArrowException as error:
        raise _not_parquet(file, error) from None


def _parquet_columns(file: Path, fields: Fields) -> None:
    with _parquet_file(file) as parquet:
        fields.check_columns(_column_names(parquet), str(file))


def _column_names(parquet: pq.ParquetFile) -> list[str]:
    """The names of the columns, and the dotted ones of the members of structs."""

    def members(field: pa.Field) -> Iterator[str]:
        for inner in field.flatten() if pa.types.is_struct(field.type) else ():
            yield inner.name
            yield from members(inner)

    return [*parquet.schema_arrow.names, *(name for field in parquet.schema_arrow for name in members(field))]


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


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_READERS: dict[str, Callable[[Path, Fields], Iterator[Scanned]]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".ndjson": _jsonl,
    ".ndjson.gz": _jsonl,
    ".json": _json,
    ".json.gz": _json,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".parquet": _parquet,
}
_SIZES: dict[str, Callable[[Path], int]] = {
    ".parquet": _parquet_rows,
    ".json": _json_size,
    ".json.gz": _json_size,
    ".csv": csv_size,
    ".csv.gz": csv_size,
}
_COLUMNS: dict[str, Callable[[Path, Fields], None]] = {
    ".parquet": _parquet_columns,
    ".csv": check_csv_columns,
    ".csv.gz": check_csv_columns,
}
