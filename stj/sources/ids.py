"""Ids that are unique in a source. Every artifact and all randomness depend on them."""

import hashlib

from stj.errors import SourceError
from stj.rows import Row
from stj.sources.dialogue import clean, wrong_type

HELDOUT_PREFIX = "heldout/"
"""Prefix of the ids of held-out pairs; ids of training rows never begin with it."""


class Seen:
    """The ids read so far, as digests of 16 bytes: a million take about 100 MB, regardless of their length."""

    def __init__(self) -> None:
        self._digests: set[int] = set()

    def add(self, row_id: str) -> bool:
        """Adds an id; False if it was there already."""
        digest = int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=16).digest())
        before = len(self._digests)
        self._digests.add(digest)
        return len(self._digests) > before


def numbered(position: int) -> str:
    """The id of a row without an id in its source."""
    return f"row-{position:08d}"


def given_id(value: object, field: str, where: str, seen: Seen) -> str:
    """The id that the source gives. Raises SourceError unless it is text or a whole number, not empty, and new."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise wrong_type(value, field, "a string or a whole number, and not empty", where)
    row_id = clean(str(value))
    if not seen.add(row_id):
        raise SourceError(f"{where}: field '{field}' is {row_id[:60]!r}, which an earlier row has too; ids must be unique")
    return row_id


def training_id(row_id: str, field: str, where: str) -> str:
    """The id of a training row. Raises SourceError if it looks like the id of a held-out pair."""
    if row_id.startswith(HELDOUT_PREFIX):
        raise SourceError(
            f"{where}: field '{field}' is {row_id[:60]!r}; ids that begin with {HELDOUT_PREFIX} are reserved for held-out pairs"
        )
    return row_id


def joined_id(*parts: object) -> str:
    """Parts joined by slashes, so that different parts give different ids.

    A slash in any part but the last is written %2F, and a percent sign %25: "a/b" and "c" are not "a" and "b/c".
    """
    *first, last = map(str, parts)
    return "/".join([*(part.replace("%", "%25").replace("/", "%2F") for part in first), last])


def id_in_task(row: Row) -> str:
    """A row's id without the name of its task, with which the ids of benchmarks and of judged files begin."""
    return row.id.removeprefix(f"{row.task}/")
