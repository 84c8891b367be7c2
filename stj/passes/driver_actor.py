"""Small actors that the driver and all engines of a pass share: the registry, and the gate of `select.limit`."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def driver_actor(actor_class: type, *args: Any) -> Any:
    """Starts an actor on the driver's machine, so that its memory lasts as long as the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(actor_class).remote
    return remote(*args)
