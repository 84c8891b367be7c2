"""How far a run is, from its phases alone; and the first lines of a run."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stj.cluster_config import HardwareConfig
from stj.config import Config
from stj.config_loader import load
from stj.loop import outlook
from stj.loop.opening import opening_lines
from stj.loop.outlook import Outlook
from stj.loop.phases import Run
from stj.text import line_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: now[0])
    return now


def config(tmp_path: Path, *words: str) -> Config:
    return load([str(ROOT / "conf/mini.yaml")], [f"run_root={tmp_path}/run", *words])


def finish(run: Run, name: str, seconds: float) -> None:
    phase = next(phase for phase in run.phases if phase.name == name)
    phase.artifact.begin()
    phase.artifact.finish(seconds=seconds, ledger={"dollars": 2.0})


def words(of: Outlook, eta_s: float | None = None, dollars: float | None = None) -> str:
    return line_of(of.parts(eta_s, dollars))


def test_a_phase_to_come_takes_as_long_as_the_last_of_its_kind(tmp_path: Path, clock: list[float]) -> None:
    run = Run(config(tmp_path))
    by_name = {phase.name: phase for phase in run.phases}
    finish(run, "pairs", 100)
    finish(run, "iteration_1/examples", 0)
    view = Outlook(run.phases, run.config)
    view.begin(by_name["iteration_1/model"])
    assert words(view, eta_s=60) == "phase 3/10 | run eta 1m+", "no model was trained yet, and no judge has judged alone"
    finish(run, "iteration_1/model", 600)
    view = Outlook(run.phases, run.config)
    view.begin(by_name["iteration_2/judged"])
    assert words(view, eta_s=300) == "phase 4/10 | run eta 25m+", "300 s, two models of 600 s, and what heldout_3 takes"
    for name, seconds in (("iteration_2/judged", 300), ("iteration_2/examples", 0), ("iteration_2/model", 900)):
        finish(run, name, seconds)
    view = Outlook(run.phases, run.config)
    view.begin(by_name["iteration_3/judged"])
    clock[0] += 60
    assert words(view) == "phase 7/10 | run eta 19m+", "no pace yet: 300 s less 60, and 900 s"


def test_a_phase_of_which_nobody_knows_how_long_it_took_is_no_measure(tmp_path: Path, clock: list[float]) -> None:
    """As earlier versions left it: later phases of its kind do not take 0 s."""
    run = Run(config(tmp_path))
    for name in ("pairs", "iteration_1/examples", "iteration_1/model"):
        artifact = next(phase for phase in run.phases if phase.name == name).artifact
        artifact.begin()
        artifact.finish()
    view = Outlook(run.phases, run.config)
    view.begin(next(phase for phase in run.phases if phase.name == "iteration_2/judged"))
    assert words(view, eta_s=60) == "phase 4/10 | run eta 1m+"
    assert words(view) == "phase 4/10"


def test_a_run_says_what_it_costs_if_a_price_is_known(tmp_path: Path, clock: list[float]) -> None:
    priced = config(tmp_path, "train.device=gpu", "train.workers=4")
    run = Run(replace(priced, hardware=replace(priced.hardware, dollars_per_gpu_hour=3.0)))
    assert isinstance(run.config.hardware, HardwareConfig)
    finish(run, "pairs", 100)
    view = Outlook(run.phases, run.config, dollars=50.0)
    training = next(phase for phase in run.phases if phase.name == "iteration_1/model")
    view.begin(training)
    clock[0] += 1800
    assert "$8.00 of about $50.00" in words(view), "2 dollars of engines, and 4 GPUs for half an hour at 3 dollars"
    view = Outlook(run.phases, run.config, dollars=None)
    view.begin(training)
    assert "$" not in words(view)


@pytest.mark.slow
def test_the_first_lines_say_what_is_read_and_where_the_logs_are(tmp_path: Path) -> None:
    lines = opening_lines(config(tmp_path, "source.limit=240", "heldout.limit=80"))
    assert lines[0] == f"run_root     {tmp_path}/run"
    assert lines[1].startswith("reads        240 instructions (")
    assert lines[2].startswith("             80 held-out pairs (")
    assert "session_latest/logs" in lines[3]
    assert lines[4] == f"elsewhere    stj watch {tmp_path}/run"
    missing = opening_lines(config(tmp_path, "source.path=/nowhere/x.jsonl", "heldout.path=null"))
    assert missing[1] == "reads        instructions (/nowhere/x.jsonl)"


@pytest.mark.slow
def test_they_come_before_ray_and_torch_are_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from stj.cli.running import _open; from stj.config_loader import load\n"
        f"_open(load(['{ROOT}/conf/mini.yaml'], ['run_root={tmp_path}/run']))\n"
        "print(sorted({'ray', 'torch', 'vllm', 'deepspeed', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=dict(os.environ)
    )
    assert ran.stdout == "[]\n"
    assert ran.stderr.startswith("run_root ")
