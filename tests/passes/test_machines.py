"""What a cluster can ever hold, from its autoscaler's configuration and the machines that are there."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import GetTimeoutError

from stj.errors import CapacityError
from stj.passes import machines, ray_private
from stj.passes.demand import Demand
from stj.passes.machines import Machines, MachineType, machines_of_cluster, matches

CLUSTER = Path(__file__).parents[2] / "cluster"
GPU = {"CPU": 96, "GPU": 8}


def demand(bundles: int, cpus: float = 1, gpus: float = 0, helpers: float = 0, **place: str) -> Demand:
    names = {"setting": "engine.min_replicas", "noun": "engines", "place_setting": "engine.place"}
    labels = {label.replace("_", "-"): value for label, value in place.items()}
    return Demand(**names, bundles=bundles, cpus=cpus, gpus=gpus, place=labels, helper_cpus=helpers)  # type: ignore[arg-type]


def kind(name: str, most: int, resources: Mapping[str, float] = GPU, **labels: str) -> MachineType:
    named = {label.replace("_", "-"): value for label, value in labels.items()}
    return MachineType(name=name, resources=resources, labels=named, most=most)


HEAD = kind("head", 1, {"CPU": 16})
GROWS = Machines(
    source="file",
    types=[kind("spot", 4, market_type="spot"), kind("on-demand", 2, market_type="on-demand")],
    live=[HEAD],
    limit=5,
)


@pytest.mark.parametrize(
    ("asked", "room"),
    [
        (demand(1, gpus=8), 5),  # six machines, but five in all
        (demand(1, gpus=3), 10),  # two on each machine: no engine spans machines
        (demand(1, gpus=9), 0),
        (demand(1, gpus=1, market_type="on-demand"), 16),
        (demand(1, gpus=1, market_type="gold"), 0),
        (demand(1, cpus=17), 25),  # the head is too small
        (demand(1, cpus=16), 31),
        (demand(1, cpus=0.1, gpus=8), 5),
    ],
)
def test_the_room_of_a_cluster_is_counted_by_machine(asked: Demand, room: int) -> None:
    assert GROWS.room(asked) == room


def test_the_limit_of_all_machines_goes_to_the_types_that_hold_the_most() -> None:
    types = [kind("small", 3, {"CPU": 8, "GPU": 1}), kind("large", 2)]
    assert Machines(source="file", types=types, limit=3).room(demand(1, gpus=1)) == 17


def test_machines_that_are_there_count_even_if_the_configuration_has_fewer() -> None:
    here = Machines(source="file", types=[kind("gpu", 1)], live=[HEAD, kind("gpu", 1), kind("gpu", 1)], limit=1)
    assert here.room(demand(1, gpus=8)) == 2
    assert here.room_now(demand(1, gpus=8)) == 2


def test_cpus_are_kept_for_reading() -> None:
    """If engines took every CPU of a cluster, no task could read rows for them."""
    static = Machines(source="static", live=[kind("here", 1, {"CPU": 2})])
    words = r"engine.min_replicas=2: the cluster can hold 0 engines \(1 CPU each\) beside the 2 CPUs that are kept for reading"
    with pytest.raises(CapacityError, match=words):
        static.refuse_impossible(demand(2, helpers=2))
    static.refuse_impossible(demand(2))


def test_a_refusal_names_what_is_asked_what_can_be_had_and_the_types() -> None:
    types = "spot .up to 4 with 96 CPUs, 8 GPUs each; market-type=spot., on-demand"
    with pytest.raises(CapacityError, match=f"=6: the cluster can hold 5 engines .1 CPU, 8 GPUs each.*5 machines of {types}"):
        GROWS.refuse_impossible(demand(6, gpus=8))
    with pytest.raises(CapacityError, match=f"take 1 CPU, 16 GPUs each, of one machine, and none is that large.*{types}"):
        GROWS.refuse_impossible(demand(1, gpus=16))
    with pytest.raises(CapacityError, match=f"engine.place={{market-type: gold}}: no machine of the cluster.*{types}"):
        GROWS.refuse_impossible(demand(1, gpus=8, market_type="gold"))


def test_a_type_of_which_there_can_be_none_is_no_answer() -> None:
    off = Machines(source="file", types=[kind("gpu", 0, market_type="gold")], live=[HEAD], limit=5)
    with pytest.raises(CapacityError, match="no machine of the cluster has such labels"):
        off.refuse_impossible(demand(1, market_type="gold"))


def test_a_place_is_refused_where_the_autoscaler_does_not_read_labels() -> None:
    """The autoscaler v1 would start on-demand machines for engines that only spot machines may run."""
    at_spot = demand(2, gpus=8, market_type="spot")
    old = replace(GROWS, reads_labels=False)
    with pytest.raises(CapacityError, match=r"engine.place={market-type: spot}: the autoscaler v1 does not read labels.*_v2=1"):
        old.refuse_impossible(at_spot)
    old.refuse_impossible(demand(2, gpus=8))
    replace(old, types=old.types[:1]).refuse_impossible(at_spot)  # no other type could be started
    replace(old, live=[HEAD, *[kind("spot", 1, market_type="spot")] * 2]).refuse_impossible(at_spot)  # they are there


@pytest.mark.parametrize(
    "cluster",
    [
        Machines(source="unknown", live=[HEAD]),
        Machines(source="file", types=[kind("gpu", 2, {})], live=[HEAD], limit=2),  # Ray learns its size when one has come
    ],
)
def test_what_is_not_known_is_not_refused(cluster: Machines) -> None:
    assert cluster.room(demand(9, gpus=99)) is None
    cluster.refuse_impossible(demand(9, gpus=99))


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [("a", {"a"}), ("!a", {"b", "c", None}), ("in(a,b)", {"a", "b"}), ("in(a, b)", {"a", "b"}), ("!in(a,b)", {"c", None})],
)
def test_label_selectors_are_rays(wanted: str, fits: set[str | None]) -> None:
    values: list[str | None] = ["a", "b", "c", None]
    assert {value for value in values if matches({"label": value} if value else {}, {"label": wanted})} == fits


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=3), st.booleans(), st.one_of(st.none(), NAMES))
def test_selectors_of_any_labels_mean_what_ray_means(names: list[str], negated: bool, value: str | None) -> None:
    from ray._private.label_utils import validate_label_selector_value

    wanted = "!" * negated + (f"in({','.join(names)})" if len(names) > 1 else names[0])
    assert validate_label_selector_value(wanted) is None
    assert matches({"label": value} if value else {}, {"label": wanted}) == ((value in names) != negated)


def node(number: int, labels: dict[str, str], **resources: float) -> dict[str, Any]:
    return {
        "NodeID": f"id-{number}",
        "Alive": True,
        "NodeManagerAddress": f"10.0.0.{number}",
        "Labels": labels,
        "Resources": resources,
    }


def test_machines_are_counted_under_their_type_by_name_or_by_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The autoscaler v1 gives machines no name of a type: one that was counted twice would hide a refusal."""
    config = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    head = node(0, {"market-type": "on-demand"}, CPU=16, **{"node:__internal_head__": 1})
    nodes = [head, node(1, {"market-type": "spot"}, CPU=192, GPU=8), node(2, {}, CPU=192, GPU=8), node(3, {}, CPU=64)]
    monkeypatch.setattr(machines, "autoscaler_config", lambda: ("file", config))
    monkeypatch.setattr(machines, "machine_types_of_nodes", lambda: {"id-2": "gpu-on-demand", "id-3": "head"})
    monkeypatch.setattr(machines.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(machines, "is_autoscaler_v2", lambda fetch_from_server: True)
    cluster = machines_of_cluster()
    assert [machine.name for machine in cluster.live] == ["head", "gpu-spot", "gpu-on-demand", "10.0.0.3"]
    assert [(machine.name, machine.most) for machine in cluster.types] == [("gpu-on-demand", 4), ("gpu-spot", 4)]
    assert cluster.room(demand(1, gpus=8)) == 8
    assert cluster.words().startswith(
        "the cluster has 4 machines with 464 CPUs, 16 GPUs, and can have gpu-on-demand (up to 4 with"
    )


@pytest.mark.parametrize("monitor", ["autoscaler/v2/monitor.py", "autoscaler/_private/monitor.py"])
def test_the_configuration_is_that_of_the_autoscaler_of_this_cluster(
    monitor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several heads may run on a machine, each with its autoscaler."""
    (tmp_path / "types.yaml").write_text("max_workers: 3")
    words = ["python", "-u", f"/site-packages/ray/{monitor}"]
    running = [
        [*words, "--gcs-address=10.0.0.1:1", "--autoscaling-config=/of/another.yaml"],
        ["grep", "--gcs-address=10.0.0.1:2"],
        [*words, "--gcs-address=10.0.0.1:2", f"--autoscaling-config={tmp_path}/types.yaml"],
        [*words, "--gcs-address=10.0.0.1:3"],
    ]
    monkeypatch.setattr(ray_private, "_command_lines", lambda: iter(running))
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    assert ray_private._find_config("10.0.0.1:2") == ("file", {"max_workers": 3})
    assert ray_private._find_config("10.0.0.1:3") == ("static", {})
    assert ray_private._find_config("10.0.0.1:4") == ("unknown", {})


def test_kuberays_answer_is_read_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The RayCluster object as Kubernetes gives it to the head's pod, through Ray's own reader of it."""
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    job = yaml.safe_load((CLUSTER / "kuberay.yaml").read_text())
    answer = {"metadata": {"name": "stj", "namespace": "default"}, "spec": job["spec"]["rayClusterSpec"]}
    asked: list[str] = []
    monkeypatch.setattr(KubernetesHttpApiClient, "__init__", lambda self, namespace: asked.append(namespace))
    monkeypatch.setattr(KubernetesHttpApiClient, "get", lambda self, path: asked.append(path) or answer)
    (tmp_path / "namespace").write_text("default\n")
    monkeypatch.setattr(ray_private, "_NAMESPACE", str(tmp_path / "namespace"))
    monkeypatch.setattr(ray_private, "_command_lines", lambda: iter([]))
    monkeypatch.setenv("RAY_CLUSTER_NAME", "stj")
    monkeypatch.setattr(machines, "autoscaler_config", lambda: ray_private._find_config("10.0.0.1:1"))
    monkeypatch.setattr(machines, "machine_types_of_nodes", dict)
    monkeypatch.setattr(machines.ray, "nodes", lambda: [node(0, {}, **{"node:__internal_head__": 1})])
    monkeypatch.setattr(machines, "is_autoscaler_v2", lambda fetch_from_server: True)
    cluster = machines_of_cluster()
    assert asked == ["default", "rayclusters/stj"]
    assert cluster.source == "kuberay"
    assert {machine.name: machine.most for machine in cluster.types} == {"gpu-on-demand": 4, "gpu-spot": 4}
    assert cluster.room(demand(1, gpus=8, helpers=2)) == 8
    assert cluster.room(demand(1, gpus=1, market_type="spot")) == 32
    with pytest.raises(CapacityError, match=r"gpu-on-demand .up to 4 with \d+ CPUs, 8 GPUs each; market-type=on-demand"):
        cluster.refuse_impossible(demand(9, gpus=8))


def test_a_head_that_does_not_answer_leaves_the_types_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def late() -> Any:
        raise GetTimeoutError("no answer within 30 s")

    monkeypatch.setattr(machines, "autoscaler_config", late)
    monkeypatch.setattr(machines.ray, "nodes", lambda: [node(0, {}, CPU=16)])
    assert machines_of_cluster().room(demand(9, gpus=8)) is None
    assert "does not say which machines it can add: no answer within 30 s" in caplog.text
