"""Whether a judge agrees with itself: contradictions within a judgment, and cycles among its preferences, with rows named."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from stj.evals.contradictions import Contradictions
from stj.evals.cycles import Preferences
from stj.rows import Row
from stj.text import visible_line


class Consistency:
    """Counts the contradictions and the cycles of one judge on some rows."""

    def __init__(self) -> None:
        self._contradictions = Contradictions()
        self._preferences = Preferences()

    def add(self, row: Row) -> None:
        """Counts one row."""
        self._contradictions.add(row)
        self._preferences.add(row)

    def plain(self) -> dict[str, Any]:
        """Both as JSON values."""
        return {"contradictions": asdict(self._contradictions), "cycles": asdict(self._preferences.cycles())}


def consistency_by_task(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """The contradictions and cycles in each task among the rows, as JSON values."""
    by_task: dict[str, Consistency] = {}
    for row in rows:
        by_task.setdefault(row.task, Consistency()).add(row)
    return {task: consistency.plain() for task, consistency in by_task.items()}


def consistency_line(task: str, counts: dict[str, Any]) -> str:
    """Both counts in one line, for a reader; "" if there is neither."""
    contradictions, cycles = counts["contradictions"], counts["cycles"]
    parts = []
    if contradictions["count"]:
        ids = ", ".join(map(visible_line, contradictions["rows"][:3]))
        counted = f"{contradictions['count']:,} of {contradictions['judgments']:,} verdicts"
        parts.append(f"{counted} contradict their last sentence, as in {ids}")
    if cycles["count"]:
        ids = ", ".join(map(visible_line, cycles["rows"][0]))
        parts.append(f"{cycles['count']:,} of {cycles['triples']:,} triples of answers form a cycle, as in {ids}")
    return f"{task}: {'; '.join(parts)}" if parts else ""
