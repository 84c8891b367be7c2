"""What a pass's driver commits, and which files it rests on."""

from pathlib import Path

from stj.artifacts import Artifact
from stj.commit import Writer
from stj.config import EngineConfig
from stj.rows import rows_to_table
from stj.storage import Folder
from tests.conftest import make_row


def test_a_file_that_repeats_rows_of_another_counts_for_nothing(tmp_path: Path) -> None:
    """As it may be left by a driver that was taken for dead: its other rows are done again."""
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    artifact.write_part("part-1", rows_to_table(map(make_row, [0, 1, 2])))
    artifact.write_part("part-2", rows_to_table(map(make_row, [2, 3])))
    writer = Writer(artifact, EngineConfig(), None)
    assert [writer.finished.has("training", position) for position in range(4)] == [True, True, True, False]
    artifact.write_part("part-3", rows_to_table(map(make_row, [0, 3])))  # that driver lives, and goes on
    writer.add(rows_to_table([make_row(3)]))
    writer.commit()
    writer.finish(None)
    assert sorted(record["position"] for record in artifact.records(["position"])) == [0, 1, 2, 3]
    assert artifact.manifest()["rows"] == 4
    assert not {"part-2.parquet", "part-3.parquet"} & set(artifact.manifest()["files"])
