"""One stream into several artifacts: each row lies in the artifact of its task, and a killed stream resumes in all of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import EngineConfig
from stj.errors import PassFailed
from stj.generate import Usage
from stj.passes.ledger import Ledger
from stj.passes.routes import StreamCommitter
from stj.rows import Row, rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import make_row


def artifact(folder: Path) -> Artifact:
    made = Artifact(Folder.at(folder), {"step": folder.name})
    made.begin()
    return made


def benchmark_row(position: int, tokens: int = 7) -> Row:
    return make_row(position, id=f"pairs/{position}", task="pairs", output_tokens=tokens)


def ids(place: Artifact) -> list[str]:
    return sorted(record["id"] for record in place.records(["id"]))


def test_rows_lie_in_the_artifact_of_their_task(tmp_path: Path) -> None:
    main, beside = artifact(tmp_path / "judged"), artifact(tmp_path / "pairs")
    committer = StreamCommitter(main, {"pairs": beside}, EngineConfig(), None, None)
    new = committer.add(rows_to_table([make_row(0, output_tokens=5), benchmark_row(0), make_row(1), benchmark_row(1)]))
    assert new.num_rows == 4
    assert committer.add(rows_to_table([benchmark_row(0)])).num_rows == 0  # Ray repeats the rows of an engine that died.
    assert (committer.received, committer.failed) == (4, 0)
    committer.spend(Ledger(engine_seconds=9, usage=Usage(output_tokens=20)))
    committer.commit()
    committer.finish(None)
    assert (ids(main), ids(beside)) == (["row-0", "row-1"], ["pairs/0", "pairs/1"])
    assert [place.manifest()["rows"] for place in (main, beside)] == [2, 2]
    assert main.manifest()["ledger"]["wasted_tokens"] == 20 - 5 - 2 * 7
    assert main.manifest()["ledger"]["engine_seconds"] == 9
    assert beside.manifest()["ledger"]["engine_seconds"] == 0


def test_a_killed_stream_resumes_in_all_artifacts(tmp_path: Path) -> None:
    places = artifact(tmp_path / "judged"), artifact(tmp_path / "pairs")
    first = StreamCommitter(places[0], {"pairs": places[1]}, EngineConfig(), None, None)
    first.add(rows_to_table([make_row(0), benchmark_row(1)]))
    first.commit()
    again = StreamCommitter(places[0], {"pairs": places[1]}, EngineConfig(), None, None)
    done = [again.finished.has(task, position) for task in ("training", "pairs") for position in (0, 1)]
    assert done == [True, False, False, True]
    again.add(rows_to_table([make_row(1), benchmark_row(0)]))
    assert again.received == 2
    again.commit()
    again.finish(None)
    assert [ids(place) for place in places] == [["row-0", "row-1"], ["pairs/0", "pairs/1"]]


def test_failed_rows_of_a_benchmark_do_not_cost_the_training_rows(tmp_path: Path) -> None:
    """The main artifact is finished first; the benchmark is tried again at the next start."""
    main, beside = artifact(tmp_path / "judged"), artifact(tmp_path / "pairs")
    committer = StreamCommitter(main, {"pairs": beside}, EngineConfig(), None, None)
    committer.add(rows_to_table([make_row(0), replace(benchmark_row(0), error="no"), benchmark_row(1)]))
    committer.commit()
    with pytest.raises(PassFailed, match="1 of 2 rows failed"):
        committer.finish(None)
    assert [place.state()[0] for place in (main, beside)] == ["done", "partial"]
