"""CSV files as streams of records, plain or compressed."""

import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from stj.errors import SourceError
from stj.sources.records import NOT_READABLE, BadRecord, Fields, Scanned, not_utf8

if TYPE_CHECKING:
    from _csv import Reader

# Python's limit of 131,072 characters a CSV field is below real conversations. A quote that never ends stops here, at 1 GB.
_CSV_FIELD = 1 << 28
_OTHER_BYTES = re.compile("[\udc80-\udcff]")  # how Python's `surrogateescape` writes bytes that are not UTF-8


def opened(file: Path) -> BinaryIO:
    """The content of a file, decompressed if its name ends with .gz."""
    return cast(BinaryIO, gzip.open(file)) if file.name.lower().endswith(".gz") else file.open("rb")


def read_csv(file: Path, fields: Fields) -> Iterator[Scanned]:
    """The records of a CSV file. Raises SourceError if its header lacks a field, or if a quote never ends."""
    with _csv_rows(file) as rows:
        names = next(rows, None)
        if names is None:
            return
        _check_header(names, file, fields)
        for values in rows:
            if values:  # not a blank line
                where = f"{file}, line {rows.line_num}"
                fault = _csv_fault(values, names)
                yield where, BadRecord(NOT_READABLE, f"{where}: {fault}") if fault else dict(zip(names, values, strict=True))


@contextmanager
def _csv_rows(file: Path) -> Iterator["Reader"]:
    """The rows of a CSV file, its header first. Raises SourceError, also while they are read, if quotes are in disorder."""
    csv.field_size_limit(_CSV_FIELD)
    with (
        opened(file) as content,
        io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        rows = csv.reader(text, strict=True)
        try:
            yield rows
        except csv.Error as error:
            raise SourceError(f"{file}, line {rows.line_num}: not CSV ({error})") from None


def _csv_fault(values: Sequence[str], names: Sequence[str]) -> str:
    """What is wrong with a row; empty if nothing is."""
    if len(values) != len(names):
        return f"{'more' if len(values) > len(names) else 'fewer'} values than the header has names ({len(names)})"
    return not_utf8("invalid bytes") if any(map(_OTHER_BYTES.search, values)) else ""


def _check_header(names: Sequence[str], file: Path, fields: Fields) -> None:
    if any(map(_OTHER_BYTES.search, names)):
        raise SourceError(f"{file}: {not_utf8('invalid bytes')}")
    fields.check_columns(names, str(file))


def check_csv_columns(file: Path, fields: Fields) -> None:
    """Raises SourceError if the header lacks a required field."""
    with _csv_rows(file) as rows:
        if (names := next(rows, None)) is not None:
            _check_header(names, file, fields)


def csv_size(file: Path) -> int:
    """The number of rows. They are parsed: whether a quote ends is known only then, and before a run starts is the time."""
    with _csv_rows(file) as rows:
        return max(0, sum(1 for values in rows if values) - 1)
