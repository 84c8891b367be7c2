"""Which rows of a run a word means, and where in their sources rows lie: the ends of a trace.

A row that became a pair elsewhere knows its place (`origin`). An instruction knows its position and its id, so its source is
read again, as a stream, up to the position; if that does not hold its text any more, up to the id. An id is a function of the
row alone, and the place is that of the source as it is now.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from stj.config import Config
from stj.errors import SourceError
from stj.package_files import package_path
from stj.pair_sources import PairSource
from stj.rows import TRAINING, Row
from stj.sources import read_at, read_located
from stj.sources.hub import is_hub_dataset
from stj.sources.ids import HELDOUT_PREFIX, PREFERENCES_PREFIX, joined_id
from stj.sources.labelled import KEY as LABELLED
from stj.sources.labelled import LabelledGrade, LabelledVerdict, read_labelled
from stj.sources.preferences import read_preferences

_GRADES = ("/grade-chosen", "/grade-rejected")
_UNITS = ("line", "row", "item")
"""What a place counts: lines of text, rows of Parquet files, items of a JSON list."""
_LABELLED_PREFIX = "labelled/"
_LONGEST_NUMBER = 18  # digits; Python refuses to read 5,000


@dataclass(frozen=True, kw_only=True)
class SourcePlace:
    """Where a row comes from."""

    source: str
    """The name of its source in `preferences`, or the setting that names its source."""
    place: str | None
    """File and line, or data set and row; None if it is not known."""
    labelled_by: str | None
    """Who says which answer is better; None for a row that is no training pair."""
    note: str | None = None
    """Why its place is not known."""


@dataclass(kw_only=True)
class Sought:
    """What a word means."""

    ids: set[str]
    """Ids that rows may have."""
    places: set[str]
    """Places of origin that rows may have."""
    known: dict[str, SourcePlace] = field(default_factory=dict)
    """Rows that a source holds at the place, by their ids."""
    refusal: str | None = None
    """Why a place names no row of the run; None for a word that is no place."""


class Origins:
    """The sources of a run, as its config names them."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def sought(self, word: str) -> Sought:
        """What a word means: an id, an id in a source, or a place."""
        row_id = next((word.removesuffix(end) for end in _GRADES if word.endswith(end)), word)
        sought = Sought(ids=set(self._ids(row_id)), places={word})
        file, _, number = word.rpartition(":")
        if not file or not number.isdecimal() or len(number) > _LONGEST_NUMBER:
            return sought
        whole = file if is_hub_dataset(file) else self._whole(file)
        sought.places |= {f"{named}, {unit} {int(number)}" for named in (file, whole) for unit in _UNITS}
        if os.path.isfile(whole):
            self._read_place(sought, whole, int(number))
        return sought

    def _whole(self, file: str) -> str:
        """The absolute path of a file; a name alone may be that of a file which the run reads elsewhere."""
        whole = os.path.abspath(os.path.expanduser(package_path(file)))
        if os.path.isfile(whole) or os.path.basename(file) != file:
            return whole
        read = [self._config.source.path, *(source.path or "" for source in self._config.preferences)]
        named = {path for path in (*read, *self._config.examples.labelled) if os.path.basename(path) == file}
        return os.path.abspath(os.path.expanduser(package_path(named.pop()))) if len(named) == 1 else whole

    def places(self, rows: Mapping[str, Row], sought: Sought, ids: Sequence[str]) -> dict[str, SourcePlace]:
        """Where these ids come from; `rows` are those of them that passes hold."""
        places = {row_id: place for row_id, place in sought.known.items() if row_id in ids}
        for row_id, row in rows.items():
            if row.origin is not None:
                places[row_id] = _of_origin(row)
            elif row.task != TRAINING:
                places[row_id] = SourcePlace(source=row.task, place=None, labelled_by=None)
        left = [row_id for row_id in ids if row_id not in places]
        instructions = {row_id: rows[row_id] for row_id in left if row_id in rows}
        labelled = [row_id for row_id in left if row_id not in rows]
        return places | self._of_instructions(instructions) | self._of_labelled(labelled)

    def _ids(self, word: str) -> Iterator[str]:
        yield word
        yield f"{HELDOUT_PREFIX}{word}"
        for number, _ in enumerate(self._config.examples.labelled):
            yield f"{_LABELLED_PREFIX}{number}/{word}"
        for source in self._config.preferences:
            if source.given:
                copies = ("", *(f"-{copy}" for copy in range(2, source.per_question + 1)))
                yield from (PREFERENCES_PREFIX + joined_id(source.title, word + copy) for copy in copies)

    def _read_place(self, sought: Sought, file: str, number: int) -> None:
        """Adds the rows that a line of a file gives; a line that gives none is a refusal."""
        wanted = {f"{file}, {unit} {number}" for unit in _UNITS}
        for found in (self._instructions_at, self._pairs_at, self._labelled_at):
            sought.known.update(found(file, wanted))
        for source in self._config.preferences:
            if source.kind == "helpsteer2" and not sought.known:  # A pair has two lines, and its place is the first.
                sought.known.update(self._pairs_at(file, {f"{file}, {unit} {number - 1}" for unit in _UNITS}, source))
        sought.ids |= sought.known.keys()
        if not sought.known:
            named = [self._config.source.path] if self._config.makes_synthetic else []
            named += [source.path for source in self._config.preferences if source.path]
            named += self._config.examples.labelled
            sought.refusal = (
                f"this place gives no row of the run; it reads {', '.join(named) or 'data sets of the hub'}, and "
                "lines count from 1, rows of Parquet and items of JSON from 0"
            )

    def _instructions_at(self, file: str, wanted: set[str]) -> Iterator[tuple[str, SourcePlace]]:
        if self._config.makes_synthetic and _holds(self._config.source.path, file):
            at = ((row.id, self._instruction(place)) for place, row in read_located(self._config.source) if place in wanted)
            yield from islice(at, 1)

    def _pairs_at(self, file: str, wanted: set[str], only: PairSource | None = None) -> Iterator[tuple[str, SourcePlace]]:
        for source in self._config.preferences:
            if source.path is not None and _holds(source.path, file) and only in (None, source):
                at = (row for row in read_preferences([source]) if row.origin and row.origin.place in wanted)
                yield from ((row.id, _of_origin(row)) for row in islice(at, source.per_question))

    def _labelled_at(self, file: str, wanted: set[str]) -> Iterator[tuple[str, SourcePlace]]:
        if any(_holds(location, file) for location in self._config.examples.labelled):
            at = (item for item in self._read_labelled() if item.place in wanted)
            yield from ((item.row.id, _of_labelled(item.place)) for item in islice(at, 1))

    def _read_labelled(self) -> Iterator[LabelledGrade | LabelledVerdict]:
        return read_labelled(self._config.examples.labelled, self._config.grading.default_rubric)

    def _instruction(self, place: str | None, note: str | None = None) -> SourcePlace:
        made = next((source.title for source in self._config.preferences if not source.given), "synthetic")
        return SourcePlace(source=made, place=place, labelled_by="construction", note=note)

    def _of_instructions(self, rows: Mapping[str, Row]) -> dict[str, SourcePlace]:
        """The places of instructions, whose ids and rows these are."""
        path = self._config.source.path
        if is_hub_dataset(path):
            return {
                row_id: self._instruction(None, f"{path} on the hub; position {row.position} of all rows")
                for row_id, row in rows.items()
            }

        def located() -> Iterator[tuple[str, str]]:
            yield from ((row.id, place) for place, row in read_located(self._config.source))

        found = self._unmoved(rows)
        moved, note = _first_places(located(), rows.keys() - found.keys())
        found |= moved
        return {row_id: self._instruction(found.get(row_id), None if row_id in found else note) for row_id in rows}

    def _unmoved(self, rows: Mapping[str, Row]) -> dict[str, str]:
        """The places of those rows whose position in the source still holds their text, by their ids."""
        of_position = {row.position: row_id for row_id, row in rows.items()}
        with suppress(SourceError):  # whoever reads the whole source says why
            return {
                of_position[row.position]: place
                for place, row in read_at(self._config.source, of_position)
                if row.turns == rows[of_position[row.position]].turns
            }
        return {}

    def _of_labelled(self, ids: Collection[str]) -> dict[str, SourcePlace]:
        if any(map(is_hub_dataset, self._config.examples.labelled)):
            return {row_id: _of_labelled(None, "on the hub; its number is in the id") for row_id in ids}

        def located() -> Iterator[tuple[str, str]]:
            yield from ((item.row.id, item.place) for item in self._read_labelled())

        found, note = _first_places(located(), ids)
        return {row_id: _of_labelled(found.get(row_id), None if row_id in found else note) for row_id in ids}


def _first_places(located: Iterator[tuple[str, str]], ids: Collection[str]) -> tuple[dict[str, str], str]:
    """The places of ids, read as far as the last of them, and why others have none."""
    left, places = set(ids), dict[str, str]()
    try:
        for row_id, place in located if left else ():
            if row_id in left:
                places[row_id] = place
                left.remove(row_id)
                if not left:
                    break
    except SourceError as error:
        return places, str(error)
    return places, "its source does not hold it any more"


def _of_origin(row: Row) -> SourcePlace:
    assert row.origin, f"row {row.id} has no origin"
    return SourcePlace(source=row.origin.source, place=row.origin.place, labelled_by=row.origin.labelled_by)


def _of_labelled(place: str | None, note: str | None = None) -> SourcePlace:
    return SourcePlace(source=LABELLED, place=place, labelled_by="file", note=note)


def _holds(location: str, file: str) -> bool:
    """Whether a setting names a file, or a directory that holds it."""
    if is_hub_dataset(location):
        return False
    whole = os.path.abspath(os.path.expanduser(package_path(location)))
    return file == whole or file.startswith(whole.rstrip("/") + "/")
