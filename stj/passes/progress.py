"""The progress of a pass as one line: live on a terminal, at commits in a log."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from stj.generate import Usage
from stj.rows import TRAINING
from stj.text import Part, duration, line_of

_WINDOW_S = 30  # Average tokens per second over this time.
_SHOWN_CATEGORIES = 3
_COLUMNS = ["task", "error", "judgments", "kept", "category", "dropped"]


@dataclass(kw_only=True)
class Progress:
    """Counts of a pass: rows over all its starts, judgments since this start."""

    name: str
    total: int | None
    """Rows of the whole pass, None if unknown."""
    done: int = 0
    failed: int = 0
    dropped: int = 0
    """Rows that a rule has dropped, in this start."""
    in_flight: int = 0
    tokens_per_s: float = 0
    """Output tokens per second of all engines, including aborted samples."""
    draws: int = 0
    kept: int = 0
    judged: Counter[str] = field(default_factory=Counter)
    """Judged training pairs by category."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Judged training pairs with a kept judgment, by category."""
    eta_s: float | None = None
    """Seconds to the end at the pace so far, None if unknown."""

    def __post_init__(self) -> None:
        self._tokens_at: deque[tuple[float, int]] = deque()
        self._start = (time.monotonic(), self.done)

    def add(self, table: pa.Table) -> None:
        """Counts the judgments of finished rows."""
        table = table.select(_COLUMNS)
        self.dropped += table.num_rows - table["dropped"].null_count
        drawn = pc.fill_null(pc.list_value_length(table["judgments"]), 0)
        table = table.filter(pc.and_(pc.equal(table["task"], TRAINING), pc.greater(drawn, 0)))
        self.draws += sum(len(judgments) for judgments in table["judgments"])
        for kept, category in zip(table["kept"].to_pylist(), table["category"].to_pylist(), strict=True):
            name = category["name"] if category else "-"
            self.judged[name] += 1
            if kept is not None:
                self.kept += 1
                self.accepted[name] += 1

    def update(self, *, done: int, failed: int, in_flight: int, usage: Usage) -> None:
        """Updates rows, speed and time to go; `usage` is the usage of all engines since this start."""
        now = time.monotonic()
        self.done, self.failed, self.in_flight = done, failed, in_flight
        self._tokens_at.append((now, usage.output_tokens))
        while now - self._tokens_at[0][0] > _WINDOW_S and len(self._tokens_at) > 2:
            self._tokens_at.popleft()
        since, tokens = self._tokens_at[0]
        if now > since:
            self.tokens_per_s = (usage.output_tokens - tokens) / (now - since)
        started_at, done_before = self._start
        if self.total is not None and done > done_before:
            self.eta_s = max(0, self.total - done) * (now - started_at) / (done - done_before)

    def line(self, *, every_category: bool = False) -> str:
        """The line, with the most frequent categories or all of them."""
        return line_of(self.parts(every_category=every_category))

    def parts(self, *, every_category: bool = False) -> list[Part]:
        """The parts of the line; a narrow terminal keeps the rows and the time to go."""
        rows = f"{self.done:,} rows" if self.total is None else f"{self.done:,}/{max(self.done, self.total):,} rows"
        parts = [Part(f"{self.name}: {rows}"), Part(f"{self.failed:,} failed", 1 if self.failed else 6)]
        parts.append(Part(f"{self.in_flight:,} in flight", 5))
        if self.tokens_per_s:  # engines report the tokens of a request at its end
            parts.append(Part(f"{self.tokens_per_s:,.0f} tok/s", 2))
        if self.kept:
            parts.append(Part(f"{self.draws / self.kept:.2f} draws/kept", 4))
            parts.append(Part(f"accepted {self.kept / self.judged.total():.0%}", 3))
            parts += self._categories(every_category)
        if self.eta_s is not None:
            parts.append(Part(f"eta {duration(self.eta_s)}"))
        return parts

    def _categories(self, every_category: bool) -> list[Part]:
        """Acceptance by category: it shows kinds of questions that teach nothing."""
        shown = [
            f"{name} {self.accepted[name] / count:.0%}"
            for name, count in self.judged.most_common(None if every_category else _SHOWN_CATEGORIES)
            if name != "-"
        ]
        return [Part(f"({', '.join(shown)})", 7, before=" ")] if shown else []
