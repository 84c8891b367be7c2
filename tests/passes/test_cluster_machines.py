"""Which machines a cluster has and can have, as its head says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.exceptions import GetTimeoutError

from stj.errors import CapacityError
from stj.passes import cluster_machines, ray_private
from stj.passes.cluster_machines import machines_of_cluster
from stj.passes.machines import Machines
from tests.passes.test_machines import demand

CLUSTER = Path(__file__).parents[2] / "cluster"


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
    monkeypatch.setattr(cluster_machines, "autoscaler_config", lambda: ("file", config))
    monkeypatch.setattr(cluster_machines, "machine_types_of_nodes", lambda: {"id-2": "gpu-on-demand", "id-3": "head"})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(cluster_machines, "is_autoscaler_v2", lambda fetch_from_server: True)
    cluster = machines_of_cluster()
    assert [machine.name for machine in cluster.live] == ["head node", "gpu-spot", "gpu-on-demand", "10.0.0.3"]
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
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "types.yaml").write_text("max_workers: 3")
    words = ["python", "-u", f"/site-packages/ray/{monitor}"]
    running = [
        [*words, "--gcs-address=10.0.0.1:1", "--autoscaling-config=/of/another.yaml"],
        ["grep", "--gcs-address=10.0.0.1:2"],
        [*words, "--gcs-address=10.0.0.1:2", f"--autoscaling-config={tmp_path}/cwd/types.yaml"],
        [*words, "--gcs-address=10.0.0.1:3"],
        [*words, "--gcs-address=10.0.0.1:5", "--autoscaling-config=types.yaml"],
    ]
    monkeypatch.setattr(ray_private, "_processes", lambda: iter([(tmp_path, line) for line in running]))
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    assert ray_private._find_config("10.0.0.1:2") == ("file", {"max_workers": 3})
    assert ray_private._find_config("10.0.0.1:3") == ("static", {})
    assert ray_private._find_config("10.0.0.1:4") == ("unknown", {})
    assert ray_private._find_config("10.0.0.1:5") == ("file", {"max_workers": 3})
    with pytest.raises(FileNotFoundError):
        ray_private._find_config("10.0.0.1:1")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machines]:
    """Reads a cluster of one head from an answer of the autoscaler's, or from what raises an error."""

    def read_from(answer: Callable[[], Any]) -> Machines:
        monkeypatch.setattr(cluster_machines, "autoscaler_config", answer)
        monkeypatch.setattr(cluster_machines, "machine_types_of_nodes", dict)
        monkeypatch.setattr(ray, "nodes", lambda: [node(0, {}, **{"node:__internal_head__": 1})])
        monkeypatch.setattr(cluster_machines, "is_autoscaler_v2", lambda fetch_from_server: True)
        return machines_of_cluster()

    return read_from


@pytest.fixture
def in_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Callable[[], Any]]:
    """What the head's pod answers if Kubernetes has this RayCluster, through Ray's own reader of it."""
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    (tmp_path / "namespace").write_text("default\n")
    monkeypatch.setattr(ray_private, "_NAMESPACE", str(tmp_path / "namespace"))
    monkeypatch.setattr(ray_private, "_processes", lambda: iter([]))
    monkeypatch.setenv("RAY_CLUSTER_NAME", "stj")
    monkeypatch.setattr(KubernetesHttpApiClient, "__init__", lambda self, namespace: None)

    def answer(spec: dict[str, Any]) -> Callable[[], Any]:
        objects = {"rayclusters/stj": {"metadata": {"name": "stj", "namespace": "default"}, "spec": spec}}
        monkeypatch.setattr(KubernetesHttpApiClient, "get", lambda self, path: objects[path])
        return lambda: ray_private._find_config("10.0.0.1:1")

    return answer


def group(name: str, replicas: int, limits: dict[str, str], **settings: Any) -> dict[str, Any]:
    """A group of workers whose container has these limits."""
    container = {"name": "ray-worker", "resources": {"limits": limits}}
    spec = {"groupName": name, "minReplicas": 0, "maxReplicas": replicas, "template": {"spec": {"containers": [container]}}}
    return spec | settings


def kubernetes(*groups: dict[str, Any]) -> dict[str, Any]:
    head = group("headgroup", 1, {"cpu": "2"}, rayStartParams={"num-cpus": "0"})
    return {"headGroupSpec": head, "workerGroupSpecs": list(groups)}


