"""Small actors that all engines of a pass talk to."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def helper_actor(made: type, *args: Any) -> Any:
    """An actor that many talk to, on the driver's machine: what it knows lasts as long as the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(made).remote(*args)
