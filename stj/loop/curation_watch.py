"""What curation shows while it runs, and what its engines cost: `ledger.json` beside its decisions, as beside rows."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol, Self

from stj.config import Config, ModelConfig
from stj.passes.ledger import Ledger, read_ledger
from stj.rows import Row
from stj.storage.folder import Folder
from stj.text import LiveLine, Part, Parts, line_of, so_far

log = logging.getLogger(__name__)

_LOOK_S = 1.0


class Engines(Protocol):
    """Engines that embed, as far as they are watched."""

    @property
    def spent(self) -> Ledger:
        """What they have cost so far in this start."""
        ...


class CurationWatch:
    """Shows how far curation is every second, and writes what its engines cost every `engine.commit_interval_s`."""

    def __init__(self, name: str, folder: Folder, config: Config, line: LiveLine, total: int | None) -> None:
        """`total` is about how many rows there are; None if that is not known."""
        self._name, self._folder, self._line, self._total = name, folder, line, total
        self._interval_s = config.engine.commit_interval_s
        self._model: ModelConfig | None = config.curate.pooled_model
        self._price = config.dollars_per_engine_hour(self._model) if self._model else None
        self._engines: Engines | None = None
        self._earlier = read_ledger(folder)
        self._spent = Ledger()
        self._read, self._whole = 0, False
        self._began = self._written = time.monotonic()
        self._phase_began = self._began
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="curation", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes the cost, also that of a start which failed."""
        self._closed.set()
        self._thread.join()
        with suppress(Exception):  # what went wrong before, a full disk perhaps, matters more than its cost
            self._write_cost()
        self._line.clear()

    def watch_engines(self, engines: Engines) -> None:
        """From now on these engines cost something."""
        self._engines = engines

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, which it counts."""
        self._phase_began = time.monotonic()
        for row in rows:
            self._read += 1
            yield row
        self._whole, self._phase_began = True, time.monotonic()

    def facts(self) -> dict[str, Any]:
        """Seconds of this start and, with engines, their cost in all starts: for the manifest."""
        ledger = {"ledger": self._cost.facts(0, self._dollars)} if self._engines else {}
        return {"seconds": round(time.monotonic() - self._began, 1), **ledger}

    @property
    def _cost(self) -> Ledger:
        """Of all starts."""
        return self._earlier + self._spent + Ledger(starts=1)

    @property
    def _dollars(self) -> float | None:
        return None if self._price is None else self._cost.engine_seconds / 3600 * self._price

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_S):
            try:
                self._update()
            except Exception as error:  # a full disk, a store that does not answer: the next look may succeed
                log.debug("%s: not shown: %s", self._name, error)

    def _update(self) -> None:
        if self._engines:
            self._spent = self._engines.spent
        parts = self._parts()
        self._line.show(parts)
        if time.monotonic() - self._written > self._interval_s:
            if not self._line.live:
                log.info("%s", line_of(parts))
            self._write_cost()

    def _write_cost(self) -> None:
        self._written = time.monotonic()
        if self._engines:
            self._spent = self._engines.spent
            self._cost.write(self._folder)

    def _parts(self) -> Parts:
        seconds = time.monotonic() - self._phase_began
        doing = f"starting engines of {self._model.path}" if self._model else "loading the embedding"
        if self._whole:
            doing = f"comparing and grouping {self._read:,} rows"
        if self._whole or not self._read:
            return self._line.whole([Part(f"{self._name}: {so_far(doing, seconds)}")], None, self._dollars)
        rows = f"{self._read:,}" if self._total is None else f"{self._read:,}/{max(self._read, self._total):,}"
        parts = [Part(f"{self._name}: {rows} rows")]
        if (speed := self._spent.usage.prompt_tokens / max(seconds, 1e-9)) >= 1:
            parts.append(Part(f"{speed:,.0f} tok/s read", 2))
        left = None if self._total is None else max(0, self._total - self._read) * seconds / self._read
        return self._line.whole(parts, left, self._dollars)
