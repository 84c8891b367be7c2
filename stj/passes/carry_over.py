"""Carries the finished rows of a pass over to a repaired source: a row that did not change is not asked of the model again.

A key holds the identity of the source's files, so that the repair of one line makes the whole pass stale. But what the model
gives for a row depends on the row alone: on its id, its dialogue and its pair, if it entered with one. A finished row is kept
if the source now gives the same row, at whatever position. It gets its position and its place there. Rows that are gone or
changed are left out. So are tombstones that no model was asked for: whether a row repeats another one depends on the other,
and the pass looks anew.

Memory holds 33 bytes for each row of the source, and one part. The kept rows are written to parts of the new key
(storage/artifacts.py), which replaces the old one in one step. A kill at any point loses nothing: either the old parts count,
under their old key, and the next start carries them over, or the new ones do.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stj.config import WRITTEN
from stj.errors import StjError
from stj.rows import GIVEN, TRAINING, Row, row_from_dict
from stj.rubrics import Rubric
from stj.storage.artifacts import Artifact, Key, read_artifact

_LONGEST_NUMBER = 18  # digits that 64 bits hold
_FIELDS = (
    "id",
    "position",
    "task",
    "subset",
    "turns",
    "language",
    "toxic",
    "redacted",
    "category",
    "pair",
    "origin",
    "candidates",
)
_GRADED = ("context", "response", "label", "rubrics")
_COLUMNS = (*_FIELDS, *_GRADED, "reference", "dropped", "error", "prompt_tokens", "output_tokens")
"""What decides whether a finished row is kept: not its judgments, which take most of a file."""


@dataclass(frozen=True, kw_only=True)
class CarriedOver:
    """What becomes of the finished rows of a pass."""

    kept: int
    """Rows that are as they were."""
    finished: int
    """Rows that were finished, as far as a model was asked for them."""
    left: int
    """Rows of the source that are still to be asked, if no limit ends the pass before."""

    @property
    def keeps_most(self) -> bool:
        """Whether at least half of the work is kept; if not, the wrong file may have been named."""
        return 2 * self.kept >= self.finished

    def words(self, *, limited: bool = False) -> str:
        """The numbers for the user."""
        gone = self.finished - self.kept
        return (
            f"{self.kept:,} finished rows are kept, {gone:,} {'is' if gone == 1 else 'are'} gone or changed, and "
            f"{'up to ' if limited else ''}{self.left:,} are to be asked"
        )


class SourceRows:
    """Where the rows of the source are now: their positions by what they hold."""

    def __init__(self, rows: Iterable[Row], *, with_pairs: bool) -> None:
        """Reads the rows. `with_pairs` if training rows enter the pass with their pairs."""
        self._with_pairs = with_pairs
        digests, positions, places = array("Q"), array("q"), _Places()
        for row in rows:
            if row.dropped is None:
                digests.append(self.digest(row))
                positions.append(row.position)
                places.append(row)
        self._places = places
        order = np.argsort(np.frombuffer(digests, np.uint64), kind="stable") if digests else np.empty(0, np.int64)
        self._digests = np.frombuffer(digests, np.uint64)[order] if digests else np.empty(0, np.uint64)
        self._positions = np.frombuffer(positions, np.int64)[order] if positions else np.empty(0, np.int64)
        self._order = order
        self._taken = np.zeros(len(order), np.bool_)

    @property
    def left(self) -> int:
        """Rows that were not taken."""
        return int(len(self._taken) - self._taken.sum())

    def digest(self, row: Row) -> int:
        """A hash of all that the source gives of a row; 64 bits, as ids have in `Seen`."""
        content = [getattr(row, name) for name in ("task", "id", "subset", "turns", "language", "toxic", "redacted")]
        content += [row.candidates, row.reference, row.context, row.response]
        content += [row.label, row.rubrics] if row.task != TRAINING else [_written(row)]
        if self._with_pairs or row.task != TRAINING:
            content += [row.pair, row.category]
        elif row.origin:
            content.append(row.pair if row.pair and row.pair.method == GIVEN else None)
        if row.origin:  # not its place, which moves when a line is inserted before it
            content += [row.origin.source, row.origin.labelled_by, row.origin.answer]
        return int.from_bytes(hashlib.blake2b(repr(content).encode(), digest_size=8).digest())

    def take(self, row: Row) -> "_Seat | None":
        """Where a row is now; None if the source does not hold it, or if it was taken before."""
        digest = np.uint64(self.digest(row))
        place = int(np.searchsorted(self._digests, digest))
        if place == len(self._digests) or self._digests[place] != digest or self._taken[place]:
            return None
        self._taken[place] = True
        return _Seat(int(self._positions[place]), self._places.of(int(self._order[place])))


class _Seat(NamedTuple):
    """Where a row is in the source now."""

    position: int
    place: str | None
    """The place of its origin; None for a row without one."""


class _Places:
    """The places of rows, in 16 bytes each: words that many rows share, and a number."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._kinds, self._numbers = array("q"), array("q")

    def append(self, row: Row) -> None:
        """Adds the place of the next row."""
        if row.origin is None:
            self._kinds.append(-1)
            self._numbers.append(-1)
            return
        words, _, number = row.origin.place.rpartition(" ")
        counted = len(number) <= _LONGEST_NUMBER and number.isdecimal() and f"{words} {int(number)}" == row.origin.place
        self._kinds.append(self._words.setdefault(words if counted else row.origin.place, len(self._words)))
        self._numbers.append(int(number) if counted else -1)

    def of(self, index: int) -> str | None:
        """The place of a row, by its number."""
        if (kind := self._kinds[index]) < 0:
            return None
        number = self._numbers[index]
        return self._known[kind] if number < 0 else f"{self._known[kind]} {number}"

    @cached_property
    def _known(self) -> list[str]:
        return list(self._words)


