"""Passes and training on clusters that grow from zero, with Ray's own autoscalers and fake machines (fake_autoscaler.py)."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import ray

from stj.config import EngineConfig, ModelConfig, RayConfig, TrainConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import CapacityError
from stj.generate import Engine, Sampling
from stj.passes import stock
from stj.passes.machines import machines_of_cluster
from stj.passes.ray_private import autoscaler_state
from stj.passes.run import run_pass
from stj.passes.session import engine_demand, joined_cluster, training_demand
from stj.passes.spec import Pass
from stj.rows import TRAINING, Turn, row_from_dict
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import soon
from tests.passes.fake_autoscaler import IDLE_S, TYPES, FakeCluster, fake_cluster
from tests.passes.test_run import answer, read

pytestmark = pytest.mark.engine
long = pytest.mark.long

GPU = EngineConfig(device="gpu", rows_in_flight=8, commit_interval_s=0)
TWO_GPUS = ModelConfig(path="scripted", tensor_parallel_size=2)
SPOT, ON_DEMAND, GOLD = ({"market-type": market} for market in ("spot", "on-demand", "gold"))


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Without the token that another Ray may have left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="module", params=["v2", pytest.param("v1", marks=long)])
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    """A head without GPUs, and at most four machines with two GPUs each: two on demand, two spot."""
    with fake_cluster(request.param) as cluster:
        yield cluster


@pytest.fixture
def joined(cluster: FakeCluster) -> Iterator[FakeCluster]:
    """This process has joined the cluster, which has no machines yet."""
    with joined_cluster(RayConfig(address=cluster.address)):
        assert soon(lambda: not machines(), 60)
        yield cluster
        cluster.configure()
        cluster.refuse()


def machines() -> list[str]:
    """The kinds of the living machines beside the head."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return sorted(node["Labels"].get("market-type", "-") for node in alive if node["Resources"].get("GPU"))


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (engine_demand(GPU, [replace(TWO_GPUS, tensor_parallel_size=4)]), r"take 1 CPU, 4 GPUs each, of one machine"),
        (engine_demand(replace(GPU, min_replicas=5, max_replicas=5), [TWO_GPUS]), r"min_replicas=5: .* can hold 4 engines"),
        (engine_demand(replace(GPU, place=GOLD), [TWO_GPUS]), r"engine.place={market-type: gold}: no machine .* such labels"),
        (engine_demand(replace(GPU, cpus_per_replica=5), [TWO_GPUS]), r"take 5 CPUs, 2 GPUs each, of one machine"),
        (training_demand(TrainConfig(workers=9)), r"train.workers=9: the cluster can hold 8 ranks"),
        (
            training_demand(TrainConfig(workers=5, place=ON_DEMAND)),
            r"can hold 4 ranks .* at train.place={market-type: on-demand}",
        ),
        (
            training_demand(TrainConfig(workers=3, place={"market-type": "!in(spot,on-demand)"})),
            r"of one machine at train.place={market-type: !in",
        ),
    ],
)
def test_only_what_no_machine_can_give_is_refused_at_once(joined: FakeCluster, demand, words: str) -> None:  # type: ignore[no-untyped-def]
    types = r"up to 2 with 4 CPUs, 2 GPUs each; market-type=on-demand.*gpu-spot"
    with pytest.raises(CapacityError, match=f"{words}.*{types}"):
        machines_of_cluster().refuse_impossible(demand)
    assert not machines()
    assert not autoscaler_state().starting


@pytest.mark.parametrize(
    "demand",
    [
        engine_demand(replace(GPU, min_replicas=4, max_replicas=4), [TWO_GPUS]),
        engine_demand(replace(GPU, place={"market-type": "in(spot, gold)"}, min_replicas=2, max_replicas=2), [TWO_GPUS]),
        training_demand(TrainConfig(workers=8)),
        training_demand(TrainConfig(workers=4, place={"market-type": "!spot"})),
    ],
)
def test_what_can_come_is_not_refused(joined: FakeCluster, demand) -> None:  # type: ignore[no-untyped-def]
    machines_of_cluster().refuse_impossible(demand)


