"""Where instructions come from: `read_rows` streams them, and `source_identity` identifies them in keys."""

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from stj.config import SourceConfig
from stj.rows import Row
from stj.sources.directory import DataFiles, files_at
from stj.sources.files import at_most, check_columns, files_size, not_empty, scan_files
from stj.sources.hub import is_hub_dataset, scan_hub
from stj.sources.instructions import instruction_fields, rows_by_field
from stj.sources.records import Fields, Scanned
from stj.sources.wildchat import WILDCHAT_FIELDS, wildchat_rows


def read_rows(config: SourceConfig) -> Iterator[Row]:
    """The instructions of a source, one at a time; positions count from 0, and unusable rows are tombstones.

    Raises SourceError: at once if the file or data set is missing, later if a file cannot be read any further.
    """
    return _rows(_records(config), config)


def read_located(config: SourceConfig) -> Iterator[tuple[str, Row]]:
    """The rows of `read_rows`, each with its place in words: file and line, or data set and row."""
    records, again = itertools.tee(_records(config))  # One record makes one row, so at most one waits between the two.
    return zip((where for where, _ in again), _rows(records, config), strict=False)


def read_at(config: SourceConfig, positions: Collection[int]) -> Iterator[tuple[str, Row]]:
    """The rows of `read_rows` at these positions alone, each with its place: records between them are not made into rows.

    An id that is made of the content does not count the rows of the same content before it.
    """
    last = max(positions, default=-1) + 1
    for position, (where, record) in enumerate(itertools.islice(_records(config), min(last, config.limit or last))):
        if position in positions:
            yield from ((where, replace(row, position=position)) for row in _rows([(where, record)], config))


def _rows(records: Iterable[Scanned], config: SourceConfig) -> Iterator[Row]:
    rows = wildchat_rows(records) if config.kind == "wildchat" else rows_by_field(records, config)
    return not_empty(
        itertools.islice(rows, config.limit), f"source.path={config.path}: holds no rows; name a source with instructions"
    )


def source_identity(config: SourceConfig) -> str:
    """Identity of a source in keys: a hub id, revision and split, or a hash of the files.

    Raises SourceError if a named file is missing.
    """
    if is_hub_dataset(config.path):
        name = f"{config.path}/{config.config_name}" if config.config_name else config.path
        return f"{name}@{config.revision or 'main'}/{config.split}"
    return _files(config).identity()


def check_source(config: SourceConfig) -> int | None:
    """The size of a source, with what a run would learn only behind its first rows: the columns of every file, torn archives,
    and quotes of CSV that never end.

    Raises SourceError for each of them, and if a named file is missing.
    """
    if not is_hub_dataset(config.path):
        check_columns(_files(config).files, _fields(config))
    return source_size(config)


def source_size(config: SourceConfig) -> int | None:
    """Approximate number of rows of a source; None for a hub data set without `source.limit`.

    Raises SourceError if a named file is missing or torn.
    """
    if is_hub_dataset(config.path):
        return config.limit
    return at_most(config.limit, files_size(_files(config).files))


def _fields(config: SourceConfig) -> Fields:
    return WILDCHAT_FIELDS if config.kind == "wildchat" else instruction_fields(config)


def _records(config: SourceConfig) -> Iterator[Scanned]:
    if is_hub_dataset(config.path):
        return scan_hub(config, _fields(config))
    return scan_files(_files(config).files, _fields(config))


def _files(config: SourceConfig) -> DataFiles:
    return files_at(config.path, "source.path", split=config.split, config_name=config.config_name)
