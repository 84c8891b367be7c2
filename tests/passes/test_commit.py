"""What a pass's driver commits, and which files the pass rests on."""

from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import EngineConfig
from stj.errors import PassFailed
from stj.passes.commit import RowCommitter
from stj.rows import rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import make_row


def test_a_file_that_repeats_rows_of_another_counts_for_nothing(tmp_path: Path) -> None:
    """A driver that was taken for dead may leave such a file. Its other rows are done again."""
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    artifact.write_part("part-1", rows_to_table(map(make_row, [0, 1, 2])))
    artifact.write_part("part-2", rows_to_table(map(make_row, [2, 3])))
    committer = RowCommitter(artifact, EngineConfig(), None)
    assert [committer.finished.has("training", position) for position in range(4)] == [True, True, True, False]
    artifact.write_part("part-3", rows_to_table(map(make_row, [0, 3])))  # that driver is still alive
    committer.add(rows_to_table([make_row(3)]))
    committer.commit()
    committer.finish(None)
    assert sorted(record["position"] for record in artifact.records(["position"])) == [0, 1, 2, 3]
    assert artifact.manifest()["rows"] == 4
    assert not [name for name in artifact.parts() if name.startswith(("rows/part-2-", "rows/part-3-"))]


def test_finished_rows_are_due_when_there_are_as_many_as_in_flight(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    committer = RowCommitter(artifact, EngineConfig(rows_in_flight=8, commit_interval_s=3600), None)
    committer.add(rows_to_table(map(make_row, range(7))))
    assert not committer.due
    committer.add(rows_to_table([make_row(7)]))
    assert committer.due
    committer.commit()
    assert not committer.due


@pytest.mark.slow
@pytest.mark.parametrize(("total", "failing"), [(None, 901), (100_000, 901), (1000, 65), (20_000, 201)])
def test_a_pass_ends_when_it_can_only_fail(tmp_path: Path, total: int | None, failing: int) -> None:
    """If more rows failed than finished, or than may fail in all, later rows cannot change that."""
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    committer = RowCommitter(artifact, EngineConfig(max_failed_fraction=0.01), None, total)
    committer.add(rows_to_table(map(make_row, range(900))))
    bad = [replace(make_row(position), error="no") for position in range(900, 900 + failing)]
    committer.add(rows_to_table(bad[:-1]))
    with pytest.raises(PassFailed, match=f"{failing} of {900 + failing} rows failed"):
        committer.add(rows_to_table(bad[-1:]))
