"""Applies `select.limit` on disk: a finished pass holds exactly the rows that count.

Rows finish in any order, so near the limit a few more than N rows pass the rule and are processed. When the pass finishes, the
rows beyond the first N in input order are left out. Their part is written again without them, and the manifest names the new
part. What they cost stays in the ledger.

So the rows of a limited pass are those at positions 0 to the *cut*, the position of the N-th that passes. That depends on the
answers alone: not on the number of engines, their speed, or kills.

No part is deleted. After a kill the next start reads the replaced parts again. A suspended driver that wakes up beside the next
one may still name its own new parts. Parts that no manifest names do not count.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from stj.rows import TRAINING
from stj.stages.select import SelectionLimit, passed_rule
from stj.storage.artifacts import Artifact

FAILED = "failed"
"""The part of the rows that failed, written when a pass finishes and removed when it resumes."""


def selection_records(artifact: Artifact, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The training rows of these parts, with what decides whether they pass."""
    records = artifact.records(["task", "position", "category.name", "dropped"], parts)
    return (record for record in records if record["task"] == TRAINING)


def cut_of(records: Iterable[Mapping[str, Any]], limit: int) -> int | None:
    """Position of the last row that the limit takes; None if fewer rows pass."""
    selection = SelectionLimit(limit)
    for record in records:
        if passed_rule(record["category"], record["dropped"]):
            selection.passed(record["position"])
    return selection.last


def limit_parts(artifact: Artifact, parts: Sequence[str], limit: int) -> list[str]:
    """The parts without the training rows beyond the cut."""
    cut = cut_of(selection_records(artifact, parts), limit)
    if cut is None:
        return list(parts)
    limited = []
    for part in parts:
        if any(record["position"] > cut for record in selection_records(artifact, [part])):
            limited += _without(artifact, part, cut)
        else:
            limited.append(part)
    return limited


def count_passed(artifact: Artifact, parts: Sequence[str]) -> int:
    """Number of rows that passed the rule."""
    return sum(passed_rule(record["category"], record["dropped"]) for record in selection_records(artifact, parts))


def _without(artifact: Artifact, part: str, cut: int) -> list[str]:
    """A new part without the rows beyond the cut; no part if nothing is left."""
    with artifact.opened(part) as file:
        table = file.read()
    beyond = pc.and_(pc.greater(table["position"], cut), pc.equal(table["task"], TRAINING))
    rest = table.filter(pc.invert(beyond))
    return [artifact.stage_part("part", rest)] if rest.num_rows else []
