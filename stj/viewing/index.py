"""The index of all rows that a page shows: the sources joined by id, with one column for each thing that a filter asks.

A row of the index is one example. Several judges, or the judges of several iterations, may have judged it. The page gets the
columns as numbers, and filters them itself. Titles and texts stay here until the page asks for them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stj.rows import Row
from stj.viewing.columns import FACTS, FIRST, SECOND, UNKNOWN_DIFFERENCE, Columns, Whole, columns_of
from stj.viewing.sources import Source

NO_PREFERENCE = 3
"""A judge's preference if its judgments are for both answers equally, or for none. 0 is not judged, 1 the first, 2 another."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The rows of one source that one judge judged."""

    judge: str
    source: Source
    numbers: Whole
    """Numbers of the rows in the source."""
    ids: pa.Array
    columns: Columns
    """Columns of the whole source."""


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """What one judge said of each row of the index."""

    judge: str
    masks: Whole
    """Four bits for each label under which the first answer was shown, from A's, the lowest: verdicts for the first answer, for
    another, for neither, and unreadable ones."""
    prefers: Whole
    """0 not judged, 1 the first answer, 2 another, NO_PREFERENCE."""


class Index:
    """All rows of some sources."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sheets = [sheet for source in sources for sheet in _sheets(source)]
        codes, self.ids = _joined(self.sheets)
        self.rows = len(self.ids)
        self._places = [
            _place(sheet_codes, sheet.numbers, self.rows) for sheet_codes, sheet in zip(codes, self.sheets, strict=True)
        ]
        self._shown = self._first_with_answers()

    def find(self, row_id: str) -> int | None:
        """The number of the row with this id; None if there is none."""
        place: int = pc.index(self.ids, row_id).as_py()
        return None if place < 0 else place

    def id(self, number: int) -> str:
        """The id of a row."""
        row_id: str = self.ids[number].as_py()
        return row_id

    def title(self, number: int) -> str:
        """The start of a row's instruction."""
        sheet = self.sheets[self._shown[number]]
        title: str | None = sheet.columns.titles[int(self._places[self._shown[number]][number])].as_py()
        return title or ""

    def judged(self, number: int) -> Iterator[tuple[str, Row]]:
        """The row as each judge left it; first the one that the page shows the answers of."""
        shown = int(self._shown[number])
        for place in (shown, *(other for other in range(len(self.sheets)) if other != shown)):
            at = int(self._places[place][number])
            if at >= 0:
                yield self.sheets[place].judge, self.sheets[place].source.row(at)

    def numbers_of(self, source: Source, rows: Whole) -> Whole:
        """The numbers in the index of rows of a source."""
        held = [place for sheet, place in zip(self.sheets, self._places, strict=True) if sheet.source is source]
        return np.concatenate([np.flatnonzero(np.isin(place, rows)) for place in held])

    @cached_property
    def opinions(self) -> list[Opinions]:
        """What each judge said; judges without judgments are left out."""
        counts: dict[str, Whole] = {}
        for sheet, place in zip(self.sheets, self._places, strict=True):
            total = counts.setdefault(sheet.judge, np.zeros((self.rows, 4, 4), dtype=np.int64))
            here = place >= 0
            total[here] += sheet.columns.counts[place[here]]
        return [_opinions(judge, total) for judge, total in counts.items() if total.any()]

    def plain(self, numbers: Whole | None = None) -> dict[str, Any]:
        """The columns as JSON values, of all rows or of these: texts as places in a list of distinct texts, -1 for none."""
        chosen = np.arange(self.rows) if numbers is None else numbers
        return {
            "rows": len(chosen),
            "of": self.rows,
            "facts": {name: _coded(self._fact(name).take(pa.array(chosen))) for name in FACTS},
            "known": self._column("known")[chosen].tolist(),
            "difference": self._column("difference")[chosen].tolist(),
            "no_difference": UNKNOWN_DIFFERENCE,
            "judges": [
                {"name": each.judge, "masks": each.masks[chosen].tolist(), "prefers": each.prefers[chosen].tolist()}
                for each in self.opinions
            ],
        }

    def _first_with_answers(self) -> Whole:
        """For each row the sheet that shows it: the first that has its answers, else the first that has it."""
        shown = np.full(self.rows, -1)
        for with_answers in (True, False):
            for number, (sheet, place) in enumerate(zip(self.sheets, self._places, strict=True)):
                here = (place >= 0) & (shown < 0)
                here[here] &= sheet.columns.answers[place[here]] | (not with_answers)
                shown[here] = number
        return shown

    def _column(self, name: str) -> NDArray[Any]:
        column = np.zeros(self.rows, dtype=np.int64)
        for number, (sheet, place) in enumerate(zip(self.sheets, self._places, strict=True)):
            here = self._shown == number
            column[here] = getattr(sheet.columns, name)[place[here]]
        return column

    def _fact(self, name: str) -> pa.Array:
        """A fact of each row. A row that any judge judged is judged."""
        order = np.concatenate(
            [np.flatnonzero(self._shown == number) for number in range(len(self.sheets))] or [np.zeros(0, int)]
        )
        parts = [
            sheet.columns.facts[name].take(pa.array(place[self._shown == number]))
            for number, (sheet, place) in enumerate(zip(self.sheets, self._places, strict=True))
        ]
        values = pa.chunked_array(parts, type=pa.string()).combine_chunks().take(pa.array(np.argsort(order)))
        if name == "state" and self.opinions:
            asked = np.any([each.prefers > 0 for each in self.opinions], axis=0)
            values = pc.if_else(pa.array(asked), "judged", values)
        return values