async def slow(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """An engine that loads its model for as many seconds as its path says, and answers a row in 0.1 s."""
    start_s, _, marks = model.path.partition(":")
    await asyncio.sleep(float(start_s))
    if marks:
        (Path(marks) / ray.get_runtime_context().get_node_id()).touch()

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        time.sleep(0.1)
        return messages[-1].content.upper()

    return ScriptedEngine(handler)


@contextmanager
def every_second(call: Callable[[], object]) -> Iterator[None]:
    """Calls a function every second, beside the block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(1):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


class SlowPass:
    """A pass with engines of two GPUs, whose machines leave their ids in a folder."""

    def __init__(self, folder: Path, rows: int, start_s: float = 0, deadline_s: float = 60, **engine: object) -> None:
        self._marks = folder / "machines"
        self._marks.mkdir()
        self.artifact = Artifact(Folder.at(folder / "pass"), {"step": "test"})
        self.artifact.begin()
        self.config = replace(GPU, **engine)  # type: ignore[arg-type]
        self.spec = Pass(
            model=replace(TWO_GPUS, path=f"{start_s}:{self._marks}"),
            read=partial(read, rows),
            stages={TRAINING: [answer]},
            make_engine=slow,
            capacity_deadline_s=deadline_s,
        )

    def run(self) -> list[int]:
        """The positions of the rows that came out."""
        run_pass(self.spec, self.artifact, self.config)
        return sorted(row_from_dict(record).position for record in self.artifact.records())

    @property
    def machines(self) -> list[str]:
        """Ids of the machines that had an engine."""
        return sorted(os.listdir(self._marks))


@long
def test_a_pass_grows_the_cluster_from_zero_to_all_its_engines_at_once_and_it_shrinks_afterwards(
    joined: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stj.passes.watch")
    spec = SlowPass(tmp_path, rows=300, start_s=5, max_replicas=3)
    assert spec.run() == list(range(300))
    assert len(spec.machines) == 3
    assert "of 3 engines (1 CPU, 2 GPUs each)" in caplog.text  # all three were asked for while there was none
    ended = time.monotonic()
    assert soon(lambda: not machines(), 60)
    assert time.monotonic() - ended > IDLE_S / 3


@long
def test_engines_go_where_their_place_is_and_to_no_other_machine(joined: FakeCluster, tmp_path: Path) -> None:
    seen: set[str] = set()
    with every_second(lambda: seen.update(machines())):
        spec = SlowPass(tmp_path, rows=60, max_replicas=4, place=SPOT)
        assert spec.run() == list(range(60))
    assert len(spec.machines) == 2  # all that there can be
    assert seen == {"spot"}


@long
def test_machines_are_kept_while_engines_start_for_longer_than_the_idle_time(joined: FakeCluster, tmp_path: Path) -> None:
    spec = SlowPass(tmp_path, rows=40, start_s=3 * IDLE_S, min_replicas=2, max_replicas=2)
    assert spec.run() == list(range(40))
    assert len(spec.machines) == 2  # an engine whose machine went away would have left a third


@long
def test_a_type_that_cannot_be_had_is_named_at_the_deadline_with_its_number_and_reason(
    joined: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stj.passes.watch")
    joined.refuse("gpu-on-demand", "gpu-spot")
    spec = SlowPass(tmp_path, rows=10, deadline_s=12, max_replicas=2)
    words = r"for 2 of 2 engines \(1 CPU, 2 GPUs each\): gpu-.* was refused.* \(.*InsufficientInstanceCapacity.*no p5.48xlarge"
    with pytest.raises(CapacityError, match=f"within ray.capacity_deadline_s=12 s: waiting {words}"):
        spec.run()
    assert "was refused" in caplog.text
    joined.refuse()
    assert spec.run() == list(range(10))  # the same command, once there are machines


@long
def test_two_runs_on_one_pool_say_that_the_gpus_are_taken(
    joined: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stj.passes.watch")
    joined.configure(most=1)
    other = ray.remote(num_cpus=1, num_gpus=2)(OtherRun).remote()
    ray.get(other.wait_until_started.remote(), timeout=60)
    spec = SlowPass(tmp_path, rows=10, deadline_s=12)
    with pytest.raises(CapacityError, match=r"waiting for 1 of 1 engines .*: all 2 GPUs are in use by others"):
        spec.run()
    assert "all 2 GPUs are in use by others" in caplog.text
    ray.kill(other)
    assert spec.run() == list(range(10))


class OtherRun:
    """An engine of another run."""

    def wait_until_started(self) -> None:
        """Returns when it has its GPUs."""


@long
def test_a_second_engine_joins_when_its_machine_can_come_later(joined: FakeCluster, tmp_path: Path) -> None:
    joined.configure(most=1)
    spec = SlowPass(tmp_path, rows=300, max_replicas=2)
    with every_second(lambda: joined.configure(most=2) if spec.machines else None):
        assert spec.run() == list(range(300))
    assert len(spec.machines) == 2


@long
def test_a_machine_that_dies_is_replaced_and_no_row_is_lost(joined: FakeCluster, tmp_path: Path) -> None:
    spec = SlowPass(tmp_path, rows=300, max_replicas=2)
    killed: list[str] = []

    def kill() -> None:
        if len(spec.machines) == 2 and not killed:
            killed.append(spec.machines[0])
            joined.kill_machine(killed[0])

    with every_second(kill):
        assert spec.run() == list(range(300))
    assert len(spec.machines) == 3
    assert killed


@long
def test_another_type_is_asked_for_if_the_preferred_one_is_out_of_stock(
    joined: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["cluster"] == "v1":
        pytest.skip("the autoscaler v1 does not heed the labels of a request: its error says so")
    monkeypatch.setattr(stock, "_PATIENCE_S", 1.0)
    joined.configure(types=TYPES | {"gpu-spot": TYPES["gpu-spot"] | {"priority": 1}})
    joined.refuse("gpu-spot")
    spec = SlowPass(tmp_path, rows=40, deadline_s=60)
    assert spec.run() == list(range(40))
    assert machines() == ["on-demand"]
