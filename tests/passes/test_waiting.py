"""What a run says that it waits for."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from stj.passes import waiting
from stj.passes.demand import Demand
from stj.passes.ray_private import AutoscalerState, MachineState
from stj.passes.waiting import Waiting

ENGINES = Demand(setting="engine.min_replicas", noun="engines", bundles=1, cpus=1, gpus=2, helper_cpus=2)
RANKS = Demand(
    setting="train.workers",
    noun="ranks",
    bundles=2,
    cpus=1,
    gpus=1,
    place={"market-type": "on-demand"},
    place_setting="train.place",
)


def machine(gpus: float, free: float, market: str = "spot") -> MachineState:
    labels = {"market-type": market}
    total = {"CPU": 8.0, "GPU": gpus}
    return MachineState(node_id="a", kind="gpu", labels=labels, total=total, free={"CPU": 8.0, "GPU": free})


class Cluster:
    """What the head says of the cluster."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {
            "machines": [],
            "starting": Counter(),
            "refused": Counter(),
            "reasons": {},
            "impossible": [],
            "groups": [],
        }

    def answer(self) -> AutoscalerState:
        return AutoscalerState(**self.state)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(waiting, "autoscaler_state", cluster.answer)
    monkeypatch.setattr(waiting, "launch_failures", lambda: {"gpu-spot": "no p5.48xlarge"})
    return cluster


def test_machines_that_start_are_counted_by_type(cluster: Cluster) -> None:
    cluster.state["starting"] = Counter({"gpu-spot": 2, "gpu-on-demand": 1})
    assert Waiting(ENGINES).words(3, 4) == (
        "waiting for 3 of 4 engines (1 CPU, 2 GPUs each): 1 gpu-on-demand is starting; 2 gpu-spot are starting"
    )
    assert Waiting(ENGINES).words(0, 4) == ""


def test_refusals_of_this_wait_are_counted_and_their_reason_is_named(cluster: Cluster) -> None:
    """The autoscaler v2 keeps its refusals for ever, without a reason; its log has the reason."""
    cluster.state["refused"] = Counter({"gpu-spot": 7, "gpu-on-demand": 2})
    words = Waiting(ENGINES)
    assert words.words(1, 1).endswith("no machine has come yet")  # those are of an earlier wait
    cluster.state["refused"] = Counter({"gpu-spot": 30, "gpu-on-demand": 2})
    assert words.words(1, 1).endswith(": gpu-spot was refused 23 times (no p5.48xlarge)")


def test_a_type_that_is_no_longer_refused_is_no_longer_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = Waiting(ENGINES)
    waits.begin()
    cluster.state["refused"] = Counter({"gpu-spot": 3})
    assert "gpu-spot was refused 3 times" in waits.words(1, 1)
    monkeypatch.setattr(waiting, "_REFUSED_FOR_S", -1.0)
    cluster.state["starting"] = Counter({"gpu-spot": 1})
    assert waits.words(1, 1).endswith(": 1 gpu-spot is starting")
    assert not waits.refused


def test_the_autoscaler_v1_says_why_but_not_how_often(cluster: Cluster) -> None:
    cluster.state["reasons"] = {"gpu-on-demand": (1795703268.0, "InsufficientInstanceCapacity: none left")}
    waits = Waiting(ENGINES)
    assert waits.words(1, 1).endswith("no machine has come yet")  # that was an earlier wait's
    cluster.state["reasons"] = {"gpu-on-demand": (1795703270.0, "InsufficientInstanceCapacity: none left")}
    words = waits.words(1, 1)
    assert ": gpu-on-demand was refused (InsufficientInstanceCapacity: none left); the autoscaler v1 asks for no other" in words
    cluster.state["reasons"]["gpu-spot"] = (1795703270.0, "none left")
    assert waits.words(1, 1).count("the autoscaler v1") == 1


def test_gpus_that_others_use_are_named(cluster: Cluster) -> None:
    """Two runs on one pool: each GPU is there, and taken."""
    cluster.state["machines"] = [machine(8, 0), machine(1, 1)]  # the second machine is too small for an engine
    assert Waiting(ENGINES).words(2, 2).endswith("(1 CPU, 2 GPUs each): all 8 GPUs are in use by others")
    assert Waiting(ENGINES).words(1, 2).endswith(": all 8 GPUs are in use")  # by this pass too
    cluster.state["machines"] = [machine(8, 1)]
    assert Waiting(ENGINES).words(2, 2).endswith(": 7 of 8 GPUs are in use by others")


def test_ranks_that_start_together_wait_for_gpus_of_which_others_leave_some(cluster: Cluster) -> None:
    cluster.state["machines"] = [machine(2, 1, "on-demand")]
    cluster.state["groups"] = [[{"CPU": 1.0, "GPU": 1.0}] * 2]
    assert Waiting(RANKS).words_of_group().endswith(": 1 of 2 GPUs is in use by others")
    cluster.state["machines"] = [machine(1, 1, "on-demand")]
    assert Waiting(RANKS).words_of_group().endswith(": no machine has come yet")  # one of the two is there


def test_cpus_that_others_use_are_named_where_gpus_are_free(cluster: Cluster) -> None:
    busy = replace(machine(8, 8), free={"CPU": 0.0, "GPU": 8.0})
    cluster.state["machines"] = [busy]
    assert Waiting(ENGINES).words(1, 1).endswith(": all 8 CPUs are in use by others")
    cluster.state["machines"] = [busy, machine(2, 0)]
    assert Waiting(ENGINES).words(1, 1).endswith(": 2 of 10 GPUs are in use by others; 8 of 16 CPUs are in use by others")


def test_a_place_leaves_other_machines_out(cluster: Cluster) -> None:
    cluster.state["machines"] = [machine(8, 8), machine(4, 0, "on-demand")]
    cluster.state["groups"] = [[{"CPU": 1.0, "GPU": 1.0}] * 2]
    assert Waiting(RANKS).words_of_group() == (
        "waiting for 2 of 2 ranks (1 CPU, 1 GPU each) at train.place={market-type: on-demand}: all 4 GPUs are in use by others"
    )


def test_ranks_with_machines_wait_for_nothing(cluster: Cluster) -> None:
    cluster.state["groups"] = [[{"CPU": 1.0, "GPU": 1.0}] * 3]  # of another run
    assert Waiting(RANKS).words_of_group() == ""


def test_what_the_autoscaler_cannot_add_now_is_said(cluster: Cluster) -> None:
    cluster.state["impossible"] = [{"CPU": 1.0, "GPU": 2.0}]
    assert Waiting(ENGINES).words(1, 2).endswith(": the autoscaler has no machine to add for it now")


def test_a_head_that_is_away_leaves_the_wait_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> AutoscalerState:
        raise RuntimeError("RPC error")

    monkeypatch.setattr(waiting, "autoscaler_state", lost)
    assert Waiting(ENGINES).words(1, 2) == "waiting for 1 of 2 engines (1 CPU, 2 GPUs each)"
    assert Waiting(RANKS).words_of_group() == ""
