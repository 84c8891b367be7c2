"""Passes on clusters that grow from zero, with Ray's own autoscalers, v2 and v1, and fake machines (fake_autoscaler.py)."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stj.cluster_config import RayConfig
from stj.errors import CapacityError
from stj.passes.cluster_machines import machines_of_cluster
from stj.passes.ray_private import autoscaler_state
from stj.passes.session import engine_demand, joined_cluster, training_demand
from stj.train_config import TrainConfig
from tests.conftest import soon
from tests.passes.fake_autoscaler import IDLE_S, FakeCluster, fake_cluster
from tests.passes.slow_pass import GPU, TWO_GPUS, SlowPass, every_second, machines

pytestmark = pytest.mark.engine
long = pytest.mark.long

SPOT, ON_DEMAND, GOLD, NEITHER = ({"market-type": market} for market in ("spot", "on-demand", "gold", "!in(spot,on-demand)"))


def test_only_what_no_machine_can_give_is_refused_at_once(joined: FakeCluster) -> None:
    asked = [
        (engine_demand(GPU, [replace(TWO_GPUS, tensor_parallel_size=4)]), r"take 1 CPU, 4 GPUs each, of one machine"),
        (engine_demand(replace(GPU, min_replicas=5, max_replicas=5), [TWO_GPUS]), r"min_replicas=5: .* can hold 4 engines"),
        (engine_demand(replace(GPU, place=GOLD), [TWO_GPUS]), r"engine.place={market-type: gold}: no machine .* such labels"),
        (engine_demand(replace(GPU, cpus_per_replica=5), [TWO_GPUS]), r"take 5 CPUs, 2 GPUs each, of one machine"),
        (training_demand(TrainConfig(workers=9)), r"train.workers=9: the cluster can hold 8 ranks"),
        (training_demand(TrainConfig(workers=5, place=ON_DEMAND)), r"4 ranks .* at train.place={market-type: on-demand}"),
        (training_demand(TrainConfig(workers=3, place=NEITHER)), r"of one machine at train.place={market-type: !in"),
    ]
    types = r"up to 2 with 4 CPUs, 2 GPUs each; market-type=on-demand.*gpu-spot"
    cluster = machines_of_cluster()
    assert cluster.source == "file"
    for demand, words in asked:
        with pytest.raises(CapacityError, match=f"{words}.*{types}"):
            cluster.refuse_impossible(demand)
    for demand in (
        engine_demand(replace(GPU, min_replicas=4, max_replicas=4), [TWO_GPUS]),
        training_demand(TrainConfig(workers=8)),
    ):
        cluster.refuse_impossible(demand)
    for demand in (
        engine_demand(replace(GPU, place={"market-type": "in(spot, gold)"}, min_replicas=2, max_replicas=2), [TWO_GPUS]),
        training_demand(TrainConfig(workers=4, place={"market-type": "!spot"})),
    ):
        if joined.version == "v2":
            cluster.refuse_impossible(demand)
        else:
            with pytest.raises(CapacityError, match="the autoscaler v1 does not read labels"):
                cluster.refuse_impossible(demand)
    assert not machines()  # asking starts none
    assert not autoscaler_state().starting


@long
def test_a_pass_grows_the_cluster_from_zero_to_all_its_engines_at_once_and_it_shrinks_afterwards(
    joined: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stj.passes.watch")
    spec = SlowPass(tmp_path, rows=60, engines=3, start_s=5, max_replicas=3)
    assert spec.run() == list(range(60))
    assert len(spec.machines) == 3
    assert "of 3 engines (1 CPU, 2 GPUs each)" in caplog.text  # all three were asked for while there was none
    ended = time.monotonic()
    assert soon(lambda: not machines(), 60)
    assert time.monotonic() - ended > IDLE_S / 3


@long
def test_engines_go_where_their_place_is_and_to_no_other_machine(joined: FakeCluster, tmp_path: Path) -> None:
    if joined.version == "v1":
        pytest.skip("the autoscaler v1 does not read labels: a place is refused")
    seen: set[str] = set()
    with every_second(lambda: seen.update(machines())):
        spec = SlowPass(tmp_path, rows=60, engines=2, max_replicas=4, place=SPOT)
        assert spec.run() == list(range(60))
    assert len(spec.machines) == 2  # all that there can be
    assert seen == {"spot"}


@long
def test_machines_are_kept_while_engines_start_for_longer_than_the_idle_time(joined: FakeCluster, tmp_path: Path) -> None:
    spec = SlowPass(tmp_path, rows=40, engines=2, start_s=3 * IDLE_S, min_replicas=2, max_replicas=2)
    assert spec.run() == list(range(40))
    assert len(spec.machines) == 2  # an engine whose machine went away would have left a third


@long
def test_a_second_engine_joins_when_its_machine_can_come_later(joined: FakeCluster, tmp_path: Path) -> None:
    joined.configure(most=1)
    spec = SlowPass(tmp_path, rows=60, engines=2, max_replicas=2)
    with every_second(lambda: joined.configure(most=2) if spec.machines else None):
        assert spec.run() == list(range(60))
    assert len(spec.machines) == 2


@long
def test_engines_leave_the_cpus_that_read_rows_to_a_head_that_has_none(tmp_path: Path) -> None:
    """Each machine has one CPU, which an engine takes: engines on all four would wait for rows that nothing reads."""
    with fake_cluster("v2", head_cpus=0) as cluster, joined_cluster(RayConfig(address=cluster.address)):
        cluster.configure(types={"gpu": {"resources": {"CPU": 1, "GPU": 2}, "max_workers": 4}})
        spec = SlowPass(tmp_path, rows=60, engines=2, max_replicas=4)
        assert spec.run() == list(range(60))
        assert len(spec.machines) == 2
