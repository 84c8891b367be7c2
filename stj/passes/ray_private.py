"""The private APIs of Ray that passes use, all in one place. An upgrade of Ray may remove any of them.

tests/passes/test_ray_private.py names each one and fails by that name. No other module here reaches into Ray.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import actors, state
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data._internal.output_buffer import OutputBlockSizeOption

_ITERATION_THREAD = "iter_threaded"  # The prefetcher beside it waits for this thread, and calls nothing by itself.


class StepCallback(ExecutionCallback, ABC):  # type: ignore[misc]
    """Runs in Ray Data's own loop. An error raised here ends the execution."""

    @abstractmethod
    def on_step(self, executor: StreamingExecutor) -> None:
        """Runs at each step of the loop."""

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """Ray Data's name for `on_step`."""
        self.on_step(executor)


@dataclass(frozen=True, kw_only=True)
class ActorPool:
    """The actors of one operator, as Ray Data knows them at this step."""

    outputs: int
    """Output blocks that the next operator has taken so far."""
    tasks: int
    """Tasks running on the actors."""
    running: list[Any]
    """Actors that have started once, including those that restart."""
    restarting: list[Any]
    """Running actors that Ray is starting again."""
    pending: list[Any]
    """Actors that have not started yet."""


class SmallReads(ExecutionCallback):  # type: ignore[misc]
    """Makes each table leave its reading task at once. Ray Data would hold it back until the task has read a whole block."""

    def before_execution_starts(self, executor: StreamingExecutor) -> None:
        """Changes the operator that reads, which is the first one with a function."""
        read = next(operator for operator in executor._topology if isinstance(operator, MapOperator))
        for function in read.get_map_transformer()._transform_fns:
            function._output_block_size_option = OutputBlockSizeOption.of(disable_block_shaping=True)


def call_each_step(context: DataContext, callbacks: Sequence[Callable[[], StepCallback]]) -> None:
    """Makes executions under a context create these callbacks and call them at each step."""
    context.custom_execution_callback_classes = list(callbacks)


def actor_pools(executor: StreamingExecutor) -> list[ActorPool]:
    """The actor pools of a running execution."""
    return [_actor_pool(operator) for operator in executor._topology if isinstance(operator, ActorPoolMapOperator)]


def _actor_pool(operator: ActorPoolMapOperator) -> ActorPool:
    pool = operator._actor_pool
    return ActorPool(
        outputs=operator.metrics.num_outputs_taken,
        tasks=operator.metrics.num_tasks_running,
        running=list(pool._running_actors),
        restarting=[actor for actor, actor_state in pool._running_actors.items() if actor_state.is_restarting],
        pending=list(pool._pending_actors.values()),
    )


def forget_block_stats(executor: StreamingExecutor) -> None:
    """Empties the statistics that Ray Data keeps of each output block."""
    for operator in executor._topology:
        if isinstance(operator, MapOperator):
            operator._output_blocks_stats.clear()


def end_streaming_executors(timeout_s: float) -> None:
    """Ends Ray Data's threads in this process and waits for each of them, at most `timeout_s` seconds."""
    for thread in threading.enumerate():
        if isinstance(thread, StreamingExecutor):
            thread.shutdown(force=True)
            thread.join(timeout_s)


def iteration_threads() -> set[threading.Thread]:
    """The threads of this process that read blocks for iterators of Ray Data.

    A closed iterator only asks them to end. One that calls Ray while Ray shuts down ends the process, without a word.
    """
    return {thread for thread in threading.enumerate() if thread.name == _ITERATION_THREAD}


def actor_address(actor: "ray.actor.ActorHandle") -> str:
    """IP address of the machine that an actor runs or starts on, empty if it has none yet.

    An actor without a machine already has a node: the one where it queues. So the node proves nothing.
    """
    return str(actors(actor._actor_id.hex()).get("Address", {}).get("IPAddress", ""))


def max_cluster_resources() -> dict[str, float]:
    """Resources that the cluster's autoscaler may grow to, by name; empty if there is no autoscaler."""
    return dict(state.get_max_resources_from_cluster_config() or {})
