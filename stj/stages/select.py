"""Instruction selection, second half: which instructions continue, by a rule and a limit (section 3.2)."""

import bisect
from dataclasses import replace
from typing import Protocol

from stj.config import SelectConfig
from stj.generate import Generate
from stj.rows import Row

OVER_LIMIT = "over_limit"
OVER_PER_CLUSTER = "per_cluster"


class Gate(Protocol):
    """The limit of a pass, shared by its actors: the first k rows in input order that pass the rule."""

    async def over(self, position: int) -> bool:
        """Whether k passing rows before this position are known."""

    async def passed(self, position: int) -> bool:
        """Records a passing row; True if it is over the limit already."""


class ClusterGate(Protocol):
    """The limit of each cluster, shared by the actors of a pass: its first k rows in input order that pass the rule."""

    async def over(self, cluster: int, position: int) -> bool:
        """Whether k passing rows of the cluster before this position are known."""

    async def passed(self, cluster: int, position: int) -> bool:
        """Records a passing row; True if its cluster is over the limit already."""


async def screen(
    row: Row, generate: Generate, rule: SelectConfig, gate: Gate | None, clusters: ClusterGate | None = None
) -> Row:
    """The row; dropped, before any model is asked, if the rule rejects its source fields or a limit is reached."""
    reason = reject_unasked(row, rule)
    if reason is None and clusters is not None and row.cluster is not None and await clusters.over(row.cluster, row.position):
        reason = OVER_PER_CLUSTER
    if reason is None and gate is not None and await gate.over(row.position):
        reason = OVER_LIMIT
    return row.drop(reason) if reason else row


async def select(
    row: Row, generate: Generate, rule: SelectConfig, gate: Gate | None, clusters: ClusterGate | None = None
) -> Row:
    """The row; dropped if the rule rejects its category, complexity or expected length, or a limit is reached."""
    reason = reject_categorized(row, rule)
    if reason is None and clusters is not None and row.cluster is not None and await clusters.passed(row.cluster, row.position):
        reason = OVER_PER_CLUSTER
    if reason is None and gate is not None and await gate.passed(row.position):
        reason = OVER_LIMIT
    return row.drop(reason) if reason else row


def reject_unasked(row: Row, rule: SelectConfig) -> str | None:
    """Why the rule rejects a row by the fields from its source, before any model is asked; None if it does not."""
    user_turns = sum(turn.role == "user" for turn in row.turns)
    if row.toxic and not rule.toxic:
        return "toxic"
    if row.redacted and not rule.redacted:
        return "redacted"
    if rule.languages is not None and row.language not in rule.languages:
        return "language"
    if user_turns < rule.min_turns or (rule.max_turns is not None and user_turns > rule.max_turns):
        return "turns"
    return None


def reject_categorized(row: Row, rule: SelectConfig) -> str | None:
    """Why the rule rejects a row by its category, complexity or expected length; None if it does not."""
    category = row.category
    assert category is not None, f"row {row.id} was not categorised"
    if rule.categories is not None and category.name not in rule.categories:
        return "category"
    if not rule.min_complexity <= category.complexity <= rule.max_complexity:
        return "complexity"
    if rule.lengths is not None and category.length not in rule.lengths:
        return "length"
    return None


class SelectionLimit:
    """Finds the first k passing rows in input order, while rows pass in any order.

    A row is certainly over the limit once k passing rows before it are known. Until then it continues, so near the end a few
    more than k rows continue. The finished pass leaves those out (passes/limit.py), so speed does not change the result.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._passed: list[int] = []

    def over(self, position: int) -> bool:
        """Whether k passing rows before this position are known."""
        return self._limit is not None and bisect.bisect_left(self._passed, position) >= self._limit

    @property
    def last(self) -> int | None:
        """Position of the k-th row that is known to pass; None while fewer are known."""
        return self._passed[-1] if self._limit is not None and len(self._passed) >= self._limit else None

    def passed(self, position: int) -> None:
        """Records a passing row, which may come twice if an engine dies after reporting it; stores only the first k."""
        place = bisect.bisect_left(self._passed, position)
        if position not in self._passed[place : place + 1]:
            self._passed.insert(place, position)
        if self._limit is not None:
            del self._passed[self._limit :]


def passed_rule(category: object, dropped: str | None) -> bool:
    """Whether a row with this category and drop reason passed the rule; later drops do not matter."""
    return category is not None and dropped not in {"category", "complexity", "length", OVER_LIMIT, OVER_PER_CLUSTER}


def without_results(row: Row) -> Row:
    """The row without its pair, its judgments, and any later failure."""
    row = replace(row, pair=None, judgments=(), kept=None, rationales=(), opinions=(), aborted=0, surplus_tokens=0)
    row = replace(row, grades=(), kept_grades=None)
    row = replace(row, ungraded=None if row.rubrics else row.ungraded)  # why its rubric was dropped stays
    return replace(row, dropped=None, detail=None, error=None)
