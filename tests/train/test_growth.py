"""Training on a cluster that grows from zero: its ranks wait together, at their place, and say what they wait for."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.train import ScalingConfig

from stj.cluster_config import RayConfig
from stj.config import ModelConfig
from stj.errors import CapacityError
from stj.passes.session import joined_cluster
from stj.passes.waiting import waiting_ranks
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.train import launch
from stj.train.launch import train
from tests.conftest import soon
from tests.passes.fake_autoscaler import IDLE_S, TYPES, FakeCluster, fake_cluster
from tests.passes.slow_pass import every_second
from tests.train.conftest import write_examples
from tests.train.test_launch import CONFIG, EXAMPLES

pytestmark = [pytest.mark.engine, pytest.mark.long]

# A machine has four CPUs: each rank takes one machine.
ON_DEMAND = replace(CONFIG, cpus_per_worker=3, max_epochs=1, place={"market-type": "on-demand"})


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    """A head with one CPU; this process has joined it."""
    with fake_cluster("v2") as cluster, joined_cluster(RayConfig(address=cluster.address)):
        yield cluster


def fine_tune(folder: Path, seed: Path, deadline_s: float) -> None:
    examples = write_examples(Folder.at(folder) / "examples", EXAMPLES)
    model = Artifact(Folder.at(folder) / "model", {"step": "model"})
    cluster = RayConfig(capacity_deadline_s=deadline_s)
    train(ON_DEMAND, ModelConfig(path=str(seed)), examples, model, cluster, waiting=waiting_ranks(ON_DEMAND))


def kinds() -> list[str]:
    """The kinds of the machines beside the head that ever came."""
    return sorted(node["Labels"]["market-type"] for node in ray.nodes() if "market-type" in node["Labels"])


def test_ranks_get_their_machines_at_their_place_and_leave_them_afterwards(
    cluster: FakeCluster, seed_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stj.train.watch")
    fine_tune(tmp_path, seed_directory, deadline_s=240)
    assert (tmp_path / "model" / "manifest.json").exists()
    assert kinds() == ["on-demand"] * 2
    assert soon(lambda: not any(node["Alive"] and "market-type" in node["Labels"] for node in ray.nodes()))


def test_ranks_that_get_no_machine_name_the_type_and_the_reason(
    cluster: FakeCluster, seed_directory: Path, tmp_path: Path
) -> None:
    cluster.refuse("gpu-on-demand")
    words = (
        r"waiting for 2 of 2 ranks \(3 CPUs each\) at train.place={market-type: on-demand}: gpu-on-demand was refused \d+ times"
    )
    with pytest.raises(CapacityError, match=f"{words} .*InsufficientInstanceCapacity"):
        fine_tune(tmp_path, seed_directory, deadline_s=15)


def with_two_gpus(**words: Any) -> ScalingConfig:
    """What each rank asks Ray for, and two GPUs beside it."""
    return ScalingConfig(**words | {"use_gpu": True, "resources_per_worker": words["resources_per_worker"] | {"GPU": 2}})


def test_the_first_machine_is_kept_while_the_second_one_cannot_be_had(
    cluster: FakeCluster, seed_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ScalingConfig", with_two_gpus)
    one = TYPES["gpu-on-demand"] | {"max_workers": 1}
    cluster.configure(types={"gpu-first": one, "gpu-second": one})
    cluster.refuse("gpu-second")
    seen: list[tuple[float, set[str]]] = []

    def look() -> None:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"] and "market-type" in node["Labels"]}
        if alive or seen:
            seen.append((time.monotonic(), alive))
        if seen and seen[-1][0] - seen[0][0] > 2 * IDLE_S:
            cluster.refuse()

    with every_second(look):
        fine_tune(tmp_path, seed_directory, deadline_s=240)
    (first,) = seen[0][1]
    alone_s = max(when for when, alive in seen if alive == {first}) - seen[0][0]
    assert alone_s > 2 * IDLE_S
    assert all(first in alive for _, alive in seen)
    assert len(set().union(*(alive for _, alive in seen))) == 2
