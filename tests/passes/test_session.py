"""Capacity: a run refuses at once what the cluster can never have, and waits up to a deadline for what it can grow to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stj.config import EngineConfig, ModelConfig, RayConfig, TrainConfig
from stj.config_loader import load
from stj.errors import CapacityError
from stj.passes import session
from stj.passes.session import Demand, engine_demand, training_demand

MINI = Path(__file__).parents[2] / "conf" / "mini.yaml"


@pytest.fixture
def cluster(
    monkeypatch: pytest.MonkeyPatch, asked: list[list[dict[str, float]]]
) -> Callable[[dict[str, float], dict[str, float]], list[dict[str, float]]]:
    """A cluster with resources now and others that it can grow to; each look at it is one machine later."""

    def make(now: dict[str, float], possible: dict[str, float]) -> list[dict[str, float]]:
        looks: list[dict[str, float]] = []

        def present() -> dict[str, float]:
            grown = {name: min(max(possible[name], now[name]), now[name] + 8 * len(looks)) for name in now}
            looks.append(grown)
            return grown

        monkeypatch.setattr(session, "_present", present)
        monkeypatch.setattr(session, "_possible", lambda: possible)
        monkeypatch.setattr(session, "_can_add_nodes", lambda: possible["GPU"] > 0)
        monkeypatch.setattr(session.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 64, "GPU": 4}}])
        monkeypatch.setattr(session, "request_resources", lambda bundles: asked.append(bundles))
        monkeypatch.setattr(session.time, "sleep", lambda seconds: None)
        return looks

    return make


@pytest.fixture
def asked() -> list[list[dict[str, float]]]:
    """The requests to the autoscaler."""
    return []


WANTED = [Demand("train.workers", 16, 1, 1)]


def test_more_than_the_cluster_can_ever_have_is_refused_with_both_figures(cluster) -> None:  # type: ignore[no-untyped-def]
    cluster({"CPU": 64, "GPU": 4}, {"CPU": 0, "GPU": 0})
    with pytest.raises(
        CapacityError, match=r"train.workers=16 asks for 16 GPUs \(1 each\); the cluster has 4 and can grow to 4"
    ):
        session._require(WANTED, RayConfig())


def test_a_cluster_that_can_grow_from_zero_is_waited_for(cluster, asked) -> None:  # type: ignore[no-untyped-def]
    looks = cluster({"CPU": 64, "GPU": 0}, {"CPU": 64, "GPU": 16})
    session._require(WANTED, RayConfig())
    assert looks[-1]["GPU"] == 16
    assert asked[0] == [{"CPU": 1, "GPU": 1}] * 16 + [{"CPU": 1}] * 2  # and for reading
    assert asked[-1] == []  # taken back: a request outlives its job


def test_an_engine_larger_than_any_machine_is_refused(cluster) -> None:  # type: ignore[no-untyped-def]
    cluster({"CPU": 64, "GPU": 16}, {"CPU": 0, "GPU": 0})
    with pytest.raises(CapacityError, match="each takes 1 CPUs and 8 GPUs of one machine"):
        session._require([Demand("engine.min_replicas", 2, 1, 8)], RayConfig())


def test_what_does_not_come_in_time_is_a_named_error(cluster) -> None:  # type: ignore[no-untyped-def]
    cluster({"CPU": 64, "GPU": 0}, {"CPU": 64, "GPU": 16})
    with pytest.raises(CapacityError, match=r"16 GPUs for train.workers=16 .* ray.capacity_deadline_s=0 s"):
        session._require(WANTED, RayConfig(capacity_deadline_s=0))


def test_an_address_where_nothing_listens_is_one_clear_line() -> None:
    with pytest.raises(CapacityError, match=r"ray.address=127.0.0.1:1: no Ray cluster answers there .*ray start --head"):
        session._connect(RayConfig(address="127.0.0.1:1"))


def test_what_a_run_asks_for() -> None:
    mini = load([MINI])
    assert engine_demand(mini.engine, [ModelConfig()]).total == {"CPU": 2, "GPU": 0}
    assert training_demand(mini.train).total == {"CPU": 2, "GPU": 0}
    models = [ModelConfig(), ModelConfig(tensor_parallel_size=4, pipeline_parallel_size=2)]
    assert engine_demand(EngineConfig(min_replicas=2, max_replicas=4), models).total["GPU"] == 16
    assert training_demand(TrainConfig(workers=32)).total["GPU"] == 32


def test_cpus_are_kept_for_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """If engines took every CPU of a cluster, no task could read rows for them."""
    monkeypatch.setattr(session.ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(session, "max_cluster_resources", dict)
    with pytest.raises(
        CapacityError, match=r"asks for 2 CPUs \(1 each\); the cluster has 0 beside the 2 that are kept for read"
    ):
        session._require([engine_demand(load([MINI]).engine, [ModelConfig()])], RayConfig())


API = ModelConfig(endpoint="https://api.example.com/v1", name="judge-1", parallel_requests=8)


def test_models_behind_an_api_ask_for_no_gpu_and_nearly_no_cpu() -> None:
    engine = EngineConfig(min_replicas=2, max_replicas=4)
    assert engine_demand(engine, [API]).total == {"CPU": pytest.approx(0.1), "GPU": 0}
    assert engine_demand(engine, [API, ModelConfig()]) == engine_demand(engine, [ModelConfig()])
    pool = engine.serving(API)
    assert (pool.min_replicas, pool.max_replicas, pool.rows_in_flight) == (1, 1, 8)
    assert engine.serving(ModelConfig()) is engine
