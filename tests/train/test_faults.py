"""Training that gets SIGTERM, and a cluster that loses machines: two real ranks, and the same weights as without the fault."""

import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from stj.cluster_config import RayConfig
from stj.config import ModelConfig
from stj.errors import CapacityError, Stopped
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.train.launch import train
from stj.train_config import TrainConfig
from tests.conftest import running, wait_until
from tests.train.conftest import write_examples
from tests.train.test_launch import CONFIG, EXAMPLES, metrics, ranks_of, same_weights, without_speed

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.long]

LONG = replace(CONFIG, max_epochs=12, checkpoint_every_steps=10)


@pytest.fixture(scope="module")
def cluster(bucket: str) -> Iterator[Cluster]:
    """A head without room for ranks, three machines with room for one rank each, and Ray's watch for drained machines."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1")
        environment.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.2")
        cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(3):
            cluster.add_node(num_cpus=1)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def calm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, seed_directory: Path) -> Path:
    """A run without any disturbance."""
    folder = tmp_path_factory.mktemp("calm")
    fine_tune(folder, seed_directory)
    return folder


def fine_tune(folder: Path | str, seed: Path, deadline_s: float = 600, config: TrainConfig = LONG) -> None:
    """Trains the model in folder/model, or resumes its training."""
    examples = write_examples(Folder.at(folder) / "examples", EXAMPLES)
    model = Artifact(Folder.at(folder) / "model", {"step": "model"})
    train(config, ModelConfig(path=str(seed)), examples, model, RayConfig(capacity_deadline_s=deadline_s, stop_notice_s=600))


def when(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Acts as soon as the condition is met, in a thread of its own: the test's main thread trains."""

    def wait() -> None:
        deadline = time.monotonic() + 600
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def saved(folder: Path) -> list[int]:
    """Steps of the whole checkpoints."""
    return sorted(int(manifest.parent.name.removeprefix("step_")) for manifest in folder.glob("checkpoints/*/manifest.json"))


def with_ranks(cluster: Cluster) -> Node:
    """A machine with ranks."""
    return next(node for node in cluster.worker_nodes if ranks_on(node))


def ranks_on(node: Node) -> list[int]:
    """Process ids of the ranks of a machine."""
    return ranks_of(raylet_of(node))


def raylet_of(node: Node) -> int:
    """Process id of Ray itself on a machine."""
    return int(node.all_processes["raylet"][0].process.pid)


def drain(node: Node) -> None:
    """Announces, as a spot market does, that a machine will be taken away."""
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    gone_ms = int((time.time() + 600) * 1000)
    accepted, why_not = ray._private.worker.global_worker.gcs_client.drain_node(node.node_id, reason, "spot", gone_ms)
    assert accepted, why_not


def take_away(node: Node) -> None:
    """Kills a machine's ranks, and Ray there."""
    for process in [*ranks_on(node), raylet_of(node)]:
        os.kill(process, signal.SIGKILL)


def test_a_drained_machine_is_answered_with_a_checkpoint_and_changes_no_weight(
    cluster: Cluster, calm: Path, seed_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    doomed: list[Node] = []

    def announce() -> None:
        doomed.append(with_ranks(cluster))
        drain(doomed[0])

    file = tmp_path / "metrics.jsonl"
    watching = [
        when(lambda: file.exists() and len(metrics(tmp_path)) > 2, announce),
        when(lambda: bool(saved(tmp_path)), lambda: take_away(doomed[0])),
    ]
    # No checkpoint is due, so the first is the answer.
    fine_tune(tmp_path, seed_directory, config=replace(LONG, checkpoint_every_steps=100_000))
    for thread in watching:
        thread.join()
    assert re.search(
        r"ranks restart from step \d+: (the machine of rank [01] is taken away|rank [01] lost its machine)", caplog.text
    )
    assert same_weights(tmp_path, calm)
    assert without_speed(metrics(tmp_path)) == without_speed(metrics(calm))


def test_a_lost_machine_and_no_other_is_a_named_error_and_the_run_resumes_in_an_object_store(
    cluster: Cluster,
    calm: Path,
    seed_directory: Path,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    taking = when(lambda: bool(saved(tmp_path)), lambda: take_away(with_ranks(cluster)))
    with pytest.raises(CapacityError, match=r"train.workers=2 .* found no room within ray.capacity_deadline_s=2 s"):
        fine_tune(tmp_path, seed_directory, deadline_s=2)
    taking.join()
    # It depends on the moment what is known first: the end or silence of the lost rank, or the error of the other one.
    assert re.search(r"ranks restart \(attempt 2 of 2\) from step \d+: rank [01]( cannot be reached| died)?: ", caplog.text)
    cluster.add_node(num_cpus=1)
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    elsewhere = Folder.at(bucket) / "moved"
    for file in [file for file in tmp_path.rglob("*") if file.is_file()]:
        (elsewhere / str(file.parent.relative_to(tmp_path))).upload(file)
    shutil.rmtree(tmp_path)
    fine_tune(elsewhere.uri, seed_directory)
    assert same_weights(elsewhere.uri, calm)
    assert without_speed(metrics(elsewhere.uri)) == without_speed(metrics(calm))


@pytest.mark.usefixtures("cluster")
def test_sigterm_ends_with_a_checkpoint_and_143_and_a_moved_folder_resumes(
    calm: Path, seed_directory: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with running([sys.executable, "-m", "tests.train.test_faults", str(here), str(seed_directory)], cwd=ROOT) as driver:
        wait_until(lambda: bool(saved(here)), driver)
        driver.terminate()
        assert driver.wait(timeout=1800) == 143
    assert len(metrics(here)) == saved(here)[-1]  # after any step; one in ten has its regular checkpoint there
    here.rename(there)
    fine_tune(there, seed_directory)
    assert same_weights(there, calm)
    assert without_speed(metrics(there)) == without_speed(metrics(calm))


if __name__ == "__main__":  # the driver that gets SIGTERM
    ray.init(address="local", include_dashboard=False, num_cpus=3, logging_level=logging.ERROR)
    try:
        fine_tune(Path(sys.argv[1]), Path(sys.argv[2]))
    except Stopped as error:
        ray.shutdown()
        sys.exit(error.exit_code)
