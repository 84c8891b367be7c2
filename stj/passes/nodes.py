"""The machines that are in the cluster now, as Ray lists them, and tasks on one of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

HEAD = "node:__internal_head__"
"""Ray's resource of the head alone."""


def live_nodes() -> list[dict[str, Any]]:
    """The machines, with Ray's names for their facts: NodeID, Resources, Labels."""
    return [node for node in ray.nodes() if node["Alive"]]


def task_on(node: Mapping[str, Any], function: Callable[..., Any], *, gpus: int = 0, retries: int = 0) -> Any:
    """The function as a task of Ray that runs on this machine or nowhere, and takes no CPU of it."""
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(function).options(num_cpus=0, num_gpus=gpus, max_retries=retries, scheduling_strategy=here)


def end_tasks(tasks: Sequence[Any]) -> None:
    """Ends those of the tasks that run or wait.

    One that has just ended is left alone: cancelled before Ray has noted its end, it makes Ray end this process.
    """
    if not tasks:
        return
    _, open_tasks = ray.wait(list(tasks), num_returns=len(tasks), timeout=0)
    for task in open_tasks:
        ray.cancel(task, force=True)
