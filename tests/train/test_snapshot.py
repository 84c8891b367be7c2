"""A state in the host's memory: later steps do not change it, and the next snapshot needs no new memory."""

from collections import OrderedDict
from typing import Any

import torch

from stj.train.snapshot import HostMemory


def state(value: float) -> dict[str, Any]:
    flat = torch.full((4,), value)
    groups = [{"lr": value, "params": [0]}]
    return {"flat": [flat, flat[:2]], "module": OrderedDict(a=torch.tensor(value)), "groups": groups, "rng": ((1, 2), None)}


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def test_what_changes_afterwards_is_not_in_a_snapshot() -> None:
    live = state(1.0)
    copied = HostMemory().copied(live, "optim.pt")
    live["flat"][0].fill_(2)
    live["module"]["a"].fill_(2)
    live["groups"][0]["lr"] = 2.0
    live["groups"][0]["params"].append(1)
    assert same(copied, state(1.0))
    assert [type(copied[name]) for name in ("module", "rng")] == [OrderedDict, tuple]


def test_the_next_snapshot_uses_the_same_memory() -> None:
    memory = HostMemory()
    first, second = (memory.copied(state(value), "optim.pt") for value in (1.0, 2.0))
    assert same(second, state(2.0))
    assert [part.data_ptr() for part in first["flat"]] == [part.data_ptr() for part in second["flat"]]
    other = memory.copied({"flat": [torch.ones(5)]}, "optim.pt")  # of another shape
    assert torch.equal(other["flat"][0], torch.ones(5))
    assert memory.copied(state(3.0), "model.pt")["flat"][0].data_ptr() != second["flat"][0].data_ptr()
