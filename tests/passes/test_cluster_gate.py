"""`select.per_cluster`: which rows are the first of their cluster does not depend on the order in which they finish."""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.passes.cluster_gate import ClusterLimits, per_cluster_parts
from stj.rows import Category, Pair, Row, row_from_dict, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import make_row

PAIR = Pair(method="modified_instruction", chosen="yes", rejected="no")
CODING = Category(name="Coding", complexity=3, length="b")


def finished(position: int, cluster: int | None, passes: bool) -> Row:
    """A row that went through the whole chain, as if no limit were known."""
    row = make_row(position, category=CODING, cluster=cluster, pair=PAIR if passes else None, output_tokens=7)
    return row if passes else row.drop("category")


ROWS = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 2)), st.booleans()), min_size=1, max_size=30)


@pytest.mark.slow
@given(ROWS, st.integers(1, 4), st.randoms(use_true_random=False), st.integers(1, 9))
def test_the_first_of_each_cluster_stay_in_any_order_of_arrival(
    rows: list[tuple[int | None, bool]], limit: int, order: Random, in_part: int
) -> None:
    arriving = [finished(position, *row) for position, row in enumerate(rows)]
    order.shuffle(arriving)
    gate = ClusterLimits(limit, Artifact(Folder.at("/no/such/run"), {"step": "pass"}))
    through = [tombstone(row) if over(gate, row) else row for row in arriving]
    with TemporaryDirectory() as place:
        artifact = Artifact(Folder.at(place), {"step": "pass"})
        artifact.begin()
        starts = range(0, len(through), in_part)
        parts = [artifact.write_part("part", rows_to_table(through[start : start + in_part])) for start in starts]
        artifact.finish(per_cluster_parts(artifact, parts, limit))
        result = [row_from_dict(record) for record in artifact.records()]
    assert {row.position for row in result} == set(range(len(rows)))
    assert {row.position for row in result if row.pair} == {row.position for row in arriving if is_first(row, arriving, limit)}
    surplus = [row for row in result if row.dropped == "per_cluster"]
    assert all(row.pair is None and row.surplus_tokens == row.output_tokens for row in surplus)


def over(gate: ClusterLimits, row: Row) -> bool:
    """What an engine asks about a row: before it works on it, and when the row has passed the rule."""
    if row.pair is None or row.cluster is None:
        return False
    return gate.over(row.cluster, row.position) or gate.passed(row.cluster, row.position)


def tombstone(row: Row) -> Row:
    return make_row(row.position, category=CODING, cluster=row.cluster).drop("per_cluster")


def is_first(row: Row, rows: list[Row], limit: int) -> bool:
    """The rule: fewer than `limit` rows of the cluster that pass come before it."""
    before = [other for other in rows if other.pair and other.cluster == row.cluster and other.position < row.position]
    return row.pair is not None and (row.cluster is None or len(before) < limit)


def test_a_restarted_gate_knows_the_rows_on_disk_but_not_the_failed_ones(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(str(tmp_path)), {"step": "pass"})
    artifact.begin()
    artifact.write_part("part", rows_to_table([finished(0, 1, True), finished(1, 1, False), finished(2, 1, True)]))
    artifact.write_part("failed", rows_to_table([finished(3, 1, True)]))
    gate = ClusterLimits(3, artifact)
    assert not gate.over(1, 4)
    assert not gate.passed(1, 4)
    assert gate.over(1, 5)
    assert not gate.over(0, 5)
