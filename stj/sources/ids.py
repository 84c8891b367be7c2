"""Ids that are unique in a source. Every artifact and all randomness depend on them.

An id has parts, such as a subset and the id in it, or a question, two models and a turn. It is compared part by part, so that
("a/b", "c") and ("a", "b/c") differ. An artifact holds it as one text, `joined_id`; `id_parts` reads that text again.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence

from stj.errors import SourceError
from stj.rows import Row, Turn
from stj.sources.dialogue import clean, wrong_type

RowId = tuple[str, ...]
"""The parts of an id."""

HELDOUT_PREFIX = "heldout/"
"""Prefix of the ids of held-out pairs; ids of training rows never begin with it."""

UNREAD_PREFIX = "unread/"
"""Prefix of the ids of rows that cannot be read; ids of other rows never begin with it."""

LABELLED_PREFIX = "labelled/"
"""Prefix of the ids of labelled judgments; ids of other rows never begin with it."""

PREFERENCES_PREFIX = "preferences/"
"""Prefix of the ids of training pairs that are not synthetic; ids of other rows never begin with it."""

REPEAT_PREFIX = "repeat/"
"""Prefix of the ids of repeated training examples; ids of rows never begin with it."""
REPEAT = f"^{REPEAT_PREFIX}[0-9]+/"
"""Pattern of what stands before a row's id in the id of a repeated example."""

_RECENT = 8192  # Digests in a set, 1 MB, before they are sorted into an array.


class Seen:
    """The ids read so far, as digests of 8 bytes: a million take 8 MB, regardless of their length.

    Two of a million ids have the same digest once in thirty million files. Sorted arrays hold the digests. Each is larger than
    the next one, so that there are few; two of the same size become one.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: list[array[int]] = []

    def add(self, row_id: str | RowId) -> bool:
        """Adds an id; False if it was there already."""
        parts = (row_id,) if isinstance(row_id, str) else row_id
        digest = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())
        if digest in self._recent or any(_holds(digests, digest) for digests in self._sorted):
            return False
        self._recent.add(digest)
        if len(self._recent) == _RECENT:
            self._sort()
        return True

    def _sort(self) -> None:
        digests = array("Q", sorted(self._recent))
        self._recent.clear()
        while self._sorted and len(self._sorted[-1]) <= len(digests):
            digests = _merged(self._sorted.pop(), digests)
        self._sorted.append(digests)


class ContentIds:
    """Ids of rows without an id in their source: a function of their content, so that no row's id depends on another row.

    The second row with the same content ends with -2. A hash of 64 bits that two contents share would only do the same.
    """

    def __init__(self) -> None:
        self._seen = Seen()
        self._repeats: dict[str, int] = {}

    def of(self, turns: Sequence[Turn]) -> str:
        """The id of a row with these turns."""
        text = repr([(turn.role, turn.content) for turn in turns])
        row_id = f"row-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
        if self._seen.add(row_id):
            return row_id
        self._repeats[row_id] = self._repeats.get(row_id, 1) + 1
        return f"{row_id}-{self._repeats[row_id]}"


def numbered(position: int) -> str:
    """The id of a pair or an example without an id in its file."""
    return f"row-{position:08d}"


def given_id(value: object, field: str, where: str, seen: Seen) -> str:
    """The id that the source gives. Raises SourceError unless it is text or a whole number, not empty, and new."""
    row_id = id_of(value, field, where)
    refuse_seen((row_id,), field, where, seen)
    return row_id


def id_of(value: object, field: str, where: str) -> str:
    """An id as a string. Raises SourceError if the value is empty, or neither a string nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise wrong_type(value, field, "a string or a whole number, and not empty", where)
    return clean(str(value))


def refuse_seen(row_id: RowId, field: str, where: str, seen: Seen, *, shown: str | None = None) -> None:
    """Raises SourceError if the id came before; the error has it as `shown`, else all its parts."""
    if not seen.add(row_id):
        text = (shown or joined_id(*row_id))[:60]
        raise SourceError(f"{where}: field '{field}' is {text!r}, which an earlier row has too; ids must be unique")


def training_id(row_id: str, field: str, where: str) -> str:
    """The id of a training row. Raises SourceError if it looks like the id of a held-out pair, or of a row that is not read."""
    reserved = {
        HELDOUT_PREFIX: "held-out pairs",
        UNREAD_PREFIX: "rows that cannot be read",
        PREFERENCES_PREFIX: "pairs of other sources",
        LABELLED_PREFIX: "labelled judgments",
        REPEAT_PREFIX: "repeated examples",
    }
    for prefix, rows in reserved.items():
        if row_id.startswith(prefix):
            raise SourceError(
                f"{where}: field '{field}' is {row_id[:60]!r}; ids that begin with {prefix} are reserved for {rows}"
            )
    return row_id


def joined_id(*parts: object) -> str:
    """Parts joined by slashes, so that different parts give different texts.

    A slash in any part but the last is written %2F, and a percent sign %25: "a/b" and "c" are not "a" and "b/c".
    """
    *first, last = map(str, parts)
    return "/".join([*(part.replace("%", "%25").replace("/", "%2F") for part in first), last])


def id_parts(text: str, count: int) -> RowId:
    """The parts that `joined_id` joined, `count` of them."""
    *first, last = text.split("/", count - 1)
    return (*(part.replace("%2F", "/").replace("%25", "%") for part in first), last)


def repeat_id(row_id: str, times: int) -> str:
    """The id of the example of a row that is learned for the n-th time; the row's id for the first."""
    return row_id if times == 1 else REPEAT_PREFIX + joined_id(times, row_id)


def id_in_task(row: Row) -> str:
    """A row's id without the name of its task, with which the ids of benchmarks and of judged files begin."""
    return row.id.removeprefix(f"{row.task}/")


def _holds(digests: "array[int]", digest: int) -> bool:
    place = bisect_left(digests, digest)
    return place < len(digests) and digests[place] == digest


def _merged(first: "array[int]", second: "array[int]") -> "array[int]":
    import numpy as np

    digests = np.concatenate([np.frombuffer(first, dtype=np.uint64), np.frombuffer(second, dtype=np.uint64)])
    digests.sort()
    return array("Q", digests.tobytes())
