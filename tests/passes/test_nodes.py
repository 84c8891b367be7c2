"""Tasks on machines, and their end; no Ray runs in these tests."""

from types import SimpleNamespace
from typing import Any

import pytest

from stj.passes import link, node_check, nodes


class FakeRay:
    """Lists the tasks that are cancelled; of three, only the second has not ended."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    def wait(self, tasks: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert num_returns == len(tasks)
        return [task for task in tasks if task != "late"], [task for task in tasks if task == "late"]

    def cancel(self, task: str, *, force: bool) -> None:
        assert force
        self.cancelled.append(task)

    def get(self, task: str, timeout: float) -> Any:
        return ""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    ray = FakeRay()
    for module in (link, node_check, nodes):
        monkeypatch.setattr(module, "ray", ray)
    return ray


def test_a_task_that_has_ended_is_not_cancelled(fake: FakeRay) -> None:
    """Ray 2.60 ends the driver if a task is cancelled while it notes the task's end."""
    nodes.end_tasks(["first", "late", "last"])
    assert fake.cancelled == ["late"]
    nodes.end_tasks([])


def test_machines_that_have_answered_are_asked_to_end_nothing(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["first", "late", "last"])
    monkeypatch.setattr(node_check, "_on", lambda node, needs: next(names))
    assert node_check._ask([{}, {}, {}], node_check.MachineNeeds(), 1) == ["", "", ""]
    assert fake.cancelled == ["late"]


def test_the_sum_of_machines_that_is_done_ends_nothing(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(remote=lambda *_: "done")
    monkeypatch.setattr(link, "task_on", lambda *_, **__: here)
    monkeypatch.setattr(fake, "get", lambda *_, **__: [True, True])
    assert link._sum_together([{"NodeManagerAddress": "a"}, {}], "cpu", 1)
    assert fake.cancelled == []
