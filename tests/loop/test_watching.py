"""`stj watch`: what a driver shows, read from another process."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.errors import ArtifactError
from stj.loop import board, watching
from stj.loop.board import BOARD, Board, read_board
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed
from stj.text import Part
from tests.conftest import soon

LINE = [Part("iteration_1/model: step 3/9"), Part("loss 0.500"), Part("run eta 12m", 1)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOK_S", 0.02)
    monkeypatch.setattr(watching, "_LOOK_IN_STORE_S", 0.02)
    monkeypatch.setattr(board, "_LOOK_S", 0.02)
    monkeypatch.setattr(board, "_LEAST_S", 0.02)
    monkeypatch.setattr(board, "_LEAST_IN_STORE_S", 0.02)


@pytest.fixture(params=["disk", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder.at(tmp_path)
    bucket: str = request.getfixturevalue("bucket")
    return Folder.at(bucket) / tmp_path.name


@pytest.mark.slow
def test_it_shows_what_the_driver_shows_and_ends_with_the_run(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    driver, printed = Board(folder), list[str]()
    driver.say("pairs: 12 rows")
    driver.show(LINE)
    thread = threading.Thread(target=watching.watch_run, args=(folder, lambda item: printed.append(str(item))))
    assert soon(lambda: (shown := read_board(folder)) is not None and shown.line == tuple(LINE))
    thread.start()
    assert soon(lambda: "iteration_1/model: step 3/9 | loss 0.500 | run eta 12m" in caplog.messages)
    driver.say("iteration_1/model: 9 steps")
    driver.end("done")
    thread.join(60)
    assert printed[0] == f"driven by process {os.getpid()} on {os.uname().nodename}"
    assert printed[1:3] == ["pairs: 12 rows", "iteration_1/model: 9 steps"]
    assert printed[3].startswith("the run is done; its tables are in ")
    assert len(printed) == 4


@pytest.mark.slow
def test_a_driver_that_was_killed_is_dead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Really killed: the board of its process says nothing of it."""
    code = (
        "import os, sys, time; from stj.loop.board import Board; from stj.storage.folder import Folder\n"
        "board = Board(Folder.at(sys.argv[1])); print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
    assert main(["watch", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"the driver is dead (process {process.pid} on {os.uname().nodename} is gone)" in error
    assert "Run the same command again to resume" in error


def test_a_driver_elsewhere_without_a_sign_of_life_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_SILENT_S", 0.2)
    record = {"host": "elsewhere", "process": 1, "began": 1.0, "beat": 3, "line": [], "said": [], "ended": None}
    write_sealed(Folder.at(tmp_path), BOARD, record)
    with pytest.raises(ArtifactError, match="process 1 on elsewhere has shown no sign of life"):
        watching.watch_run(Folder.at(tmp_path), print)


def test_a_run_that_failed_says_why_and_one_that_is_not_there_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", str(tmp_path)]) == 2
    assert "no run here (no progress.json)" in capsys.readouterr().err
    Board(Folder.at(tmp_path)).end("failed: the disk is full\nstj: all is well")
    before = sorted(tmp_path.rglob("*"))
    assert main(["watch", str(tmp_path)]) == 1
    assert "the run has failed: the disk is full\\nstj: all is well. Run" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before, "it only reads"


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5))
def test_no_content_of_the_file_is_taken_for_a_line(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    folder = Folder.at(tmp_path_factory.mktemp("run"))
    fields = dict.fromkeys(("host", "process", "began", "beat", "ended"))
    for record in ({**fields, "line": value, "said": []}, {**fields, "line": [], "said": value}):
        write_sealed(folder, BOARD, record)
        try:
            shown = read_board(folder)
        except ArtifactError:
            continue
        assert shown is not None
        assert all(isinstance(text, str) for text in (*shown.said, *(part.text for part in shown.line)))
    (Path(folder.path) / BOARD).write_text(json.dumps(value))
    with pytest.raises(ArtifactError):
        read_board(folder)
