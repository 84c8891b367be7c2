"""Whether a judge agrees with itself: contradictions within a judgment, and cycles among its preferences, with rows named."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from stj.evals.contradictions import Contradictions
from stj.evals.cycles import Preferences
from stj.rows import Row
from stj.text import visible_line
from stj.verdict import Verdict


class Consistency:
    """Counts the contradictions and the cycles of one judge on some rows."""

    def __init__(self) -> None:
        self._contradictions = Contradictions()
        self._preferences = Preferences()

    def add(self, row: Row) -> None:
        """Counts one row."""
        self._contradictions.add(row)
        self._preferences.add(row)

    def add_text(self, row_id: str, text: str, verdict: Callable[[], Verdict | None]) -> None:
        """Counts a contradiction in a recorded text."""
        self._contradictions.add_text(row_id, text, verdict)

    def prefer(self, instruction: str, first: str, second: str, balance: int, row_id: str) -> None:
        """Adds judgments of two answers, of which `balance` more are for the first."""
        self._preferences.prefer(instruction, first, second, balance, row_id)

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
    if "contradictions" not in counts:  # no row of the task was judged
        return ""
    contradictions, cycles = counts["contradictions"], counts["cycles"]
    parts = []
    if contradictions["count"]:
        ids = ", ".join(map(visible_line, contradictions["rows"][:3]))
        counted = f"{contradictions['count']:,} of {contradictions['stated']:,} judgments that end with a preference"
        parts.append(f"{counted} have another verdict, as in {ids}")
    if cycles["count"]:
        ids = ", ".join(map(visible_line, cycles["rows"][0]))
        parts.append(f"{cycles['count']:,} of {cycles['triples']:,} triples of answers form a cycle, as in {ids}")
    return f"{task}: {'; '.join(parts)}" if parts else ""
