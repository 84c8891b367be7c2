"""Whether the machines of a Ray cluster can train together: one worker on each of them joins a small all-reduce.

Training over several machines needs NCCL between them. A firewall or a wrong network interface stops it only when the first
training starts, after hours of passes.
"""

import socket
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayError

from stj.errors import CheckFailed
from stj.findings import Finding, look
from stj.passes.machines import matches
from stj.passes.nodes import end_tasks, live_nodes, task_on
from stj.passes.ray_private import autoscaler_state

_ANYWHERE: Mapping[str, str] = {}
_JOIN_S = 60.0  # Machines that reach each other join within seconds, also with a cold torch.
_ANSWER_S = 180.0  # Ray starts workers, and they import torch.


def link_findings(
    device: Literal["gpu", "cpu"], place: Mapping[str, str] = _ANYWHERE, answer_s: float = _ANSWER_S
) -> list[Finding]:
    """The finding on the links between the machines of the cluster that this process has joined; none if there is only one.

    Only machines at the place of the ranks count, a label selector of Ray. With `gpu`, each lends a free GPU for a few seconds;
    a machine whose GPUs others use is left out. `answer_s` is the longest wait in seconds.
    """
    resource = "GPU" if device == "gpu" else "CPU"
    free = {machine.node_id for machine in autoscaler_state().machines if machine.free.get(resource, 0) >= 1}
    nodes = [node for node in live_nodes() if node["NodeID"] in free and matches(node["Labels"], place)]
    return [look("machines", partial(_check_links, nodes, device, answer_s))] if len(nodes) > 1 else []


def _check_links(nodes: list[dict[str, Any]], device: Literal["gpu", "cpu"], answer_s: float) -> str:
    machines = f"{len(nodes)} machines ({', '.join(sorted({node['NodeManagerAddress'] for node in nodes}))})"
    remedy = "open all ports between them, or name their network interface in NCCL_SOCKET_IFNAME"
    try:
        right = _sum_together(nodes, device, answer_s)
    except GetTimeoutError:
        late = f"{machines} did not sum numbers together within {answer_s:g} s"
        raise CheckFailed(f"{late}: their GPUs are taken, or they do not reach each other: {remedy}") from None
    except RayError as error:
        cause = str(error).strip().splitlines()[-1]
        raise CheckFailed(f"{machines} cannot sum numbers together ({cause}): {remedy}") from None
    if not right:
        raise CheckFailed(f"{machines} summed numbers wrongly: check their network cards and drivers")
    return f"{machines} sum numbers together"


def _sum_together(nodes: list[dict[str, Any]], device: Literal["gpu", "cpu"], answer_s: float) -> bool:
    """Whether the sum is right on every machine."""
    tasks: list[Any] = []
    try:
        port = ray.get(task_on(nodes[0], _free_port).remote(), timeout=answer_s)
        address = f"{nodes[0]['NodeManagerAddress']}:{port}"
        for rank, node in enumerate(nodes):
            tasks.append(task_on(node, _join, gpus=device == "gpu").remote(rank, len(nodes), address, device))
        return all(ray.get(tasks, timeout=answer_s))
    finally:
        end_tasks(tasks)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


def _join(rank: int, machines: int, address: str, device: Literal["gpu", "cpu"]) -> bool:
    from stj.train.link import all_reduce

    return all_reduce(rank, machines, address, _JOIN_S, device)
