"""Every private API of Ray that passes use, by name: an upgrade of Ray that removes one fails the test of that name."""

from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import ray
from ray.data import DataContext

from tests.conftest import soon
from tests.private_api import exists, private_names

EXECUTION = "ray.data._internal.execution"
POOL = f"{EXECUTION}.operators.actor_pool_map_operator"
COORDINATOR = "ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator"
APIS = [
    f"{EXECUTION}.execution_callback.ExecutionCallback.on_execution_step.executor",
    f"{EXECUTION}.streaming_executor.StreamingExecutor._topology",
    f"{EXECUTION}.streaming_executor.StreamingExecutor.shutdown.force",
    f"{EXECUTION}.operators.map_operator.MapOperator._output_blocks_stats",
    f"{EXECUTION}.interfaces.physical_operator.PhysicalOperator.metrics",
    f"{EXECUTION}.interfaces.op_runtime_metrics.OpRuntimeMetrics.num_outputs_taken",
    f"{EXECUTION}.interfaces.op_runtime_metrics.OpRuntimeMetrics.num_tasks_running",
    f"{EXECUTION}.execution_callback.ExecutionCallback.before_execution_starts.executor",
    f"{EXECUTION}.operators.map_operator.MapOperator.get_map_transformer",
    f"{EXECUTION}.operators.map_transformer.MapTransformer._transform_fns",
    f"{EXECUTION}.operators.map_transformer.MapTransformFn._output_block_size_option",
    "ray.data._internal.output_buffer.OutputBlockSizeOption.of.disable_block_shaping",
    f"{POOL}.ActorPoolMapOperator._actor_pool",
    f"{POOL}._ActorPool._running_actors",
    f"{POOL}._ActorPool._pending_actors",
    f"{POOL}._ActorState.is_restarting",
    "ray._private.authentication.http_token_authentication.get_auth_headers_if_auth_enabled",
    "ray.actor.ActorHandle._actor_id",
    "ray._private.state.state",
    "ray._private.state.GlobalState._connect_and_get_accessor",
    "ray._private.worker",
    "ray._private.worker.global_worker",
    "ray._private.worker._global_node",
    "ray._private.node.Node.get_logs_dir_path",
    "ray._private.worker.print_to_stdstream.data",
    "ray._private.worker.print_to_stdstream.ignore_prefix",
    "ray._private.utils.set_sigterm_handler.sigterm_handler",
    "ray._common.utils.get_default_ray_temp_dir",
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER",
    "ray._private.ray_constants.DEBUG_AUTOSCALING_STATUS",
    "ray.autoscaler._private.kuberay.autoscaling_config.AutoscalingConfigProducer.__init__.ray_cluster_name",
    "ray.autoscaler._private.kuberay.autoscaling_config.AutoscalingConfigProducer.__init__.ray_cluster_namespace",
    "ray.autoscaler._private.kuberay.autoscaling_config.AutoscalingConfigProducer.__call__",
    "ray.autoscaler._private.kuberay.autoscaling_config.AutoscalingConfigProducer._fetch_ray_cr_from_k8s_with_retries",
    "ray.autoscaler._private.autoscaler.AutoscalerSummary.pending_nodes",
    "ray.autoscaler._private.autoscaler.AutoscalerSummary.pending_launches",
    "ray.autoscaler._private.autoscaler.AutoscalerSummary.node_availability_summary",
    f"{COORDINATOR}.get_or_create_autoscaling_coordinator",
    f"{COORDINATOR}._AutoscalingCoordinatorActor.request_resources.requester_id",
    f"{COORDINATOR}._AutoscalingCoordinatorActor.request_resources.label_selectors",
    f"{COORDINATOR}._AutoscalingCoordinatorActor.request_resources.expire_after_s",
    f"{COORDINATOR}._AutoscalingCoordinatorActor.cancel_request.requester_id",
]
SETTINGS = [
    "ray.data.context.DataContext.current",
    "ray.data.context.DataContext.copy",
    "ray.data.context.DataContext.custom_execution_callback_classes",
    "ray.data.context.DataContext.enable_progress_bars",
    "ray.data.context.DataContext.print_on_execution_start",
    "ray.data.context.DataContext.target_max_block_size",
    "ray.data.context.DataContext.max_consecutive_actor_init_deaths",
    "ray.data.context.DataContext.autoscaling_config",
    "ray.data.context.AutoscalingConfig.actor_pool_util_upscaling_threshold",
    "ray.data.context.DataContext.memory_usage_poll_interval_s",
    "ray.data.context.DataContext.execution_no_progress_timeout_s",
    "ray.data.context.DataContext.execution_options",
    "ray.data._internal.execution.interfaces.execution_options.ExecutionOptions.resource_limits",
    "ray.data._internal.compute.ActorPoolStrategy.__init__.initial_size",
    "ray.data._internal.compute.ActorPoolStrategy.__init__.max_concurrent_calls_per_actor",
    "ray.data._internal.compute.ActorPoolStrategy.__init__.enable_true_multi_threading",
    "ray.data.dataset.Dataset.repartition.strict",
]
"""Settings that Ray Data would accept and ignore under another name."""
PASSES = Path(__file__).parents[2] / "stj" / "passes"
ADAPTER = PASSES / "ray_private.py"