def _sheets(source: Source) -> Iterator[Sheet]:
    columns = columns_of(source)
    if not source.by_prompt:
        numbers = np.arange(len(columns.ids))
        yield Sheet(judge=source.judge, source=source, numbers=numbers, ids=columns.ids, columns=columns)
        return
    for task in pc.unique(columns.facts["task"]).to_pylist():
        numbers = np.flatnonzero(pc.equal(columns.facts["task"], task).to_numpy(zero_copy_only=False))
        ids = pc.utf8_slice_codeunits(columns.ids.take(pa.array(numbers)), len(task) + 1)
        yield Sheet(judge=f"{source.judge} {task}", source=source, numbers=numbers, ids=ids, columns=columns)


def _joined(sheets: Sequence[Sheet]) -> tuple[list[Whole], pa.Array]:
    """For each sheet the numbers of its rows in the index, and the ids of the index."""
    if not sheets:
        return [], pa.array([], pa.string())
    keys = pa.chunked_array([_unique(sheet.ids) for sheet in sheets], type=pa.string()).combine_chunks()
    encoded = pc.dictionary_encode(keys)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return np.split(codes, np.cumsum([len(sheet.ids) for sheet in sheets])[:-1]), encoded.dictionary


def _unique(ids: pa.Array) -> pa.Array:
    """The ids, numbered if one comes more than once: no row is hidden behind another."""
    ids = pc.fill_null(ids, "")
    if len(pc.unique(ids)) == len(ids):
        return ids
    return pa.array(_numbered(ids.to_pylist()), pa.string())


def _numbered(ids: Sequence[str]) -> Iterator[str]:
    taken, times = set(ids), Counter[str]()
    for row_id in ids:
        times[row_id] += 1
        name = row_id
        while times[row_id] > 1 and (name := f"{row_id} ({times[row_id]})") in taken:
            times[row_id] += 1
        taken.add(name)
        yield name


def _place(codes: Whole, numbers: Whole, rows: int) -> Whole:
    """For each row of the index its number in a source; -1 if the source lacks it."""
    place = np.full(rows, -1)
    place[codes] = numbers
    return place


def _opinions(judge: str, counts: Whole) -> Opinions:
    bits = (counts > 0) @ np.array([1, 2, 4, 8])  # (rows, labels)
    masks = bits @ np.array([1, 1 << 4, 1 << 8, 1 << 12])
    for_first, for_other = counts[:, :, FIRST].sum(axis=1), counts[:, :, SECOND].sum(axis=1)
    prefers = np.select([masks == 0, for_first > for_other, for_other > for_first], [0, 1, 2], NO_PREFERENCE)
    return Opinions(judge=judge, masks=masks, prefers=prefers)


def _coded(values: pa.Array) -> dict[str, Any]:
    encoded = pc.dictionary_encode(values)
    codes = pc.fill_null(encoded.indices, -1)
    return {"names": encoded.dictionary.to_pylist(), "codes": codes.to_numpy(zero_copy_only=False).tolist()}
