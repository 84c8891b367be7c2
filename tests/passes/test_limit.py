"""The limit on disk: the rows up to the N-th that passes the rule, in input order, for any order of arrival, and no others."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import EngineConfig
from stj.generate import Usage
from stj.passes.commit import RowCommitter
from stj.passes.ledger import Ledger
from stj.passes.routes import StreamCommitter
from stj.rows import HELDOUT, TRAINING, Category, Pair, Row, row_from_dict, rows_to_table
from stj.stages.select import SelectionLimit
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import make_row

REASONING = Category(name="Mathematical reasoning", complexity=5, length="b")
PAIR = Pair(method="given", chosen="four", rejected="five")


def passed(position: int) -> Row:
    return make_row(position, category=REASONING, pair=PAIR, output_tokens=7)


def begun(folder: Path) -> Artifact:
    artifact = Artifact(Folder.at(folder), {"step": "test"})
    artifact.begin()
    return artifact


def commit(committer: RowCommitter, rows: list[Row]) -> None:
    committer.add(rows_to_table(rows))
    committer.commit()


def kept(artifact: Artifact) -> list[int]:
    return sorted(row.position for row in map(row_from_dict, artifact.records()) if not row.dropped and not row.error)


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_rows_up_to_the_limit_remain(passing: list[bool], limit: int, rng: random.Random) -> None:
    """The rows arrive in any order, some over the limit were processed, and a driver is killed on the way.

    Rows of other tasks have positions of their own, which no limit bounds.
    """
    gate, rows = SelectionLimit(limit), []
    arrival = list(enumerate(passing))
    rng.shuffle(arrival)
    for position, passes in arrival:
        if passes and rng.random() < 0.3:
            gate.passed(position)  # an engine that died had reported it
        if gate.over(position):
            rows.append(make_row(position).drop("over_limit"))
        elif passes:
            gate.passed(position)
            rows.append(passed(position))
        else:
            rows.append(make_row(position, category=REASONING).drop("category"))
    held_out = [make_row(position, id=f"held-{position}", task=HELDOUT) for position in range(30, 34)]
    arrived = rng.sample([*rows, *held_out], len(rows) + len(held_out))
    with tempfile.TemporaryDirectory() as folder:
        artifact = begun(Path(folder))
        committer = RowCommitter(artifact, EngineConfig(), None)
        for start in range(0, len(arrived), 7):
            if rng.random() < 0.2:
                committer = RowCommitter(artifact, EngineConfig(), None)
            commit(committer, arrived[start : start + 7])
        committer.finish(None, limit)
        expected = [position for position, passes in enumerate(passing) if passes][:limit]
        cut = expected[-1] if len(expected) == limit else len(passing) - 1
        by_task: dict[str, list[int]] = {TRAINING: [], HELDOUT: []}
        for row in map(row_from_dict, artifact.records()):
            by_task[row.task].append(row.position)
        assert {task: sorted(positions) for task, positions in by_task.items()} == {
            TRAINING: list(range(cut + 1)),
            HELDOUT: [row.position for row in held_out],
        }
        manifest = artifact.manifest()
        assert (manifest["rows"], manifest["pairs"], manifest["passed_rule"]) == (cut + 5, len(expected), len(expected))
        assert "over_limit" not in manifest["dropped"]


@pytest.mark.slow
def test_a_row_beyond_the_limit_goes_and_its_tokens_stay_counted(tmp_path: Path) -> None:
    artifact = begun(tmp_path)
    committer = RowCommitter(artifact, EngineConfig(), None)
    commit(committer, [passed(2)])
    commit(committer, [passed(3), passed(0)])
    commit(committer, [passed(1)])
    committer.spent = Ledger(usage=Usage(output_tokens=28))
    committer.finish(None, 2)
    assert sorted(row.position for row in map(row_from_dict, artifact.records())) == [0, 1]
    manifest = artifact.manifest()
    assert (manifest["rows"], len(manifest["files"]), manifest["dropped"], manifest["output_tokens"]) == (2, 2, {}, 14)
    assert (manifest["ledger"]["output_tokens"], manifest["ledger"]["wasted_tokens"]) == (28, 14)


@pytest.mark.parametrize(
    ("rows", "limit", "last_read", "missing"),
    [
        ([passed(0), passed(1)], 2, 1, False),
        ([passed(0), passed(1)], 2, None, False),
        ([passed(0), passed(2)], 2, None, False),
        ([passed(0), make_row(1).drop("over_limit"), passed(2)], 2, 2, True),
        ([passed(0), passed(1), make_row(2).drop("over_limit")], 2, 2, False),
        ([passed(0), passed(1), passed(2)], 2, 0, True),
        ([passed(0)], 2, 0, True),
        ([passed(0)], 2, None, False),
        ([passed(0), make_row(1).drop("over_limit")], 2, None, True),
        ([passed(0), replace(passed(1), error="no", pair=None)], 2, 1, False),
        ([passed(0), make_row(1, error="no")], 2, 1, True),
    ],
)
def test_what_is_missing_up_to_the_limit_is_noticed(
    tmp_path: Path, rows: list[Row], limit: int, last_read: int | None, missing: bool
) -> None:
    committer = StreamCommitter(begun(tmp_path), {}, EngineConfig(), None, None)
    committer.add(rows_to_table(rows))
    committer.commit()
    assert committer.cut_left_out(limit, last_read) is missing
    assert committer.received == len(rows)
    committer.begin_stream()
    assert committer.received == 0
    assert not committer.cut_left_out(limit, None)


def test_a_failed_row_beyond_the_limit_is_no_failure(tmp_path: Path) -> None:
    artifact = begun(tmp_path)
    committer = RowCommitter(artifact, EngineConfig(max_failed_fraction=0.5), None)
    commit(committer, [passed(0), replace(passed(1), error="no", pair=None)])
    committer.finish(None, 1)
    assert (artifact.manifest()["failed"], artifact.manifest()["rows"]) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("written", [1, 2])
def test_a_kill_before_the_manifest_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """The parts that were written again are made anew: a row that was beyond the limit may be within it now."""
    artifact = begun(tmp_path)
    committer = RowCommitter(artifact, EngineConfig(max_failed_fraction=1), None)
    commit(committer, [replace(passed(0), error="no", pair=None)])
    commit(committer, [passed(1), passed(2)])
    commit(committer, [passed(3)])
    parts, stage = [], Artifact.stage_part

    def killed(artifact: Artifact, name: str, table: object) -> str:
        parts.append(name)
        if len(parts) > written:
            raise KeyboardInterrupt
        return stage(artifact, name, table)

    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "stage_part", killed)
        patch.setattr(Artifact, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            committer.finish(None, 2)
    assert sorted(record["position"] for record in artifact.records(["position"])) == [0, 1, 2, 3], "none is there twice"
    again = RowCommitter(artifact, EngineConfig(max_failed_fraction=1), None)
    assert again.finished.count == 3
    commit(again, [make_row(0, category=REASONING).drop("category")])  # it failed, and does not pass the rule this time
    again.finish(None, 2)
    assert kept(artifact) == [1, 2]


def test_a_driver_that_wakes_up_beside_the_next_one_leaves_both_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended before it wrote its manifest, and the next one had begun by then."""
    artifact = begun(tmp_path)
    suspended = RowCommitter(artifact, EngineConfig(), None)
    commit(suspended, [passed(3), passed(0)])
    commit(suspended, [passed(1), passed(2)])
    drivers, finish = [suspended], Artifact.finish

    def finish_beside_the_next(artifact: Artifact, parts: Sequence[str], **facts: Any) -> None:
        if len(drivers) == 1:
            drivers.append(RowCommitter(artifact, EngineConfig(), None))
        finish(artifact, parts, **facts)

    monkeypatch.setattr(Artifact, "finish", finish_beside_the_next)
    for number in range(2):
        drivers[number].finish(None, 3)
        assert kept(artifact) == [0, 1, 2]


def interrupt(*arguments: object, **facts: object) -> None:
    raise KeyboardInterrupt
