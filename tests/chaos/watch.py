"""How far a run has come, by what it has on disk."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from stj.storage.artifacts import MANIFEST, ROWS, STARTED
from stj.train.job import CHECKPOINTS, METRICS
from stj.train.progress import EXPORTING, PROGRESS
from tests.chaos.plan import EXPORTS, PASSES, TRAININGS, Fault, Place


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows of each pass and steps of each training."""

    of: dict[Place, int]

    @classmethod
    def in_run(cls, root: Path) -> "Sizes":
        """Those of a finished run."""
        rows = {place: json.loads((root / place / MANIFEST).read_text())["rows"] for place in PASSES}
        return cls(of=rows | {place: json.loads((root / place / MANIFEST).read_text())["steps"] for place in TRAININGS})


class RunWatch:
    """Looks at a run's files, again and again, and counts the steps that were made a second time."""

    def __init__(self, root: Path, sizes: Sizes) -> None:
        self._root = root
        self._sizes = sizes
        self._rows: dict[Path, int] = {}
        self._steps = dict.fromkeys(TRAININGS, 0)
        self.steps_again = 0
        """Steps that the files show to have been undone. One that no look has seen is not among them."""

    def look(self) -> None:
        """Notes the steps that are done, and those that have been undone since the last look."""
        for place in TRAININGS:
            steps = self._steps_of(place)
            self.steps_again += max(0, self._steps[place] - steps)
            self._steps[place] = steps

    def reached(self, fault: Fault) -> bool:
        """Whether the run has come to the place of a fault, and to its share of it."""
        place = fault.place
        if place == "report":
            return (self._root / PASSES[-1] / MANIFEST).exists()
        if place in EXPORTS:
            return self._exports(place)
        if self.over(place):
            return True
        if place in PASSES:
            return (self._root / place / STARTED).exists() and self._rows_of(place) >= fault.share * self._sizes.of[place]
        begun = (self._root / place).parent / CHECKPOINTS / PROGRESS
        return begun.exists() and self._steps[place] >= int(fault.share * self._sizes.of[place])

    def over(self, place: Place) -> bool:
        """Whether the place is behind the run."""
        if place == "report":
            return (self._root / "report.json").exists()
        return (self._root / place.replace("export", "model") / MANIFEST).exists()

    def _exports(self, place: Place) -> bool:
        training = _training_of(place)
        steps, all_steps = self._steps[training], self._sizes.of[training]
        progress = (self._root / place).parent / CHECKPOINTS / PROGRESS
        return self.over(place) or steps >= all_steps or (steps > 0 and EXPORTING in _text(progress))

    def _rows_of(self, place: Place) -> int:
        for part in (self._root / place / ROWS).glob("part-*.parquet"):
            if part not in self._rows:
                self._rows[part] = pq.read_metadata(part).num_rows
        return sum(rows for part, rows in self._rows.items() if part.parent == self._root / place / ROWS)

    def _steps_of(self, place: Place) -> int:
        return _text((self._root / place).parent / METRICS).count("\n")


def _training_of(place: Place) -> Place:
    return TRAININGS[EXPORTS.index(place)]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
