"""Reads which machines a Ray cluster has and can have.

Ray has no public answer to this: `get_max_resources_from_cluster_config` is never reported. So the autoscaler's own
configuration is read on the head (stj/passes/ray_private.py), from one of four sources:

    file      the YAML of `ray up`, or of `ray start --autoscaling-config`
    kuberay   the RayCluster object in Kubernetes
    static    nobody adds machines: those that are there are all
    unknown   the head did not say; then nothing is refused, and the run waits for its machines
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.exceptions import RayError

from stj.passes.demand import COUNTED
from stj.passes.machines import NO_LIMIT, Machines, MachineType
from stj.passes.nodes import HEAD, live_nodes
from stj.passes.ray_private import ClusterSource, autoscaler_config, machine_types_of_nodes

_HEAD_NAME = "head node"  # With a space: no type of the autoscaler has this name.


def machines_of_cluster(*, grows: bool = True) -> Machines:
    """The machines of the Ray cluster that this process has joined. `grows=False`: a Ray that this process started here."""
    source, types, limit, silence = _types() if grows else ("static", [], None, "")
    names = machine_types_of_nodes() if types else {}
    live = [_live_machine(node, names.get(node["NodeID"], ""), types) for node in live_nodes()]
    reads_labels = not types or is_autoscaler_v2(fetch_from_server=True)
    return Machines(source=source, types=types, live=live, limit=limit, silence=silence, reads_labels=reads_labels)


def _types() -> tuple[ClusterSource, list[MachineType], int | None, str]:
    """Where the head found its configuration, the types, the most machines of all, and why nothing is known of them."""
    try:
        source, config = autoscaler_config()
        if source in ("static", "unknown"):
            return source, [], None, "no autoscaler of Ray runs there"
        limit, head = config.get("max_workers"), config["head_node_type"]
        kinds = config["available_node_types"].items()
        types = [_machine_type(name, kind, 0 if name == head else limit) for name, kind in kinds]
    except RayError as error:
        return "unknown", [], None, (str(error).strip().splitlines() or [type(error).__name__])[-1]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return "unknown", [], None, f"its autoscaler's configuration cannot be read: {error!r}"
    return source, [kind for kind in types if kind.most], limit, ""


def _machine_type(name: str, settings: Mapping[str, Any], limit: int | None) -> MachineType:
    """A type of the configuration. Without a limit of its own it has that of all workers together, as in Ray."""
    most = int(settings.get("max_workers", NO_LIMIT if limit is None else limit))
    return MachineType(
        name=name,
        resources={resource: float(amount) for resource, amount in (settings.get("resources") or {}).items()},
        labels=dict(settings.get("labels") or {}),
        most=most,
        least=min(most, int(settings.get("min_workers", 0))),
    )


def _live_machine(node: Mapping[str, Any], name: str, types: Sequence[MachineType]) -> MachineType:
    """A machine that is there, under the name of its type. Not every provider gives machines that name: then looks decide."""
    resources, labels = node["Resources"], node["Labels"]
    if HEAD in resources:
        name = _HEAD_NAME
    elif name not in {kind.name for kind in types}:
        name = next((kind.name for kind in types if _looks_like(kind, resources, labels)), node["NodeManagerAddress"])
    return MachineType(name=name, resources=resources, labels=labels, most=1)


def _looks_like(kind: MachineType, resources: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    same = all(kind.resources.get(name, 0) == resources.get(name, 0) for name in COUNTED)
    return same and kind.labels.items() <= labels.items()