@pytest.mark.parametrize("api", [*APIS, *SETTINGS])
def test_ray_still_has(api: str) -> None:
    assert exists(api), f"this Ray has no {api}: see {ADAPTER}"


@pytest.mark.parametrize("api", [*APIS, *SETTINGS])
def test_a_renamed_api_is_noticed(api: str) -> None:
    assert not exists(f"{api}_renamed")


@pytest.mark.parametrize("module", sorted(set(PASSES.glob("*.py")) - {ADAPTER}), ids=lambda path: path.name)
def test_only_the_adapter_uses_private_apis(module: Path) -> None:
    assert not private_names(module, "ray")


def test_all_private_names_of_the_adapter_are_tested() -> None:
    tested = {name for api in APIS for name in api.split(".")}
    assert private_names(ADAPTER, "ray") <= tested


@pytest.mark.engine
def test_the_adapter_on_a_running_execution(ray_local: None, tmp_path: Path) -> None:
    """Values that Ray returns as plain dicts and lists have no name to look up: here they are real.

    The actor starts when a step has seen it wait: otherwise a slow step could come too late to see it.
    """
    from stj.passes import ray_private

    pools: list[ray_private.ActorPool] = []
    processes: list[bool] = []
    pending_seen = tmp_path / "pending"

    class Recorder(ray_private.StepCallback):
        def on_step(self, executor: Any) -> None:
            assert isinstance(executor, Thread)
            ray_private.forget_block_stats(executor)
            (pool,) = ray_private.actor_pools(executor)
            pools.append(pool)
            if pool.pending:
                pending_seen.touch()
            processes.extend(map(ray_private.has_process, pool.running))

    class Same:
        def __init__(self) -> None:
            soon(pending_seen.exists)

        def __call__(self, block: Any) -> Any:
            return block

    context = DataContext.get_current().copy()
    ray_private.call_each_step(context, [Recorder])
    with DataContext.current(context):
        rows = ray.data.range(3, override_num_blocks=3).map_batches(Same, concurrency=1, batch_format="pyarrow").take_all()
    assert len(rows) == 3
    assert any(pool.pending for pool in pools)
    assert max(pool.outputs for pool in pools) == 3
    assert any(pool.tasks for pool in pools)
    assert processes
    assert all(processes)
    assert not any(pool.restarting for pool in pools)
    assert ray_private.autoscaler_config()[1] == {}
    assert ray_private.launch_failures() == {}
    assert set(ray_private.machine_types_of_nodes()) == {node["NodeID"] for node in ray.nodes()}
    state = ray_private.autoscaler_state()
    assert [machine.total["CPU"] for machine in state.machines] == [4]
    assert not any([state.starting, state.refused, state.reasons, state.impossible, state.groups])
    ray_private.end_streaming_executors(timeout_s=30)


@pytest.mark.engine
def test_the_threads_of_a_closed_iterator_end(ray_local: None) -> None:
    import ray

    from stj.passes import ray_private

    batches = iter(ray.data.range(8, override_num_blocks=8).iter_batches(batch_size=None))
    next(batches)
    threads = ray_private.iteration_threads()
    assert threads
    batches.close()
    for thread in threads:
        thread.join(600)
    assert ray_private.iteration_threads() == set()
