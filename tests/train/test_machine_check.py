"""The check of the ranks' machines at each start, before they connect; no Ray runs in these tests."""

from types import SimpleNamespace
from typing import Any

import pytest

from stj.errors import CheckFailed
from stj.machine.needs import MachineNeeds
from stj.machine.place import SharedPlace
from stj.train import ray_private
from stj.train.ray_private import MachineCheck

HIDDEN = MachineNeeds(place=SharedPlace(uri="/nowhere/run", mark="a mark"))


@pytest.fixture(autouse=True)
def direct_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of workers are direct, so that their results are there already."""
    monkeypatch.setattr(ray_private.ray, "get", list)


def worker(number: int) -> Any:
    machine = SimpleNamespace(node_ip=f"10.0.0.{number}", node_id=f"node {number}")
    return SimpleNamespace(metadata=machine, execute_async=lambda function: function())


def test_all_machines_with_a_fault_are_named_once() -> None:
    ranks = [worker(number) for number in (1, 1, 2, 2, 3, 3)]
    with pytest.raises(
        CheckFailed, match=r"^machines 10\.0\.0\.2, 10\.0\.0\.3: it does not see what the driver wrote to /nowhere"
    ):
        MachineCheck(HIDDEN, driver_node="node 1").before_init_train_context(ranks)


def test_machines_without_a_fault_start() -> None:
    assert MachineCheck(HIDDEN, driver_node="node 1").before_init_train_context([worker(1)]) == {}
    assert MachineCheck(MachineNeeds(), driver_node="elsewhere").before_init_train_context([worker(1), worker(2)]) == {}


def test_the_driver_s_own_machine_needs_a_good_driver_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stj.machine.needs.driver_fault_here", lambda: "its NVIDIA driver is too old")
    with pytest.raises(CheckFailed, match=r"^machine 10\.0\.0\.1: its NVIDIA driver is too old$"):
        MachineCheck(MachineNeeds(gpu=True), driver_node="node 1").before_init_train_context([worker(1)])
