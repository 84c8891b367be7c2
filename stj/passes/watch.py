"""What watches a pass while it runs: its live line, Ray's metrics, and the commits that are due."""

import logging
import threading
import time
from typing import Any

import pyarrow as pa
import ray

from stj.passes.commit import RowCommitter
from stj.passes.metrics import PassMetrics
from stj.passes.progress import Progress
from stj.passes.spec import Pass
from stj.text import LiveLine

log = logging.getLogger(__name__)

_ANSWER_S = 30.0  # which the ward may take, before it is asked again
_LOOK_S = 1.0


class PassWatch(threading.Thread):
    """Every second shows how far the pass is, and commits what is due: also while no row comes, for some take long."""

    def __init__(self, spec: Pass, writer: RowCommitter, ward: Any, live_line: LiveLine, interval_s: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._writer = writer
        self._ward = ward
        self._progress = Progress(name=spec.name, total=spec.total, done=writer.finished.count)
        self._metrics = PassMetrics(spec.name)
        self._live_line = live_line
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._said = ""
        self._line_at = time.monotonic()
        self._line_every_s = interval_s
        self._say(self._line())
        self.start()

    def run(self) -> None:
        """Until it is closed. What goes wrong here is told and tried again: if it lasts, the driver's own thread meets it."""
        while not self._closed.wait(_LOOK_S):
            try:
                with self._lock:
                    self._look()
                    self._commit_due()
            except Exception as error:
                if str(error) != self._said:
                    log.warning("%s: not committed for now: %s", self._progress.name, error)
                self._said = str(error)

    def add(self, table: pa.Table) -> None:
        """Takes finished rows, and counts those that are new."""
        with self._lock:
            self._progress.add(self._writer.add(table))
            self._commit_due()

    def look(self) -> None:
        """Brings everything up to date."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        in_flight, self._writer.spent = ray.get(self._ward.look.remote(), timeout=_ANSWER_S)
        done, failed = self._writer.finished.count, self._writer.failed
        self._progress.look(done=done, failed=failed, in_flight=in_flight, usage=self._writer.spent.usage)
        self._metrics.show(self._progress)
        self._live_line.show(self._line())

    def _line(self, *, every_category: bool = False) -> str:
        if self._progress.done or self._progress.failed or self._progress.in_flight:
            return self._progress.line(every_category=every_category)
        return f"{self._progress.name}: starting engines"

    def _commit_due(self) -> None:
        if not self._writer.due:
            return
        now = time.monotonic()
        if not self._live_line.live and now - self._line_at > self._line_every_s:  # nobody watches: it goes to the log
            self._line_at = now
            self._say(self._line(every_category=True))
        self._writer.commit()

    def _say(self, line: str) -> None:
        if self._live_line.live:
            self._live_line.show(line)
        else:
            log.info("%s", line)

    def close(self) -> None:
        """Leaves the terminal to others, and Ray: a thread that is in Ray while that shuts down would crash."""
        self._closed.set()
        self.join()
        self._live_line.clear()
