"""`select.per_cluster`: the first k rows of each cluster, in input order, that pass the rule.

While a pass runs, one actor knows the passing rows of each cluster. A row with k passing rows of its cluster before it is
dropped at once. Rows finish in any order, so a few more may continue. When the pass finishes, those beyond the first k become
tombstones too, without their pair and judgments. What they cost stays in the ledger.

So which rows become pairs depends on the answers alone: not on the number of engines, their speed, or kills. There is one
exception. If an engine dies, and its model then sorts the same instruction into another category, its cluster may be left with
fewer than k rows. The categories are sampled greedily, so that hardly ever happens.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stj.passes.driver_actor import driver_actor
from stj.passes.limit import FAILED
from stj.rows import TRAINING, Row, row_from_dict, rows_to_table
from stj.stages.select import OVER_PER_CLUSTER, SelectionLimit, passed_rule, without_results
from stj.storage.artifacts import Artifact, prefix_of

_COLUMNS = ["task", "position", "cluster", "category.name", "dropped"]


class ClusterLimits:
    """The passing rows of each cluster: the actor's side. It starts with the rows on disk, also if Ray starts it again."""

    def __init__(self, limit: int, artifact: Artifact) -> None:
        parts = [part for part in artifact.parts() if prefix_of(part) != FAILED]  # failed rows are tried again
        self._limits = cluster_limits(artifact, parts, limit)

    def over(self, cluster: int, position: int) -> bool:
        """Whether `limit` passing rows of the cluster before this one are known."""
        return self._limits[cluster].over(position)

    def passed(self, cluster: int, position: int) -> bool:
        """Records a passing row; True if its cluster is over the limit already."""
        self._limits[cluster].passed(position)
        return self._limits[cluster].over(position)


class RayClusterGate:
    """The side of the engines."""

    def __init__(self, limit: int, artifact: Artifact) -> None:
        self._actor = driver_actor(ClusterLimits, limit, artifact)

    async def over(self, cluster: int, position: int) -> bool:
        """Whether `limit` passing rows of the cluster before this one are known."""
        return bool(await self._actor.over.remote(cluster, position))

    async def passed(self, cluster: int, position: int) -> bool:
        """Records a passing row; True if its cluster is over the limit already."""
        return bool(await self._actor.passed.remote(cluster, position))


def cluster_limits(artifact: Artifact, parts: Sequence[str], limit: int) -> dict[int, SelectionLimit]:
    """The limit of each cluster, with the rows of these parts that passed the rule."""
    limits: dict[int, SelectionLimit] = defaultdict(lambda: SelectionLimit(limit))
    for record in _passing(artifact, parts):
        limits[record["cluster"]].passed(record["position"])
    return limits


def per_cluster_parts(artifact: Artifact, parts: Sequence[str], limit: int) -> list[str]:
    """The parts, in which rows beyond the first `limit` of their cluster are tombstones."""
    limits = cluster_limits(artifact, parts, limit)
    return [
        _without_surplus(artifact, part, limits)
        if any(limits[record["cluster"]].over(record["position"]) for record in _passing(artifact, [part]))
        else part
        for part in parts
    ]


def _passing(artifact: Artifact, parts: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The records of the rows with a cluster that passed the rule."""
    for record in artifact.records(_COLUMNS, parts):
        if record["task"] == TRAINING and record["cluster"] is not None and passed_rule(record["category"], record["dropped"]):
            yield record


def _without_surplus(artifact: Artifact, part: str, limits: Mapping[int, SelectionLimit]) -> str:
    """A new part with the tombstones."""

    def cut(row: Row) -> Row:
        counted = row.task == TRAINING and row.cluster is not None and passed_rule(row.category, row.dropped)
        if not counted or row.cluster is None or not limits[row.cluster].over(row.position):
            return row
        return replace(without_results(row), surplus_tokens=row.output_tokens).drop(OVER_PER_CLUSTER)

    rows = map(row_from_dict, artifact.records(parts=[part]))
    return artifact.stage_part("part", rows_to_table(map(cut, rows)))
