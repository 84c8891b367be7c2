"""`stj.load_rows`, and an artifact's files in pandas, DuckDB and Polars, as docs/reading-runs.md says."""

from pathlib import Path

import pandas as pd
import pytest

import stj
from stj.errors import ArtifactError, NoArtifact
from stj.rows import Example, Row, Turn, examples_to_table, rows_to_table
from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder
from tests.conftest import make_row

ROWS = [make_row(number) for number in range(5)]
EXAMPLE = Example(id="e", winner="A", messages=(Turn(role="user", content="Which?"),), completion="[[A]]")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Rows in two files, as a pass leaves them: with its records and its ledger beside them."""
    artifact = Artifact(Folder.at(tmp_path / "judged"), {"step": "test"})
    artifact.begin()
    artifact.write_part("part", rows_to_table(ROWS[:3]))
    artifact.write_part("part", rows_to_table(ROWS[3:]))
    artifact.folder.write_json("ledger.json", {"starts": 1})
    return artifact


@pytest.mark.parametrize("finished", [False, True])
def test_rows_are_typed(artifact: Artifact, finished: bool) -> None:
    if finished:
        artifact.finish()
    rows = list(stj.load_rows(artifact.folder.uri))
    assert all(isinstance(row, Row) for row in rows)
    assert sorted(rows, key=lambda row: row.id) == ROWS


def test_examples_are_typed(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    artifact.write_part("examples", examples_to_table([EXAMPLE]))
    artifact.finish()
    assert list(stj.load_rows(tmp_path)) == [EXAMPLE]


def test_rows_are_read_as_they_are_asked_for(artifact: Artifact) -> None:
    """The second file is damaged: the rows of the first one come all the same, and then the error."""
    artifact.finish()
    last = artifact.parts()[-1]
    first_rows = 3 if len(list(artifact.records(parts=[last]))) == 2 else 2
    place = Path(artifact.folder.uri) / last
    place.write_bytes(place.read_bytes()[:-1] + b"?")
    rows = stj.load_rows(artifact.folder.uri)
    assert len([next(rows) for _ in range(first_rows)]) == first_rows
    with pytest.raises(ArtifactError, match="SHA-256"):
        next(rows)


def test_what_holds_no_rows_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(NoArtifact, match="no artifact here"):
        stj.load_rows(tmp_path)
    artifact = Artifact(Folder.at(tmp_path / "other"), {"step": "test"})
    artifact.begin()
    artifact.write_part("part", rows_to_table(ROWS).select(["position", "task"]))
    artifact.finish()
    with pytest.raises(NoArtifact, match="neither rows nor examples; its columns are position, task"):
        stj.load_rows(tmp_path / "other")


def test_an_empty_artifact_has_no_rows(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    artifact.finish()
    assert list(stj.load_rows(tmp_path)) == []


def test_three_tools_read_the_folder_of_rows_as_it_is(artifact: Artifact) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    artifact.finish()
    rows = f"{artifact.folder.uri}/rows"
    ids = [row.id for row in ROWS]
    assert sorted(pd.read_parquet(rows)["id"]) == ids
    assert sorted(polars.read_parquet(rows)["id"]) == ids
    assert polars.scan_parquet(rows).select(polars.len()).collect().item() == len(ROWS)
    assert sorted(name for (name,) in duckdb.sql(f"SELECT id FROM '{rows}/*.parquet'").fetchall()) == ids
    [counted] = duckdb.sql(f"SELECT count(*), max(len(turns)) FROM read_parquet('{rows}')").fetchall()
    assert counted == (5, max(len(row.turns) for row in ROWS))


def test_an_artifact_is_also_named_by_its_folder_of_rows(artifact: Artifact) -> None:
    assert {row.id for row in stj.load_rows(f"{artifact.folder.uri}/rows")} == {row.id for row in ROWS}


@pytest.mark.parametrize("finished", [False, True])
def test_rows_that_lie_beside_the_records_are_read_and_continued(artifact: Artifact, finished: bool) -> None:
    """As versions before the folder of rows left them."""
    place = Path(artifact.folder.uri)
    for part in (place / "rows").iterdir():
        part.rename(place / part.name)
    (place / "rows").rmdir()
    before = read_artifact(artifact.folder)
    if finished:
        before.finish()
        assert list(before.manifest()["files"]) == sorted(part.name for part in place.glob("part-*"))
    else:
        assert not before.begin() or before.write_part("part", rows_to_table([make_row(5)]))
    assert sorted(row.id for row in stj.load_rows(place)) == [make_row(number).id for number in range(5 if finished else 6)]


def test_a_model_has_no_rows(tmp_path: Path) -> None:
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    artifact.finish(model={"path": str(tmp_path)})
    with pytest.raises(NoArtifact, match="holds a model, and no rows"):
        stj.load_rows(tmp_path)
