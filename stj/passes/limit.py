"""Applies `select.limit` on disk: later phases see exactly the rows that count.

Rows finish in any order, so near the limit a few more than N rows pass the rule and are processed. When the pass finishes, rows
beyond the first N in input order become tombstones. Their part is written again, and the manifest names the new part.

No part is deleted. After a kill the next start reads the replaced parts again. A suspended driver that wakes up beside the next
one may still name its own new parts. Parts that no manifest names do not count.
"""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from stj.rows import Row, row_from_dict, rows_to_table
from stj.stages.select import OVER_LIMIT, SelectionLimit, passed_rule, without_results
from stj.storage.artifacts import Artifact


def limit_parts(artifact: Artifact, parts: Sequence[str], limit: int) -> list[str]:
    """The parts with rows beyond the limit as tombstones."""
    selection = SelectionLimit(limit)
    for record in _records(artifact, parts):
        if _passed(record):
            selection.passed(record["position"])
    limited = []
    for part in parts:
        if any(_passed(record) and selection.over(record["position"]) for record in _records(artifact, [part])):
            rows = [_limited(row_from_dict(record), selection) for record in artifact.records(parts=[part])]
            limited.append(artifact.stage_part(f"part-{uuid.uuid4().hex}", rows_to_table(rows)))
        else:
            limited.append(part)
    return limited


def count_passed(artifact: Artifact, parts: Sequence[str]) -> int:
    """Number of rows that passed the rule and are within the limit."""
    return sum(_passed(record) for record in _records(artifact, parts))


def _records(artifact: Artifact, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    return artifact.records(["position", "category.name", "dropped"], parts)


def _passed(record: dict[str, Any]) -> bool:
    return passed_rule(record["category"], record["dropped"])


def _limited(row: Row, selection: SelectionLimit) -> Row:
    over = passed_rule(row.category, row.dropped) and selection.over(row.position)
    return without_results(row).drop(OVER_LIMIT) if over else row
