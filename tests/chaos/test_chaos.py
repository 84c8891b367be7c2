"""The short form of `make chaos`: two seeds, each compared with an undisturbed run. And what the killer rests on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.journal import read_journal
from tests.chaos.plan import Fault
from tests.chaos.processes import Process, Processes, alive, kill
from tests.chaos.watch import RunWatch, Sizes
from tests.conftest import running

ROOT = Path(__file__).parents[2]
SLEEPER = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '600'])"]


@pytest.mark.engine
@pytest.mark.long
def test_two_seeds(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = [sys.executable, "-m", "tests.chaos", "--seed", "4", "--seed", "18", "--json", str(report)]
    chaos = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert chaos.returncode == 0, chaos.stdout + chaos.stderr
    facts = json.loads(report.read_text())
    assert facts["passed"] == 2
    assert sum(facts["faults"].values()) >= 4, chaos.stdout


def test_a_process_and_those_below_it_are_found_and_a_kill_is_seen_to_have_killed() -> None:
    with running(SLEEPER) as parent:
        while not (below := Processes.now().below(parent.pid)):
            assert parent.poll() is None
        child = below[0]
        assert child.parent == parent.pid
        assert alive(child.pid)
        assert kill([child])
        assert not alive(child.pid)
        assert not kill([child]), "nobody lived"


def process(pid: int, parent: int, *words: str, cpu: int = 0) -> Process:
    return Process(pid=pid, parent=parent, cpu=cpu, words=words)


def test_victims_are_those_of_the_machines_and_engines_at_work_come_first() -> None:
    host, actor = ("python", "-m", "stj.engine.host", "50", "7", "cpu"), "ray::MapWorker(MapBatches(PassActor))"
    seen = [
        process(7, 1, "raylet"),
        process(10, 7, f"{actor}.__init__"),
        process(11, 7, f"{actor}.submit"),
        process(12, 7, "ray::RayTrainWorker"),
        process(20, 1, *host),
        process(21, 20, *host, cpu=10),
        process(22, 20, *host, cpu=900),
        process(23, 22, *host),
        process(24, 22, "python", "-c", "from multiprocessing.resource_tracker import main;main(33)"),
        process(8, 1, "raylet"),
        process(30, 8, f"{actor}.submit"),
        process(31, 1, *host[:4], "8", "cpu"),
    ]
    children: dict[int, list[Process]] = {}
    for one in seen:
        children.setdefault(one.parent, []).append(one)
    found = Processes({one.pid: one for one in seen}, children)
    assert [victim.pid for victim in found.engine_actors([7])] == [11]
    assert [victim.pid for victim in found.ranks([7, 8])] == [12]
    assert [victim.pid for victim in found.engines([7, 8])] == [22]
    assert [victim.pid for victim in found.engine_workers([7])] == [23]
    assert {victim.pid for victim in found.machine(7)} == {7, 10, 11, 12, 20, 21, 22, 23, 24}
    assert {victim.pid for victim in found.machine(8)} == {8, 30, 31}


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as ended:
        while alive(ended.pid):
            pass
        assert ended.pid not in Processes.now().by_pid


def fault(place: str, share: float) -> Fault:
    return Fault(kind="node", place=place, share=share, delay_s=0, victim=0)  # type: ignore[arg-type]


def test_a_fault_is_due_when_its_share_of_the_steps_is_done_and_steps_made_again_are_counted(tmp_path: Path) -> None:
    watch = RunWatch(tmp_path, Sizes(of={"pairs": 6, "iteration_1/model": 4, "iteration_2/model": 4}))
    place, metrics = "iteration_1/model", tmp_path / "iteration_1/metrics.jsonl"
    assert not watch.reached(fault(place, 0))
    (tmp_path / "iteration_1/checkpoints").mkdir(parents=True)
    (tmp_path / "iteration_1/checkpoints/progress.json").write_text('{"activity": "starting ranks", "steps": 0}')
    assert watch.reached(fault(place, 0))
    assert not watch.reached(fault(place, 0.5))
    for steps in (3, 1, 2, 3):
        metrics.write_text("{}\n" * steps)
        watch.look()
    assert watch.steps_again == 2
    assert watch.reached(fault(place, 0.5))
    assert not watch.reached(fault("iteration_1/export", 0))
    metrics.write_text("{}\n" * 4)
    watch.look()
    assert watch.reached(fault("iteration_1/export", 0))


def test_a_fault_is_due_when_its_share_of_the_rows_is_committed(run: Path) -> None:
    watch = RunWatch(run, Sizes.in_run(run))
    assert watch.over("pairs")
    (run / "pairs/manifest.json").unlink()
    assert watch.reached(fault("pairs", 0.9))
    for part in (run / "pairs/rows").glob("part-*.parquet"):
        part.unlink()
    fresh = RunWatch(run, Sizes(of={"pairs": 7}))
    assert fresh.reached(fault("pairs", 0))
    assert not fresh.reached(fault("pairs", 0.1))


def test_the_journal_counts_rows_that_were_asked_again_by_weights(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = [{"row": "a"}, {"row": "b"}, {"row": "a"}, {"engine": 7}]
    lines = [{"weights": "seed", **line} for line in asked] + [{"weights": "M_1", "row": "a"}]
    (tmp_path / "journal").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = read_journal(tmp_path / "journal")
    assert (found.engines, found.rows, found.rows_again) == (1, 4, 1)
    assert read_journal(tmp_path / "none").rows == 0
