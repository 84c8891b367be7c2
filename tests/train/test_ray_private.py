"""Private names of Ray, PyTorch, DeepSpeed and transformers in training: an upgrade that removes one fails by its name."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

TRAIN = Path(__file__).parents[2] / "stj" / "train"
INTERNAL = "ray.train.v2._internal"
EXECUTION = f"{INTERNAL}.execution"
STATE = f"{EXECUTION}.controller.state"

RAY = [
    "ray._private.worker.get_dashboard_url",
    "ray.train.torch.TorchTrainer._create_default_callbacks",
    "ray.train.torch.TorchTrainer._register_sigint_handler",
    f"{INTERNAL}.callbacks.datasets.DatasetsCallback",
    f"{INTERNAL}.callbacks.placement_group_callback.PlacementGroupCleanerCallback",
    f"{INTERNAL}.constants.ENABLE_PREEMPTION_WATCHER_ENV_VAR",
    f"{INTERNAL}.constants.ENABLE_PRINT_PATCH_ENV_VAR",
    f"{INTERNAL}.constants.WORKER_GROUP_START_TIMEOUT_S_ENV_VAR",
    f"{INTERNAL}.exceptions.WorkerGroupStartupTimeoutError",
    f"{INTERNAL}.exceptions.WorkerHealthCheckFailedError",
    f"{EXECUTION}.callback.ControllerCallback",
    f"{EXECUTION}.callback.ControllerCallback.after_controller_state_update",
    f"{EXECUTION}.callback.ControllerCallback.on_controller_start_worker_group",
    f"{EXECUTION}.callback.WorkerGroupCallback",
    f"{EXECUTION}.callback.WorkerGroupCallback.before_init_train_context",
    f"{EXECUTION}.context.get_train_context",
    f"{EXECUTION}.worker_group.worker.Worker.execute_async",
    f"{STATE}.ReschedulingState",
    f"{STATE}.RestartingState",
    f"{STATE}.RunningState",
]
LIBRARIES = [
    "deepspeed.ops.__compatible_ops__",
    "deepspeed.runtime.config.DeepSpeedConfig",
    "deepspeed.runtime.zero.stage3.reduce_scatter_coalesced",
    "transformers.core_model_loading.revert_weight_conversion",
    "transformers.integrations.HfDeepSpeedConfig",
    "transformers.utils.is_flash_attn_2_available",
]


def resolve(name: str) -> Any:
    """What a dotted name stands for: the longest module in it, and attributes from there."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            value = getattr(value, attribute)
        return value
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", [*RAY, *LIBRARIES])
def test_the_library_still_has(name: str) -> None:
    assert resolve(name) is not None


def parameters(name: str) -> set[str]:
    return set(inspect.signature(resolve(name)).parameters)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        (f"{EXECUTION}.callback.ControllerCallback.on_controller_start_worker_group", {"scaling_config", "num_workers"}),
        (f"{EXECUTION}.callback.ControllerCallback.after_controller_state_update", {"previous_state", "current_state"}),
        ("ray.train.torch.TorchTrainer._register_sigint_handler", {"controller"}),
    ],
)
def test_ray_still_calls_what_we_override_with(name: str, taken: set[str]) -> None:
    assert parameters(name) - {"self"} == taken


def preemption_info() -> Any:
    return resolve("ray.train.v2.api.preemption.PreemptionInfo")(deadline_ms=5, preempted_node_to_ranks={"node": [1]})


def worker_failure() -> Any:
    return resolve(f"{INTERNAL}.exceptions.WorkerHealthCheckFailedError")("dead", failure=ValueError("x"))


def buffered_module() -> Any:
    import torch

    module = torch.nn.Module()
    module.register_buffer("scratch", torch.zeros(1), persistent=False)
    return module


ATTRIBUTES: dict[str, Callable[[], Any]] = {
    "ReschedulingState.training_failed_error": lambda: resolve(f"{STATE}.ReschedulingState")("error"),
    "RestartingState.training_failed_error": lambda: resolve(f"{STATE}.RestartingState")("error"),
    "WorkerHealthCheckFailedError.health_check_failure": worker_failure,
    "ControllerError.controller_failure": lambda: resolve("ray.train.ControllerError")(ValueError("x")),
    "WorkerGroupError.worker_failures": lambda: resolve("ray.train.WorkerGroupError")("x", {0: ValueError("x")}),
    "PreemptionError.preemption_info": lambda: resolve("ray.train.PreemptionError")(preemption_info()),
    "PreemptionInfo.deadline_ms": preemption_info,
    "PreemptionInfo.preempted_node_to_ranks": preemption_info,
    "PreemptionInfo.preempted_ranks": preemption_info,
    "PreemptionContext.preemption_info": lambda: resolve(f"{EXECUTION}.preemption.PreemptionContext")(preemption_info()),
    "RayActorError.preempted": lambda: resolve("ray.exceptions.RayActorError")(),
    "Module._non_persistent_buffers_set": buffered_module,
    "LlamaConfig._attn_implementation": lambda: resolve("transformers.LlamaConfig")(attn_implementation="eager"),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_object_of_the_library_still_has(name: str) -> None:
    assert getattr(ATTRIBUTES[name](), name.rpartition(".")[2]) is not None


def test_ray_train_context_still_has_preemption_context() -> None:
    assert "preemption_context" in {field.name for field in fields(resolve(f"{EXECUTION}.context.TrainContext"))}


@pytest.mark.parametrize("attribute", ["ds_shape", "ds_numel"])
def test_deepspeed_still_marks_partitioned_parameters_with(attribute: str) -> None:
    assert f"param.{attribute} = " in inspect.getsource(resolve("deepspeed.runtime.zero.partition_parameters"))


def test_deepspeed_still_sums_gradients_by_the_function_that_is_replaced() -> None:
    source = inspect.getsource(resolve("deepspeed.runtime.zero.stage3"))
    assert "grad_partitions_for_rank = reduce_scatter_coalesced(full_grads_for_rank, process_group)" in source


def private_imports(file: Path) -> set[str]:
    """Names that a file imports from modules that a library calls private."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
    private = [node for node in nodes if any(part.startswith("_") for part in str(node.module).split("."))]
    return {f"{node.module}.{alias.name}" for node in private for alias in node.names}


def test_only_the_adapter_imports_private_modules_and_each_name_is_listed() -> None:
    by_file = {file.name: private_imports(file) for file in TRAIN.glob("*.py")}
    assert by_file.pop("ray_private.py") <= set(RAY)
    assert not any(by_file.values())