def test_kuberays_answer_is_read_like_a_file(read: Any, in_kubernetes: Any) -> None:
    job = yaml.safe_load((CLUSTER / "kuberay.yaml").read_text())
    cluster = read(in_kubernetes(job["spec"]["rayClusterSpec"]))
    assert cluster.source == "kuberay"
    assert {machine.name: machine.most for machine in cluster.types} == {"gpu-on-demand": 4, "gpu-spot": 4}
    assert cluster.room(demand(1, gpus=8, helpers=2)) == 8
    assert cluster.room(demand(1, gpus=1, market_type="spot")) == 32
    with pytest.raises(CapacityError, match=r"gpu-on-demand .up to 4 with \d+ CPUs, 8 GPUs each; market-type=on-demand"):
        cluster.refuse_impossible(demand(9, gpus=8))


LIMITS = {"cpu": "95500m", "memory": "512Gi", "nvidia.com/gpu": "8"}


@pytest.mark.parametrize(
    ("settings", "place", "room"),
    [
        ({}, {}, 4),
        ({"numOfHosts": 2}, {}, 8),
        ({"maxReplicas": 2**31 - 1}, {}, 2**31 - 1),  # what Kubernetes fills in
        ({"rayStartParams": {"num-gpus": "4", "num-cpus": "16"}}, {}, 0),  # Ray counts fewer than the container has
        ({"resources": {"GPU": "16", "CPU": "96"}}, {}, 8),
        ({"suspend": True}, {}, 0),
        ({"labels": {"market-type": "spot"}}, {"market_type": "spot"}, 4),
        ({"labels": {"market-type": "spot"}}, {"market_type": "on-demand"}, 0),
        ({"rayStartParams": {"labels": "market-type=spot"}}, {"market_type": "spot"}, 0),  # Ray's autoscaler ignores these
    ],
)
def test_groups_of_any_shape_hold_what_kuberays_autoscaler_believes(
    settings: dict[str, Any], place: dict[str, str], room: int, read: Any, in_kubernetes: Any
) -> None:
    spec = kubernetes(group("gpu", 4, LIMITS, **settings), group("cpu", 9, {"cpu": "32"}))
    assert read(in_kubernetes(spec)).room(demand(1, gpus=8, **place)) == room


@pytest.mark.parametrize(
    "groups",
    [
        [group("gpu", 4, LIMITS, minReplicas=None)],  # its autoscaler fails on it as well
        [group("gpu", 4, {"nvidia.com/gpu": "8"})],  # without a number of CPUs
    ],
)
def test_groups_that_kuberays_autoscaler_cannot_read_leave_the_types_unknown(
    groups: Any, read: Any, in_kubernetes: Any
) -> None:
    cluster = read(in_kubernetes(kubernetes(*groups)))
    assert cluster.source == "unknown"
    assert cluster.silence


@pytest.mark.parametrize(
    "config", [None, [], {"max_workers": 2, "worker_nodes": {}}, {"head_node_type": "a", "available_node_types": {"gpu": 8}}]
)
def test_a_file_of_another_kind_leaves_the_types_unknown(config: Any, read: Any) -> None:
    assert read(lambda: ("file", config)).source == "unknown"


def test_the_types_are_those_of_which_workers_can_start(read: Any) -> None:
    kinds = {
        "head": {"resources": {"CPU": 4}},  # the head's type has no workers by default
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "min_workers": 1},
        "off": {"resources": {"CPU": 8, "GPU": 8}, "max_workers": 0},
    }
    config = {"max_workers": 5, "head_node_type": "head", "available_node_types": kinds}
    [gpu] = read(lambda: ("file", config)).types
    assert (gpu.name, gpu.least, gpu.most) == ("gpu", 1, 5)
    both = config | {"available_node_types": {"head": {"resources": {"CPU": 8, "GPU": 2}, "max_workers": 3}}}
    assert read(lambda: ("file", both)).room(demand(1, gpus=2)) == 3  # workers of the head's type
    [free] = read(lambda: ("file", {"head_node_type": "a", "available_node_types": {"gpu": {"resources": {"GPU": 1}}}})).types
    assert free.words() == "gpu (any number with 1 GPU each)"


def test_a_head_that_does_not_answer_leaves_the_types_unknown(read: Any) -> None:
    def late() -> Any:
        raise GetTimeoutError("no answer within 30 s")

    cluster = read(late)
    assert cluster.room(demand(9, gpus=8)) is None
    cluster.refuse_impossible(demand(9, gpus=8))
    assert cluster.words().endswith("its head does not say which machines can come (no answer within 30 s)")
