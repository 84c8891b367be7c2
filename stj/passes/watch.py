"""Watches a pass while it runs: its live line or log, Ray's metrics, and commits."""

import logging
import math
import threading
import time
from contextlib import suppress
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, RayError

from stj.passes.engine_waits import EngineWaits
from stj.passes.ledger import Ledger
from stj.passes.metrics import PassMetrics
from stj.passes.nodes import live_nodes
from stj.passes.progress import Progress
from stj.passes.routes import StreamCommitter
from stj.passes.spec import Pass
from stj.text import LiveLine, Part, Parts, line_of, so_far

log = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S = 30.0  # If the registry takes longer to answer, ask it again.
_LAST_ANSWER_TIMEOUT_S = 5.0  # At the end of a pass, its rows are not committed yet and the process may soon be killed.
_UPDATE_INTERVAL_S = 1.0
_LOOK_AT_MACHINES_S = 5.0  # An engine on a machine that is free has it by then, and nothing is said.


class PassWatch(threading.Thread):
    """Shows the progress and commits what is due, every second, even while no row arrives: some rows take long."""

    def __init__(
        self,
        spec: Pass,
        committer: StreamCommitter,
        registry: Any,
        live_line: LiveLine,
        log_interval_s: float,
        engine_waits: EngineWaits,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self._engine_waits = engine_waits
        self._waits = ""
        self._waits_logged = ("", -math.inf)
        self._looked_at = time.monotonic()
        self._committer = committer
        self._registry = registry
        self._dollars = spec.dollars
        name = "/".join(spec.model.path.split("/")[-2:])
        self._starting = "starting clients" if spec.model.endpoint else f"starting engines of {name}"
        self._progress = Progress(name=spec.name, total=spec.total, done=committer.finished.count)
        self._metrics = PassMetrics(spec.name, spec.run)
        self._live_line = live_line
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._last_error = ""
        self._restarts = 0
        self._started_at = self._logged_at = time.monotonic()
        self._log_interval_s = log_interval_s
        self._print(self._parts())
        self.start()

    def run(self) -> None:
        """Runs until `close`. An error is logged and tried again; if it lasts, the driver's own thread meets it too."""
        self._engine_waits.begin()
        while not self._closed.wait(_UPDATE_INTERVAL_S):
            try:
                with suppress(RayError):  # the words matter less than the commit that follows
                    self._look_at_machines()
                with self._lock:
                    self._update()
                    self._commit_due()
                with suppress(RayError):  # the next look finds them too
                    self._log_restarts()
            except Exception as error:
                if str(error) != self._last_error:
                    log.warning("%s: not committed for now: %s", self._progress.name, error)
                self._last_error = str(error)

    def add(self, table: pa.Table) -> None:
        """Takes finished rows, and counts the new ones."""
        with self._lock:
            self._progress.add(self._committer.add(table))
            if self._committer.due:
                self._try_update()  # the registry has the cost of these rows, which is committed with them
                self._commit_due()

    def commit(self) -> None:
        """Commits all rows that have arrived."""
        with self._lock:
            self._committer.commit()

    def update(self) -> None:
        """Updates the progress, the metrics and the live line."""
        with self._lock:
            self._try_update()

    def _try_update(self) -> None:
        with suppress(GetTimeoutError):  # on a machine with too much to do: the cost is that of the last look, and no row fails
            self._update()

    def _update(self) -> None:
        in_flight, spent = self._spend(_ANSWER_TIMEOUT_S)
        done, failed = self._committer.finished.count, self._committer.failed
        self._progress.update(done=done, failed=failed, in_flight=in_flight, usage=spent.usage)
        self._metrics.show(self._progress)
        self._metrics.show_engines(ray.get(self._registry.engine_states.remote(), timeout=_ANSWER_TIMEOUT_S))
        self._metrics.show_cost(spent, self._dollars(self._committer.cost))
        parts = self._parts()
        self._live_line.show(parts)
        if not self._rows_began:
            self._log_due(parts)

    def _spend(self, timeout_s: float) -> tuple[int, Ledger]:
        """Takes the cost so far. Returns it, with the number of rows on engines."""
        in_flight, spent = ray.get(self._registry.snapshot.remote(), timeout=timeout_s)
        self._committer.spend(spent)
        return in_flight, spent

    def _log_restarts(self) -> None:
        """Logs each engine that died or did not start, once."""
        restarts = ray.get(self._registry.restarts.remote(self._restarts), timeout=_LAST_ANSWER_TIMEOUT_S)
        self._restarts += len(restarts)
        machines = {node["NodeID"] for node in live_nodes()} if restarts else set()
        for restart in restarts:
            log.warning("%s: %s", self._progress.name, restart.line(machines))

    def _look_at_machines(self) -> None:
        """Finds out what missing engines wait for. It takes no lock, because the cluster's head may answer late."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_AT_MACHINES_S:
            return
        self._looked_at = now
        self._waits = self._engine_waits.look()
        words, logged_at = self._waits_logged
        if self._waits != words and now - logged_at > self._log_interval_s and not self._live_line.live:
            self._waits_logged = self._waits, now
            if self._waits:
                log.info("%s: %s", self._progress.name, self._waits)

    def _parts(self, *, every_category: bool = False) -> Parts:
        waits = [Part(self._waits)] if self._waits else []
        if self._rows_began:
            parts = [*self._progress.parts(every_category=every_category), *waits]
        else:
            doing = so_far(self._waits or self._starting, time.monotonic() - self._started_at)
            parts = [Part(f"{self._progress.name}: {doing}")]
        return self._live_line.whole(parts, self._progress.eta_s, self._dollars(self._committer.cost))

    @property
    def _rows_began(self) -> bool:
        return bool(self._progress.done or self._progress.failed or self._progress.in_flight)

    def _commit_due(self) -> None:
        if not self._committer.due:
            return
        self._log_due(self._parts(every_category=True))
        self._committer.commit()

    def _log_due(self, parts: Parts) -> None:
        """Logs the line if the last one is long enough ago."""
        now = time.monotonic()
        if not self._live_line.live and now - self._logged_at > self._log_interval_s:
            self._logged_at = now
            self._print(parts)

    def _print(self, parts: Parts) -> None:
        if self._live_line.live:
            self._live_line.show(parts)
        else:
            log.info("%s", line_of(parts))

    def close(self) -> None:
        """Ends the thread, takes the cost so far and removes the live line.

        A thread that calls Ray while Ray shuts down would crash.
        """
        self._closed.set()
        self.join()
        with suppress(Exception):  # after an error the registry may be gone too; the rows matter more than their cost
            self._metrics.show_cost(self._spend(_LAST_ANSWER_TIMEOUT_S)[1], self._dollars(self._committer.cost))
            self._log_restarts()
        self._metrics.end()
        self._engine_waits.end()
        self._live_line.clear()
