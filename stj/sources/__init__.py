"""Where instructions come from: `read_rows` streams them, and `source_identity` identifies them in keys."""

import itertools
from collections.abc import Iterator

from stj.config import SourceConfig
from stj.rows import Row
from stj.sources.directory import DataFiles, files_at
from stj.sources.files import Located, at_most, files_size, not_empty, read_files
from stj.sources.hub import is_hub_dataset, read_hub
from stj.sources.instructions import instruction_fields, rows_by_field
from stj.sources.wildchat import WILDCHAT_FIELDS, wildchat_rows


def read_rows(config: SourceConfig) -> Iterator[Row]:
    """The instructions of a source, one at a time; positions count from 0, and unusable rows are tombstones.

    Raises SourceError: at once if the file or data set is missing, later if a row cannot be read.
    """
    records = _records(config)
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


def source_size(config: SourceConfig) -> int | None:
    """Approximate number of rows of a source, without parsing them; None for a hub data set without `source.limit`.

    Raises SourceError if a named file is missing.
    """
    if is_hub_dataset(config.path):
        return config.limit
    return at_most(config.limit, files_size(_files(config).files))


def _records(config: SourceConfig) -> Iterator[Located]:
    fields = WILDCHAT_FIELDS if config.kind == "wildchat" else instruction_fields(config)
    if is_hub_dataset(config.path):
        return read_hub(config, fields)
    return read_files(_files(config).files, fields)


def _files(config: SourceConfig) -> DataFiles:
    return files_at(config.path, "source.path", split=config.split, config_name=config.config_name)
