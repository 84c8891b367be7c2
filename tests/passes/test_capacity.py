"""A pass whose engine loses its machine: CapacityError if no other arrives; if one does, no row is lost or repeated."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stj.config import EngineConfig, ModelConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import CapacityError
from stj.generate import Engine, Sampling
from stj.passes.run import run_pass
from stj.passes.spec import Pass
from stj.rows import TRAINING, Turn, row_from_dict
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import soon
from tests.passes.test_run import answer, read

pytestmark = [pytest.mark.engine, pytest.mark.long]

CONFIG = EngineConfig(device="cpu", rows_in_flight=32, commit_interval_s=0, cpus_per_replica=2)
ROWS = 60
DEADLINE_S = 30  # An engine that has room must get its process within it, also on a busy machine.


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that reads rows, and one machine that has room for an engine."""
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


async def stuck(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Hangs at row 33 and writes its process id to the file at `path`; does not hang if that file exists already."""
    before = Path(model.path).exists()

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        if messages[-1].content.endswith(" 33") and not before:
            Path(model.path).write_text(str(os.getpid()))
            time.sleep(3600)
        return messages[-1].content.upper()

    return ScriptedEngine(handler)


def run(artifact: Artifact, pid_file: Path, deadline_s: float) -> None:
    run_pass(
        Pass(
            model=ModelConfig(path=str(pid_file)),
            read=partial(read, ROWS),
            stages={TRAINING: [answer]},
            make_engine=stuck,
            capacity_deadline_s=deadline_s,
        ),
        artifact,
        CONFIG,
    )


def test_an_engine_whose_machine_is_lost_waits_for_another_no_longer_than_the_deadline(
    cluster: Cluster, tmp_path: Path
) -> None:
    artifact, pid_file = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"}), tmp_path / "stuck"
    artifact.begin()
    (node,) = cluster.worker_nodes
    machine = node.all_processes["raylet"][0].process.pid

    def take_away() -> None:
        assert soon(lambda: pid_file.exists() and bool(pid_file.read_text()), 600)
        for process in (int(pid_file.read_text()), machine):
            os.kill(process, signal.SIGKILL)

    taking = threading.Thread(target=take_away)
    taking.start()
    with pytest.raises(CapacityError, match=r"an engine found no room within ray.capacity_deadline_s=30 s"):
        run(artifact, pid_file, DEADLINE_S)
    taking.join()
    cluster.add_node(num_cpus=2)
    run(artifact, pid_file, deadline_s=600)
    assert sorted(row_from_dict(record).position for record in artifact.records()) == list(range(ROWS))


def test_a_pass_without_a_free_cpu_to_read_rows_ends_too(cluster: Cluster, tmp_path: Path) -> None:
    """Another job takes the CPU after the engine has started."""
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    on_head = NodeAffinitySchedulingStrategy(cluster.head_node.node_id, soft=False)
    other = ray.remote(num_cpus=1, scheduling_strategy=on_head)(CpuHolder).remote()
    ray.get(other.wait_until_started.remote())
    with pytest.raises(CapacityError, match=r"no CPU was free to read rows .* within ray.capacity_deadline_s=30 s"):
        run(artifact, tmp_path / "stuck", DEADLINE_S)


class CpuHolder:
    """Holds a CPU while it lives."""

    def wait_until_started(self) -> None:
        """Returns when the actor has started."""
