"""`stj ls` and `stj clean`: what they show, what they leave, and what they refuse."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stj.cli import main
from stj.loop.cleaning import planned_cleaning
from stj.loop.finished import finished_summary
from stj.loop.listing import list_runs, runs_table
from stj.loop.phases import Run
from stj.loop.removal import without_weights
from stj.loop.status import read_run_config
from stj.loop.summary import RunSummary
from stj.storage.folder import Folder
from stj.storage.lease import driver_at, sole_driver
from tests.finished_run import finished_run

MODEL = "iteration_{}/model/model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three iterations. Tests only read it."""
    place = tmp_path_factory.mktemp("runs") / "whole"
    finished_run(place, "iterations=3", "keep_models=all")
    return place


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main(["ls", *words, "--json"]) == 0
    runs: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return runs


def cleaned(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["clean", *words])
    return (code, *capsys.readouterr())


def models(run: Path) -> list[int]:
    return [judge for judge in (1, 2, 3) if (run / MODEL.format(judge)).exists()]


@pytest.mark.slow
def test_runs_are_listed_with_state_accuracy_size_and_time(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "a/done")
    finished_run(tmp_path / "b", until="iteration_2/judged")
    finished_run(tmp_path / "c", until="pairs")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "llama"}')
    runs = {str(run["run"]): run for run in listed(capsys, str(tmp_path))}
    assert {name: run["state"] for name, run in runs.items()} == {"a/done": "done", "b": "1 of 2", "c": "0 of 2"}
    report = json.loads((whole / "report.json").read_bytes())["iterations"][-1]
    done = runs["a/done"]
    assert (done["judge"], done["accuracy"], done["ci95"]) == ("M_3", report["heldout"]["accuracy"], report["heldout"]["ci95"])
    assert done["size"] == sum(file.stat().st_size for file in (tmp_path / "a/done").rglob("*") if file.is_file())
    assert (runs["b"]["judge"], runs["c"]["accuracy"]) == ("M_0", None)
    assert main(["ls", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert f"M_3 {100 * report['heldout']['accuracy']:.1f} [" in out


def test_rows_are_not_read(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in run.rglob("*.parquet"):
        file.write_bytes(b"no Parquet")
    assert listed(capsys, str(run.parent))[0]["judge"] == "M_3"


def test_figures_of_what_was_made_anew_are_not_shown(run: Path) -> None:
    """The report is of before: a run was started anew and killed before its report."""
    other = finished_run(run.parent / "other", "iterations=3", "seed=1")
    for name in ("pairs", "iteration_1", "iteration_2", "iteration_3", "heldout_3"):
        shutil.rmtree(run / name)
        shutil.copytree(Path(other.folder.path) / name, run / name)
    [listed] = list_runs(str(run))
    assert listed.accuracy is None
    assert "is of other passes than lie there" in str(listed.why)


def test_a_dash_beside_a_report_has_its_reason_below_the_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reports were written once that name no passes."""
    report = json.loads((run / "report.json").read_bytes())
    del report["run"]["fingerprints"]
    (run / "report.json").write_text(json.dumps(report))
    for name in "abcd":
        shutil.copytree(run, run.parent / "old" / name)
    (run.parent / "old/d/report.json").unlink()
    shutil.copytree(run, run.parent / "old/e")
    assert {each["run"]: bool(each["why"]) for each in listed(capsys, str(run.parent / "old"))} == {
        **dict.fromkeys("abce", True),
        "d": False,
    }
    assert main(["ls", str(run.parent / "old")]) == 0
    out = capsys.readouterr().out
    assert out.count("does not say of which passes it is") == 1
    assert " and 1 more: report.json" in out


def test_a_run_at_work_is_running_and_looking_keeps_no_driver_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert driver_at(Folder.at(run)) is None
    words = [sys.executable, "-c", _WORKS, str(run)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "works\n"
        [here] = listed(capsys, str(run))
        assert here["state"] == "running"
        assert str(process.pid) in str(here["driver"])
        code, _, error = cleaned(capsys, str(run), "--keep", "none", "--yes")
        assert (code, models(run)) == (1, [1, 2, 3])
        assert "a driver is at work there" in error
        process.stdin.close()
        process.wait(60)
    assert listed(capsys, str(run))[0]["state"] == "done"
    with sole_driver(Folder.at(run)):
        pass


_WORKS = """
import sys
from stj.storage.folder import Folder
from stj.storage.lease import sole_driver
with sole_driver(Folder.at(sys.argv[1])):
    print("works", flush=True)
    sys.stdin.read()
"""


def test_where_there_are_no_locks_a_driver_may_be_dead_and_clean_finds_out(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "driver.lock").unlink(missing_ok=True)
    (run / "driver-000007.lock").write_text("process 1 on another, 0a0b, sign of life 3")
    [here] = listed(capsys, str(run))
    assert (here["state"], here["driver"]) == ("running?", "process 1 on another, 0a0b, sign of life 3")
    assert planned_cleaning(str(run), "none").size > 0


def test_one_damaged_run_hides_no_other(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run(run.parent / "other", until="pairs")
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"seed": 0', '"seed": 9', 1))
    runs = {str(each["run"]): each for each in listed(capsys, str(run.parent))}
    assert (runs["run"]["state"], runs["other"]["state"]) == ("damaged", "0 of 2")
    assert "damaged" in str(runs["run"]["why"])
    assert "run:" in str(runs_table(list_runs(str(run.parent))))


@pytest.mark.parametrize(("where", "line"), [("nothing", "does not exist"), ("", "no run here"), ("file.txt", "no directory")])
def test_a_place_without_runs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, line: str) -> None:
    (tmp_path / "file.txt").touch()
    assert main(["ls", str(tmp_path / where)]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "stay"), [("last", [3]), ("best", [3]), ("none", [])])
def test_a_cleaned_run_is_finished_as_before(run: Path, capsys: pytest.CaptureFixture[str], keep: str, stay: list[int]) -> None:
    rows = {file: file.read_bytes() for file in run.rglob("*.parquet")}
    before = RunSummary.of(Run(read_run_config(Folder.at(run)))).judges
    code, out, _ = cleaned(capsys, str(run), "--keep", keep, "--yes")
    assert code == 0
    assert models(run) == stay
    assert "then   `stj run` finds the run finished as before" in out
    assert f"goes   {MODEL.format(1).rpartition('/')[0]}: weights, 4.11 MB" in out
    assert {file: file.read_bytes() for file in run.rglob("*.parquet")} == rows
    after = Run(read_run_config(Folder.at(run)))
    missing = [phase for phase in after.phases if phase.artifact.state()[0] != "done"]
    assert missing == []
    assert without_weights(after, missing) == {}
    summary = finished_summary(after, after.phases, lambda _: None)
    assert summary.judges == before
    assert f"removed by stj clean --keep {keep}" in str(summary.facts["weights of iteration_1/model"])
    assert "nothing to remove" in cleaned(capsys, str(run), "--keep", keep)[1]


def test_best_is_by_the_held_out_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished_run(tmp_path / "run", "iterations=3", "keep_models=all", worse_from=3)
    assert cleaned(capsys, str(tmp_path / "run"), "--keep", "best", "--yes")[0] == 0
    assert models(tmp_path / "run") == [2]


def test_nothing_goes_without_a_yes(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, error = cleaned(capsys, str(run))
    assert (code, models(run)) == (2, [1, 2, 3])
    assert "goes   iteration_1/model" in out
    assert "pass --yes" in error


def test_what_an_unfinished_run_still_needs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(finished_run(tmp_path / "run", until="iteration_2/judged").folder.path)
    checkpoint = run / "iteration_2/checkpoints/step_00000100"
    checkpoint.mkdir(parents=True)
    (checkpoint / "optim_states.pt").write_bytes(b"0" * 1000)
    code, out, _ = cleaned(capsys, str(run), "--keep", "last", "--yes")
    assert "nothing to remove" in out
    code, out, _ = cleaned(capsys, str(run), "--keep", "none", "--yes")
    assert code == 0
    assert "iteration_2/judged is not done and needs iteration_1/model" in out
    assert "iteration_2/checkpoints belongs to begins again at its first step" in out
    assert not checkpoint.exists()
    assert models(run) == []


def test_a_model_in_use_stays(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [sys.executable, "-c", _HOLDS, str(run / "iteration_1/model/manifest.json")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "holds\n"
        code, out, _ = cleaned(capsys, str(run), "--yes")
        process.stdin.close()
    assert code == 0
    assert models(run) == [1, 3]
    assert "iteration_1/model stays, because another process uses it" in out


_HOLDS = """
import sys
from pathlib import Path
from stj.storage.holds import hold
hold(Path(sys.argv[1]))
print("holds", flush=True)
sys.stdin.read()
"""


def test_a_run_without_its_sources_can_be_cleaned(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone.jsonl"
    gone.write_text((Path(__file__).parents[2] / "stj/mini/data/heldout.jsonl").read_text())
    place = Path(finished_run(tmp_path / "own", f"heldout.path={gone}").folder.path)
    os.remove(gone)
    code, out, _ = cleaned(capsys, str(place), "--yes", "--keep", "none")
    assert code == 0
    assert "is not known" in out
    assert models(place) == []