def _written(row: Row) -> tuple[Rubric, ...]:
    """The rubric that a training row enters a judging pass with; those of the library are set while it is graded."""
    return tuple(rubric for rubric in row.rubrics if rubric.name == WRITTEN)


def differs_only_by_content(artifact: Artifact, without_content: Callable[[Key], Key]) -> bool:
    """Whether a stale artifact has the asked key but for the content of its source, which `without_content` leaves out."""
    if artifact.state()[0] != "stale":
        return False
    return without_content(read_artifact(artifact.folder).key) == without_content(artifact.key)


def survey(artifact: Artifact, source: SourceRows) -> CarriedOver:
    """What `carry_over` would keep of a stale artifact; writes nothing."""
    kept = finished = 0
    for table in _tables(read_artifact(artifact.folder)):
        seats, asked = _seats(table, source)
        kept += sum(seat is not None for seat in seats)
        finished += asked
    return CarriedOver(kept=kept, finished=finished, left=source.left)


def carry_over(artifact: Artifact, source: SourceRows, refuse: Callable[[CarriedOver], None]) -> CarriedOver:
    """Rewrites a stale artifact under its new key, with the rows of the source that are finished. It is unfinished then.

    If `refuse` raises, the artifact stays as it was.
    """
    written: list[str] = []
    kept = finished = 0
    for table in _tables(read_artifact(artifact.folder)):
        seats, asked = _seats(table, source)
        finished += asked
        moved = _moved(table, seats)
        if moved.num_rows:
            written.append(artifact.write_part("part", moved))
            kept += moved.num_rows
    carried = CarriedOver(kept=kept, finished=finished, left=source.left)
    try:
        refuse(carried)
    except StjError:
        for name in written:
            artifact.folder.delete(name)
        raise
    artifact.take_over()
    return carried


def _tables(artifact: Artifact) -> Iterator[pa.Table]:
    for name in artifact.parts():
        with artifact.opened(name) as file:
            yield file.read()


def _seats(table: pa.Table, source: SourceRows) -> tuple[list[_Seat | None], int]:
    """Where each row is in the source now, None for rows that are not kept; and the number of rows that are finished."""
    rows = map(row_from_dict, table.select([name for name in _COLUMNS if name in table.column_names]).to_pylist())
    finished = [row if _is_finished(row) else None for row in rows]
    return [None if row is None else source.take(row) for row in finished], sum(row is not None for row in finished)


def _is_finished(row: Row) -> bool:
    """Whether the work on a row is done, and a model had a part in it."""
    if row.error is not None:
        return False
    return row.dropped is None or bool(row.category or row.prompt_tokens or row.output_tokens)


def _moved(table: pa.Table, seats: list[_Seat | None]) -> pa.Table:
    """The rows that have a seat, with its position and its place."""
    positions = pa.array([seat and seat.position for seat in seats], table.schema.field("position").type)
    table = _with_column(table, "position", positions)
    if "origin" in table.column_names and table["origin"].null_count < table.num_rows:
        origins = [
            {**origin, "place": seat.place} if origin and seat and seat.place else origin
            for origin, seat in zip(table["origin"].to_pylist(), seats, strict=True)
        ]
        table = _with_column(table, "origin", pa.array(origins, table.schema.field("origin").type))
    return table.filter(positions.is_valid())


def _with_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    number = table.schema.get_field_index(name)
    return table.set_column(number, table.schema.field(number), column)
