"""A pass whose engine loses its machine: a named error where no other comes, and nothing lost or twice where one does."""

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


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that reads rows, and one machine, which alone has room for an engine."""
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


async def stuck(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """Leaves its process id at `path` and is stuck at row 33; where somebody has left one before, it is not."""
    before = Path(model.path).exists()

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        if messages[-1].content.endswith(" 33") and not before:
            Path(model.path).write_text(str(os.getpid()))
            time.sleep(3600)
        return messages[-1].content.upper()

    return ScriptedEngine(handler)


def go(artifact: Artifact, sign: Path, deadline_s: float) -> None:
    run_pass(
        Pass(
            model=ModelConfig(path=str(sign)),
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
    artifact, sign = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"}), tmp_path / "stuck"
    artifact.begin()
    (node,) = cluster.worker_nodes
    machine = node.all_processes["raylet"][0].process.pid

    def take_away() -> None:
        assert soon(lambda: sign.exists() and bool(sign.read_text()), 600)
        for process in (int(sign.read_text()), machine):
            os.kill(process, signal.SIGKILL)

    taking = threading.Thread(target=take_away)
    taking.start()
    with pytest.raises(CapacityError, match=r"an engine found no room within ray.capacity_deadline_s=2 s"):
        go(artifact, sign, deadline_s=2)
    taking.join()
    cluster.add_node(num_cpus=2)
    go(artifact, sign, deadline_s=600)
    assert sorted(row_from_dict(record).position for record in artifact.records()) == list(range(ROWS))


def test_where_no_cpu_is_free_to_read_rows_the_pass_ends_too(cluster: Cluster, tmp_path: Path) -> None:
    """Another job took them after the engine had started."""
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    there = NodeAffinitySchedulingStrategy(cluster.head_node.node_id, soft=False)
    other = ray.remote(num_cpus=1, scheduling_strategy=there)(Taker).remote()
    ray.get(other.here.remote())
    with pytest.raises(CapacityError, match=r"no CPU was free to read rows .* within ray.capacity_deadline_s=2 s"):
        go(artifact, tmp_path / "stuck", deadline_s=2)


class Taker:
    """Holds a CPU."""

    def here(self) -> None:
        """Returns when it is."""
