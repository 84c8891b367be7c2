"""Engines without a machine: what a pass says of them, and keeps for its error."""

from collections import Counter
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from stj.passes import engine_waits, waiting
from stj.passes.engine_waits import EngineWaits
from stj.passes.registry import PassRegistry
from stj.passes.stock import OtherType
from tests import ray_here
from tests.passes.test_waiting import ENGINES, Cluster


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(waiting, "autoscaler_state", cluster.answer)
    monkeypatch.setattr(waiting, "launch_failures", dict)
    return cluster


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Any:
    ray_here.install(monkeypatch)
    return ray_here.Actor(PassRegistry())


def test_a_refused_type_is_named_and_another_one_asked_for(
    cluster: Cluster, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(OtherType, "look", lambda self, *facts: asked.append(facts))
    waits = EngineWaits(ENGINES, registry)
    waits.begin()
    assert waits.look() == ""
    registry.record_engines.remote(2, 2)
    cluster.state["refused"] = Counter({"gpu-spot": 3})
    words = waits.look()
    assert "gpu-spot was refused 3 times" in words
    assert engine_waits.ray.get(registry.waits.remote()) == words  # for the error at the deadline
    assert asked == [(frozenset(), 0, 0), ({"gpu-spot"}, 2, 2)]


def test_the_words_come_although_no_other_type_can_be_asked_for(
    cluster: Cluster, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*request: object) -> None:
        raise RaySystemError("the head is away")

    monkeypatch.setattr(OtherType, "look", lost)
    monkeypatch.setattr(OtherType, "end", lost)
    registry.record_engines.remote(1, 1)
    waits = EngineWaits(ENGINES, registry)
    assert waits.look().startswith("waiting for 1 of 1 engines")
    waits.end()
