"""Ids that are unique in a source: what every artifact, and all randomness, goes by."""

import hashlib

from stj.errors import SourceError
from stj.rows import Row
from stj.sources.dialogue import clean, wrong_type

HELDOUT_PREFIX = "heldout/"
"""What the ids of held-out pairs begin with, and those of training rows never do."""


class Seen:
    """The ids read so far, at 16 bytes of digest each: a million of them take about 100 MB, whatever their length."""

    def __init__(self) -> None:
        self._digests: set[int] = set()

    def add(self, row_id: str) -> bool:
        """Notes an id; False where it was there already."""
        digest = int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=16).digest())
        before = len(self._digests)
        self._digests.add(digest)
        return len(self._digests) > before


def numbered(position: int) -> str:
    """The id of a row whose source gives none."""
    return f"row-{position:08d}"


def given_id(value: object, field: str, where: str, seen: Seen) -> str:
    """An id that the source gives: a string or a whole number, not empty, never twice. Raises SourceError."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise wrong_type(value, field, "a string or a whole number, and not empty", where)
    row_id = clean(str(value))
    if not seen.add(row_id):
        raise SourceError(f"{where}: field '{field}' is {row_id[:60]!r}, which an earlier row has too; ids must be unique")
    return row_id


def training_id(row_id: str, field: str, where: str) -> str:
    """The id of a training row. Raises SourceError where it could be taken for a held-out pair's."""
    if row_id.startswith(HELDOUT_PREFIX):
        raise SourceError(
            f"{where}: field '{field}' is {row_id[:60]!r}; ids that begin with {HELDOUT_PREFIX} are those of held-out pairs"
        )
    return row_id


def id_in_task(row: Row) -> str:
    """A row's id without the name of its task, with which the ids of benchmarks and of judged files begin."""
    return row.id.removeprefix(f"{row.task}/")
