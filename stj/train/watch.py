"""What the driver shows of a training while it runs: its last step or what it waits for, and each restart of its ranks.

It reads only files (metrics.jsonl, and those of stj/train/progress.py), never Ray: a thread that is in Ray while Ray shuts
down can end the process. It has its own thread, because the driver's main thread waits in Ray until the training ends.
"""

import json
import logging
import threading
import time
from contextlib import suppress

from stj.storage.folder import Folder
from stj.text import LiveLine, Part, Parts, line_of, so_far
from stj.train.job import CHECKPOINTS, METRICS
from stj.train.metrics import StepMetrics, last_metrics, step_parts
from stj.train.progress import EXPORTING, PROGRESS, RESTARTS, STARTING, TAKING_STEPS

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LOOK_IN_STORE_S = 5.0  # Each look costs two listings; rank 0 brings new steps to a store only every 20 s.
_LOG_EVERY_S = 20.0  # Seconds between two lines in a log, as between two commits of a pass.
_CLOSE_S = 10.0  # A store that does not answer may hold the last look this long; the training's result matters more.


class TrainingWatch(threading.Thread):
    """Shows how far a training is, each second on the live line. A log gets a line every 20 s, and when a wait begins."""

    def __init__(self, name: str, folder: Folder, live_line: LiveLine, log_every_s: float = _LOG_EVERY_S) -> None:
        super().__init__(name="training-watch", daemon=True)
        self._name = name
        self._state = _TrainingState(folder)
        self._live_line = live_line
        self._look_s = _LOOK_S if folder.local else _LOOK_IN_STORE_S
        self._log_every_s = log_every_s
        self._closed = threading.Event()
        self._logged = ""
        self._restarts = 0
        self._waits = False
        self._log(self._show())
        self.start()

    def run(self) -> None:
        """Looks until it is closed, and once more after that."""
        while not self._closed.wait(self._look_s):
            self._look()
            if self._closed.is_set():  # A store took long to answer: the terminal may have gone to others.
                break
            line = self._show()
            begins_to_wait = self._state.waits and not self._waits
            self._waits = self._state.waits
            if begins_to_wait or time.monotonic() - self._logged_at >= self._log_every_s:
                self._log(line)
        self._look()

    def close(self) -> None:
        """Waits for a last look, and leaves the terminal to others."""
        self._closed.set()
        self.join(_CLOSE_S)
        if not self.is_alive() and self._state.last_step:
            self._log(line_of(self._named(self._state.last_step)))
        self._live_line.clear()

    def _look(self) -> None:
        with suppress(Exception):  # A store that is away, or a damaged file: it looks again. No file ends a training.
            self._state.look()
        for line in self._state.restarts[self._restarts :]:
            log.warning("%s: %s", self._name, line)
        self._restarts = len(self._state.restarts)

    def _show(self) -> str:
        parts = self._live_line.whole(self._named(self._state.parts()), self._state.eta_s)
        self._live_line.show(parts)
        return line_of(parts)

    def _named(self, parts: Parts) -> Parts:
        first, *others = parts
        return [first._replace(text=f"{self._name}: {first.text}"), *others]

    def _log(self, line: str) -> None:
        """Writes a line to the log, unless a terminal shows it or the log has it already."""
        self._logged_at = time.monotonic()
        if not self._live_line.live and line != self._logged:
            log.info("%s", line)
        self._logged = line


class _TrainingState:
    """What the files of a training say about it."""

    def __init__(self, folder: Folder) -> None:
        self._steps = 0
        self._beside = _ChangedFiles(folder)
        self._notes = _ChangedFiles(folder / CHECKPOINTS)
        self._activity = STARTING
        self._activity_began = time.monotonic()
        self._checkpoint = 0
        self.restarts: list[str] = []
        self.last_step: Parts = ()
        """The last step in words; empty if there is none."""
        self.eta_s: float | None = None
        """Seconds to the last step at the pace so far; None if that is not known."""
        self._begun = self._seen = (0, 0.0)
        """The first and the last step seen since the ranks started, each with its time."""

    def look(self) -> None:
        """Reads what has changed."""
        notes = self._notes.changed(PROGRESS, RESTARTS)
        if RESTARTS in notes:
            self.restarts = [str(line) for line in json.loads(notes[RESTARTS])["restarts"]]
        if PROGRESS in notes:
            progress = json.loads(notes[PROGRESS])
            self._begin(str(progress["activity"]))
            self._steps = int(progress["steps"]) or self._steps
            self._checkpoint = int(progress.get("checkpoint", 0))
        if self._activity in (TAKING_STEPS, EXPORTING):  # Until then, the file holds steps that a restart makes again.
            for text in self._beside.changed(METRICS).values():
                self._take(last_metrics(text))

    @property
    def waits(self) -> bool:
        """Whether the ranks wait for machines."""
        return self._activity.startswith(f"{STARTING}: ")

    def parts(self) -> Parts:
        """What the ranks do now, and for how long already until they take steps."""
        if self._activity == TAKING_STEPS and self.last_step:
            return self.last_step
        activity = "waiting for the first step" if self._activity == TAKING_STEPS else self._activity
        return [Part(so_far(activity, time.monotonic() - self._activity_began))]

    def _begin(self, activity: str) -> None:
        """Counts the time of an activity from its begin; what a start waits for is not another one."""
        if activity.partition(":")[0] != self._activity.partition(":")[0]:
            self._activity_began = time.monotonic()
        self._activity = activity

    def _take(self, metrics: StepMetrics | None) -> None:
        if metrics is None:
            self.last_step, self.eta_s = (), None
            return
        before, seen = self._seen, (metrics.step, time.monotonic())
        begun = seen if not before[0] or metrics.step < before[0] else self._begun  # Ranks that restart go back.
        steps, seconds = seen[0] - begun[0], seen[1] - begun[1]
        self.eta_s = seconds / steps * (self._steps - metrics.step) if steps else None
        self.last_step = step_parts(metrics, self._steps, self.eta_s, self._checkpoint)
        self._begun, self._seen = begun, seen


class _ChangedFiles:
    """A folder's files, read only if they have changed: metrics.jsonl may have megabytes."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._read: dict[str, tuple[int, int]] = {}

    def changed(self, *names: str) -> dict[str, str]:
        """The texts of those files that are new, or are not as they were at the last call."""
        texts = {}
        for name, size, written_ns in self._folder.listing():
            if name in names and self._read.get(name) != (size, written_ns):
                texts[name] = self._folder.read(name).decode()
                self._read[name] = size, written_ns
        return texts
