"""Data sets of the hub, streamed: records are downloaded as they are read, and nothing is kept on disk."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stj.config import SourceConfig
from stj.errors import SourceError, StjError
from stj.hub_log import quiet_hub
from stj.sources.files import near_names
from stj.sources.records import Fields, Located, Record, Scanned, strict

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILE_SUFFIXES = {".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".gz", ".txt"}


def is_hub_dataset(location: str) -> bool:
    """Whether a location is a hub id like `allenai/WildChat-1M`, and no file or directory has that name."""
    path = Path(location)
    return bool(_HUB_ID.fullmatch(location)) and path.suffix.lower() not in _FILE_SUFFIXES and not path.exists()


def read_hub(config: SourceConfig, fields: Fields, *, key: str = "source.path", files: str | None = None) -> Iterator[Located]:
    """The records of one split of a hub data set, in order, as `scan_hub`; raises SourceError if one lacks a field."""
    return strict(scan_hub(config, fields, key=key, files=files))


def scan_hub(config: SourceConfig, fields: Fields, *, key: str = "source.path", files: str | None = None) -> Iterator[Scanned]:
    """The records of one split of a hub data set, in order; a BadRecord for one that lacks a required field.

    `key` names the setting in errors. `files` selects files of the data set; None reads the whole split.
    Raises SourceError if the hub cannot be reached, or has no such data set, revision, split or field.
    """
    from datasets import load_dataset  # seconds to import, and not needed for local files

    where = f"{config.path}{', config ' + config.config_name if config.config_name else ''}, split {config.split}"
    quiet_hub()
    chosen = {} if files is None else {"data_files": files}
    with _hub_errors(config, key):
        stream = load_dataset(
            config.path, name=config.config_name, **chosen, revision=config.revision, split=config.split, streaming=True
        )
        if stream.column_names is not None:
            there = stream.column_names
            needed = tuple(name if name in there else name.partition(".")[0] for name in fields.required)
            Fields(required=needed).check(there, where)
            stream = stream.select_columns([name for name in there if name in needed + fields.optional])
    return _located(config, fields, stream, where, key)


def check_reachable(config: SourceConfig, key: str = "source.path") -> None:
    """Raises SourceError if the hub has no such data set, or does not answer now; `read_hub` would try for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:  # Data sets that were read before come from this machine.
        return
    quiet_hub()
    try:
        HfApi().dataset_info(config.path, revision=config.revision)
    except Exception as error:  # the client's errors, and those of the HTTP library that it happens to use
        raise _not_provided(config, key, error) from None


def cached_copy(path: str, revision: str | None) -> Path | None:
    """The files of a data set in the hub's cache on this machine; None if it holds none. Asks no network."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    if not _HUB_ID.fullmatch(path):
        return None
    folder = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=path, repo_type="dataset")
    reference = folder / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    copy = folder / "snapshots" / commit if commit else None
    return copy if copy is not None and copy.is_dir() else None


def _located(config: SourceConfig, fields: Fields, stream: Iterable[Record], where: str, key: str) -> Iterator[Scanned]:
    with _hub_errors(config, key):
        for number, record in enumerate(stream):
            place = f"{where}, row {number}"
            yield place, fields.checked(record, place)


@contextmanager
def _hub_errors(config: SourceConfig, key: str) -> Iterator[None]:
    """Turns errors of the hub and the network into one line for the user."""
    try:
        yield
    except StjError:  # about a row that came
        raise
    except Exception as error:  # of the library, of the client, or of the HTTP library that it happens to use
        raise _not_provided(config, key, error) from None


def _not_provided(config: SourceConfig, key: str, error: Exception) -> SourceError:
    return SourceError(
        f"{key}={config.path}: not a local file{near_names(Path(config.path))}, and the hub did not provide it "
        f"({(str(error).splitlines() or [type(error).__name__])[0]}). Check the id, config, split and revision, the "
        "network and HF_TOKEN, or name a local file"
    )
