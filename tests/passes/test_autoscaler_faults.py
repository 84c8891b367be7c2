"""Passes on a growing cluster that lacks machines, shares them or loses them: each wait is said, and ends at the deadline."""

import logging
from pathlib import Path

import pytest
import ray

from stj.errors import CapacityError
from stj.passes import stock
from tests.passes.fake_autoscaler import TYPES, FakeCluster
from tests.passes.slow_pass import SlowPass, every_second, machines

pytestmark = [pytest.mark.engine, pytest.mark.long]


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


def test_two_runs_on_one_pool_say_that_the_gpus_are_taken(
    joined: FakeCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stj.passes.watch")
    joined.configure(most=1)
    other = ray.remote(num_cpus=1, num_gpus=2)(OtherRun).remote()
    ray.get(other.wait_until_started.remote(), timeout=600)
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


def test_a_machine_that_dies_is_replaced_and_no_row_is_lost(joined: FakeCluster, tmp_path: Path) -> None:
    spec = SlowPass(tmp_path, rows=60, engines=3, max_replicas=2)
    killed: list[str] = []

    def kill() -> None:
        if len(spec.machines) == 2 and not killed:
            killed.append(spec.machines[0])
            joined.kill_machine(killed[0])

    with every_second(kill):
        assert spec.run() == list(range(60))
    assert len(spec.machines) == 3
    assert killed


def test_another_type_is_asked_for_if_the_preferred_one_is_out_of_stock(
    joined: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if joined.version == "v1":
        pytest.skip("the autoscaler v1 does not heed the labels of a request: its error says so")
    monkeypatch.setattr(stock, "_PATIENCE_S", 1.0)
    joined.configure(types=TYPES | {"gpu-spot": TYPES["gpu-spot"] | {"priority": 1}})
    joined.refuse("gpu-spot")
    spec = SlowPass(tmp_path, rows=40, deadline_s=60)
    assert spec.run() == list(range(40))
    assert machines() == ["on-demand"]
