"""Machines that lack what a run needs: nodes of a real Ray, with other packages and another view of the disk."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from stj.cluster_config import RayConfig
from stj.config import EngineConfig, ModelConfig
from stj.errors import CheckFailed
from stj.machine.needs import MachineNeeds
from stj.machine.packages import expected_packages
from stj.machine.place import shared
from stj.passes.node_check import checked_nodes, node_findings
from stj.passes.nodes import task_on
from stj.passes.run import run_pass
from stj.passes.spec import Pass
from stj.rows import Row
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.train.launch import train
from stj.train_config import TrainConfig
from tests.conftest import make_row, soon
from tests.machine.test_packages import install
from tests.train.conftest import make_example, write_examples

pytestmark = [pytest.mark.engine, pytest.mark.long]
ROOT = Path(__file__).parents[2]
SEED = ROOT / "stj" / "mini" / "seed_model"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run_root of a cluster of three machines. The second has another transformers, and the third another disk there."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "run").mkdir()
    install(folder / "older", "transformers", "5.18.0")
    binary = Path(sys.executable).with_name("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    start = f"{binary} start --address={ray.get_runtime_context().gcs_address} --num-cpus=1 --block"
    path, patient = os.environ.get("PYTHONPATH", ""), os.environ | {"RAY_raylet_start_wait_time_s": "120"}
    hidden = f"mount -t tmpfs none {shlex.quote(str(folder / 'run'))} && exec {start} --resources='{{\"hidden\": 1}}'"
    commands = [
        ([*start.split(), '--resources={"older": 1}'], patient | {"PYTHONPATH": f"{folder}/older:{path}"}),
        (["unshare", "--mount", "bash", "-c", hidden], patient),
    ]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for command, environment in commands:  # In turn: two that start at once take the same name for a socket, and one dies.
            nodes.append(subprocess.Popen(command, env=environment))
            assert soon(lambda: len(ray.nodes()) == 1 + len(nodes), 120), f"Ray's node {len(nodes)} did not join"
        yield folder / "run"
    finally:
        for node in nodes:
            node.terminate()  # While the head lives: a node tells it that it goes, and waits long for one that is gone.
        for node in nodes:
            node.wait(600)
        ray.shutdown()


def test_each_fault_is_one_line(place: Path) -> None:
    with shared(Folder.at(place)) as seen:
        faults = node_findings(MachineNeeds(packages=expected_packages(), place=seen))
    lines = sorted(finding.words for finding in faults)
    address = ray.nodes()[0]["NodeManagerAddress"]
    assert len(lines) == 2
    assert lines[0].startswith(f"machine {address}: it does not see what the driver wrote to {place}: name a run_root")
    needed = expected_packages().named["transformers"]
    assert lines[1].startswith(f"machine {address}: it has transformers 5.18.0, where the run needs transformers {needed}: ")
    assert not any("\n" in line for line in lines)


def test_the_doctor_names_a_run_root_that_one_machine_does_not_see(place: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    words = ["doctor", str(ROOT / "conf" / "mini.yaml"), f"run_root={place}/not_made_yet", f"ray.address={address}", "--json"]
    done = subprocess.run([sys.executable, "-m", "stj.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    faults = [finding["words"] for finding in json.loads(done.stdout)["findings"] if not finding["ok"]]
    assert any(f"it does not see what the driver wrote to {place}: name a run_root" in fault for fault in faults)
    assert any("it has transformers 5.18.0" in fault for fault in faults)
    assert list(place.iterdir()) == []


def test_a_machine_that_is_as_it_must_be_and_one_that_does_not_answer(place: Path) -> None:
    (fine,) = node_findings(MachineNeeds())
    assert fine.words == "3 machines have what the run needs"
    away = next(node for node in ray.nodes() if "hidden" in node["Resources"])
    manager = ray.get(task_on(away, lambda: os.getppid()).remote())  # Ray's own process there, which started this one
    os.kill(manager, signal.SIGSTOP)
    try:
        (late,) = node_findings(MachineNeeds(), answer_s=15)
    finally:
        os.kill(manager, signal.SIGCONT)
    assert late.ok
    assert late.words.startswith("2 machines have what the run needs; 1 has not answered, and is asked when an engine or rank")


def test_a_run_is_refused_before_its_first_phase(place: Path) -> None:
    with (
        pytest.raises(CheckFailed, match=r"it has transformers 5\.18\.0.*\n.*it does not see|it does not see.*\n.*5\.18\.0"),
        checked_nodes(RayConfig(address="auto"), Folder.at(place), gpu=False),
    ):
        raise AssertionError("the run has begun")
    with checked_nodes(RayConfig(address="local"), Folder.at(place), gpu=False):
        pass  # one machine has nothing to compare


def rows() -> Iterator[Row]:
    yield make_row()


def test_an_engine_on_a_machine_that_joined_later_is_refused(place: Path, tmp_path: Path) -> None:
    """The pass asks for more CPUs than the driver's machine has left, so that the engine starts elsewhere."""
    model = ModelConfig(path=str(SEED), max_model_len=2048)
    with shared(Folder.at(place)) as seen:
        spec = Pass(model=model, read=rows, stages={"instruction": []}, place=seen)
        taken = ray.remote(num_cpus=2)(Holder).remote()
        ray.get(taken.ready.remote())
        with pytest.raises(CheckFailed, match=r"it does not see|transformers 5\.18\.0"):
            run_pass(spec, Artifact(Folder.at(tmp_path / "pass"), {"step": "pass"}), EngineConfig(device="cpu", max_replicas=1))
        ray.kill(taken)


class Holder:
    """Takes the CPUs of the driver's machine."""

    def ready(self) -> None:
        """Returns when the CPUs are taken."""


def test_a_training_is_refused_before_its_ranks_connect(place: Path) -> None:
    examples = write_examples(Folder.at(place) / "examples", [make_example(index) for index in range(60)])
    cluster = RayConfig(address="auto", capacity_deadline_s=120)
    config = TrainConfig(workers=4, device="cpu", cpus_per_worker=1, max_seq_len=256, max_num_tokens=256, max_failures=0)
    output = Artifact(Folder.at(place / "iteration_1" / "model"), {"step": "train"})
    with pytest.raises(CheckFailed, match=r"it does not see what the driver wrote to .*/checkpoints|transformers 5\.18\.0"):
        train(config, ModelConfig(path=str(SEED)), examples, output, cluster)
