"""The limit on disk: the first N rows that pass the rule, in input order, for any order of arrival."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import EngineConfig
from stj.passes.commit import RowCommitter
from stj.rows import Category, Pair, Row, row_from_dict, rows_to_table
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


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_first_rows_in_input_order_remain(passing: list[bool], limit: int, rng: random.Random) -> None:
    """The rows arrive in any order, and some over the limit were processed."""
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
    with tempfile.TemporaryDirectory() as folder:
        artifact = begun(Path(folder))
        committer = RowCommitter(artifact, EngineConfig(), None)
        for start in range(0, len(rows), 7):
            commit(committer, rows[start : start + 7])
        committer.finish(None, limit)
        expected = [position for position, passes in enumerate(passing) if passes][:limit]
        assert kept(artifact) == expected
        manifest = artifact.manifest()
        assert (manifest["rows"], manifest["pairs"], manifest["passed_rule"]) == (len(rows), len(expected), len(expected))
        assert sorted(path.name for path in Path(folder).glob("*.parquet")) == sorted(manifest["files"])


def test_tokens_of_a_row_beyond_the_limit_stay_counted_and_its_pair_goes(tmp_path: Path) -> None:
    artifact = begun(tmp_path)
    committer = RowCommitter(artifact, EngineConfig(), None)
    commit(committer, [passed(2), passed(0)])
    commit(committer, [passed(1)])
    committer.finish(None, 2)
    rows = {row.position: row for row in map(row_from_dict, artifact.records())}
    assert (rows[2].dropped, rows[2].pair, rows[2].output_tokens) == ("over_limit", None, 7)
    assert artifact.manifest()["dropped"] == {"over_limit": 1}


def test_a_failed_row_beyond_the_limit_is_no_failure(tmp_path: Path) -> None:
    artifact = begun(tmp_path)
    committer = RowCommitter(artifact, EngineConfig(max_failed_fraction=0.5), None)
    commit(committer, [passed(0), replace(passed(1), error="no", pair=None)])
    committer.finish(None, 1)
    assert (artifact.manifest()["failed"], artifact.manifest()["dropped"]) == (0, {"over_limit": 1})


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


def interrupt(*arguments: object, **facts: object) -> None:
    raise KeyboardInterrupt
