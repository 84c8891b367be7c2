"""The command line as a program sees it: exit codes, one line for what is wrong, JSON where it may be read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stj.cli import main

ROOT = Path(__file__).parents[1]
MINI = str(ROOT / "conf" / "mini.yaml")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "nowhere.yaml"], 2, "nowhere.yaml: no such config file"),
        (["run", MINI, "trian.lr=3"], 2, "did you mean 'train'?"),
        (["run", MINI, "models.seed.path=/nope"], 2, "model /nope: the directory does not exist"),
        (["run", MINI, "source.path=/nope.jsonl"], 2, "source.path=/nope.jsonl"),
        (["iterate", MINI, "iteration=9"], 2, "iteration=9: must be 1 to iterations=3"),
        (["run", "seed=1"], 2, "no config file given"),
        (["run", MINI, "iteration=2"], 2, "`stj iterate` does one"),
        (["run", MINI, f"run_root={MINI}"], 2, "mini.yaml is a file; name a directory"),
        (["run", MINI, "models.seed.path=" + "x" * 300], 1, "File name too long"),
        (["status", "runs/mini", "seed=1"], 2, "seed=1: a run's directory knows its config"),
        (["status", "/nowhere"], 1, "no run here"),
        (["show", "/nowhere"], 1, "no artifact here"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_an_iteration_without_the_ones_before_is_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["iterate", MINI, "iteration=2", f"run_root={tmp_path}/run", *flags]) == 1
    assert "iteration 2 rests on pairs, which is not done: run iteration=1" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["source.path", "heldout.path"])
@pytest.mark.parametrize(("content", "said"), [("", "holds no"), ("{'a': 1}\n", "not JSON"), ('{"x": 1}\n', "no field")])
def test_bad_rows_are_told_before_anything_starts(
    key: str, content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    for flags in ([], ["--dry-run"]):
        assert main(["run", MINI, f"run_root={tmp_path}/run", f"{key}={tmp_path}/bad.jsonl", *flags]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_one_iteration_in_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["iterate", MINI, f"run_root={tmp_path}/run", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "iteration_1/model" in text
    assert "iteration_2/model" not in text


def test_usage_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2


def test_a_dry_run_prints_phases_and_plan_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", MINI, f"run_root={tmp_path}/run", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "iteration_3/model            absent" in text
    assert "ZeRO-3 over 2 ranks" in text
    assert not (tmp_path / "run").exists()


def test_the_papers_plan_needs_neither_weights_nor_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(ROOT / "conf" / "paper.yaml"), "--dry-run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [phase["name"] for phase in printed["phases"]][:3] == ["pairs", "iteration_1/examples", "iteration_1/model"]
    assert printed["plan"]


def test_status_of_a_config_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", MINI, f"run_root={tmp_path}/run", "--json"]) == 0
    states = json.loads(capsys.readouterr().out)
    assert {state["state"] for state in states} == {"absent"}
    assert len(states) == 10


def test_help_needs_neither_ray_nor_torch() -> None:
    """The command line answers at once: nothing heavy is imported before a verb needs it."""
    code = (
        "import sys; from stj.cli import _parser; _parser(); print([m for m in ('ray', 'torch', 'vllm') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert printed.stdout.strip() == "[]"


@pytest.mark.engine
def test_more_cpus_than_there_are_is_said_before_anything_starts(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "stj.cli", "run", MINI, f"run_root={tmp_path}/run", "train.workers=999"]
    printed = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert printed.returncode == 1
    assert "train.workers=999 asks for 999 CPUs (1 each); the cluster has" in printed.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["driver.lock"]
