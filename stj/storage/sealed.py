"""JSON records that name their own SHA-256, so that a damaged one is never taken for data.

    {"format": 2, ..., "sha256": "9f86d0..."}

The hash is that of all other fields as JSON with sorted keys: a record may be indented otherwise, and stays whole.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from stj.errors import ArtifactError
from stj.storage.folder import Folder, json_bytes

FORMAT = 2
"""Of all records; 1 had no hashes."""
_DIGEST = "sha256"


def write_sealed(folder: Folder, name: str, record: Mapping[str, Any]) -> None:
    """Writes a record with its format and its hash, atomically."""
    folder.write(name, sealed_bytes(record))


def sealed_bytes(record: Mapping[str, Any]) -> bytes:
    """The content of the file that `write_sealed` writes."""
    whole = json.loads(json.dumps({"format": FORMAT, **record}))  # as it is read: JSON makes numbers in keys texts
    return json_bytes({**whole, _DIGEST: _digest(whole)})


def read_sealed(folder: Folder, name: str, remedy: str, if_older: str = "", *, fields: Collection[str] = ()) -> dict[str, Any]:
    """The record that `write_sealed` wrote, without format and hash.

    Raises ArtifactError, with the remedy, if it is damaged, lacks one of the fields as a record of another kind does, or is of
    an older version, which may have a remedy of its own; and StjError if it cannot be read.
    """
    where = (folder / name).uri
    try:
        record = json.loads(folder.read(name))
    except (ValueError, RecursionError):
        raise ArtifactError(f"{where}: damaged: not JSON; {remedy}") from None
    if not isinstance(record, dict):
        raise ArtifactError(f"{where}: damaged: a JSON {type(record).__name__}, and an object is needed; {remedy}")
    version = record.get("format")
    if type(version) is int and version > FORMAT:
        raise ArtifactError(
            f"{where}: has format {version}, and this stj reads format {FORMAT}: a newer stj wrote it, so update stj; if none "
            f"did, it is damaged: {remedy}"
        )
    if version == 1 and _DIGEST not in record:
        raise ArtifactError(f"{where}: an older stj wrote it, without the hashes that show damage; {if_older or remedy}")
    if record.pop(_DIGEST, None) != _digest(record) or record.pop("format", None) != FORMAT:
        raise ArtifactError(f"{where}: damaged: its content does not have the SHA-256 that it names; {remedy}")
    if lacking := [field for field in fields if field not in record]:
        raise ArtifactError(f"{where}: no {name} that stj writes: it has no '{lacking[0]}'; {remedy}")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
