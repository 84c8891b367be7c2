"""The settings of DeepSpeed that `train.deepspeed` may hold: which are stj's own, and which a training reads."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stj.errors import ConfigError
from stj.setting_checks import check

if TYPE_CHECKING:
    from stj.train_config import TrainConfig

_SECTIONS = (
    "aio", "comms_logger", "flops_profiler", "memory_breakdown", "wall_clock_breakdown", "zero_optimization"
)  # fmt: skip
_OWNED = {
    "train_batch_size": "it follows from train.workers, train.max_num_tokens and train.gradient_accumulation",
    "train_micro_batch_size_per_gpu": "set train.max_num_tokens",
    "gradient_accumulation_steps": "set train.gradient_accumulation",
    "gradient_clipping": "set train.max_grad_norm",
    "communication_data_type": "set train.gradient_dtype",
    "optimizer": "set train.lr, train.betas and train.weight_decay",
    "scheduler": "set train.lr, train.warmup_steps and train.final_lr_ratio",
    "activation_checkpointing": "set train.activation_checkpointing",
    "bf16": "weights are trained in bf16, with master weights in fp32",
    "fp16": "weights are trained in bf16, with master weights in fp32",
    "data_types": "gradients are accumulated in fp32",
    "zero_optimization.stage": "stj trains with stage 3",
    "zero_optimization.offload_optimizer": "set train.offload",
    "zero_optimization.cpu_offload": "set train.offload",
    "zero_optimization.cpu_offload_use_pin_memory": "set train.offload, which pins the memory",
    "zero_optimization.offload_param": "weights are on the GPUs; raise train.workers, or set train.offload",
    "zero_optimization.cpu_offload_param": "weights are on the GPUs; raise train.workers, or set train.offload",
    "zero_optimization.reduce_scatter": "each rank receives its part of the sums; set train.gradient_dtype",
    "zero_optimization.contiguous_gradients": "gradients are summed in a bucket; set reduce_bucket_size",
    "zero_optimization.zero_quantized_gradients": "set train.gradient_dtype",
    "zero_optimization.zero_quantized_weights": "weights are exchanged in bf16; set train.shard_within_machine",
    "zero_optimization.zero_quantized_nontrainable_weights": "frozen weights are in bf16",
    "zero_optimization.stage3_use_all_reduce_for_fetch_params": "weights are gathered, which takes half of the traffic",
    "zero_optimization.use_all_reduce_for_fetch_params": "weights are gathered, which takes half of the traffic",
    "zero_optimization.stage3_allgather_sequential": "weights are gathered together; set stage3_prefetch_bucket_size",
    "zero_optimization.allgather_sequential": "weights are gathered together; set stage3_prefetch_bucket_size",
    "zero_optimization.stage3_module_granularity_threshold": "stj gathers a layer at once",
    "zero_optimization.module_granularity_threshold": "stj gathers a layer at once",
    "zero_optimization.leaf_module": "stj gathers a layer at once",
    "zero_optimization.memory_efficient_linear": "gathered weights are not kept for the backward pass",
    "zero_optimization.zero_hpz_partition_size": "set train.shard_within_machine",
    "zero_optimization.compute_grad_norm": "each step checks that the norm is finite",
    "zero_optimization.elastic_checkpoint": "stage 3 has no such checkpoints",
    "zero_optimization.zenflow": "the optimizer is AdamW, and each step updates all weights",
}
"""DeepSpeed's settings that stj decides, and where to set them.

Another value would change the weights that are trained, or what the plan counts. The rest of deepspeed/runtime/zero/config.py
changes neither, or only stages 1 and 2. Exceptions are `overlap_comm` and the sizes below. The plan reads most of them. It does
not count small parameters that a threshold above DeepSpeed's default keeps whole."""

_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "bf16": ({"enabled": True},),
    "fp16": ({"enabled": False},),
    "data_types": ({"grad_accum_dtype": "fp32"},),
    "zero_optimization.stage": (3,),
    "zero_optimization.offload_param": ({"device": "none"}, None),
    "zero_optimization.cpu_offload_param": (False, None),
    "zero_optimization.reduce_scatter": (True,),
    "zero_optimization.contiguous_gradients": (True,),
    "zero_optimization.zero_quantized_gradients": (False,),
    "zero_optimization.zero_quantized_weights": (False,),
    "zero_optimization.zero_quantized_nontrainable_weights": (False,),
    "zero_optimization.stage3_use_all_reduce_for_fetch_params": (False,),
    "zero_optimization.use_all_reduce_for_fetch_params": (False,),
    "zero_optimization.stage3_allgather_sequential": (False,),
    "zero_optimization.allgather_sequential": (False,),
    "zero_optimization.stage3_module_granularity_threshold": (0,),
    "zero_optimization.module_granularity_threshold": (0,),
    "zero_optimization.leaf_module": ({}, None),
    "zero_optimization.memory_efficient_linear": (True,),
    "zero_optimization.compute_grad_norm": (True,),
    "zero_optimization.elastic_checkpoint": (False,),
    "zero_optimization.zenflow": (None,),
}
"""Values that those settings have anyway, as DeepSpeed's defaults or in every training of stj."""

_SIZES = (
    "allgather_bucket_size", "reduce_bucket_size", "sub_group_size", "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold", "stage3_model_persistence_threshold", "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
)  # fmt: skip
"""Sizes in parameters. DeepSpeed also takes them without `stage3_`; the plan does not read them then."""


def used_settings(train: "TrainConfig") -> dict[str, Any]:
    """The settings of `train.deepspeed` without those that change nothing, such as DeepSpeed's own defaults.

    Raises ConfigError for one that stj makes in another way, and for what a training does not read.
    """
    _check_mappings(train.deepspeed)
    anyway = _anyway(train)

    def without_owned(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in given.items():
            key = f"{prefix}{name}"
            if key not in _OWNED:
                yield name, value
            elif not any(_is_same(value, other) for other in anyway.get(key, ())):
                shown = json.dumps(value, default=str)
                raise ConfigError(f"train.deepspeed.{key}={shown}: leave it out: {_OWNED[key]}")

    settings = dict(without_owned(train.deepspeed))
    if zero := settings.pop("zero_optimization", None):
        zero = dict(without_owned(zero, "zero_optimization."))
    if zero:
        settings["zero_optimization"] = zero
    _check_used(settings)
    return settings


def _anyway(train: "TrainConfig") -> dict[str, tuple[Any, ...]]:
    """The values that settings of DeepSpeed have anyway in this training, by their names."""
    offloads = train.offload == "optimizer"
    return _DEFAULTS | {
        "gradient_accumulation_steps": (train.gradient_accumulation,),
        "gradient_clipping": (train.max_grad_norm or 0,),
        "communication_data_type": (train.gradient_dtype,),
        "zero_optimization.offload_optimizer": (
            ({"device": "cpu", "pin_memory": True},) if offloads else ({"device": "none"}, None)
        ),
        "zero_optimization.cpu_offload": (True,) if offloads else (False, None),
        "zero_optimization.cpu_offload_use_pin_memory": (True, None) if offloads else (True, False, None),
        "zero_optimization.zero_hpz_partition_size": () if train.shard_within_machine else (1,),
    }


def _is_same(value: object, anyway: object) -> bool:
    """Whether a value says no more than another; beside a switch that is off, other settings say nothing."""
    if isinstance(value, dict) and isinstance(anyway, dict):
        off = anyway in ({"device": "none"}, {"enabled": False})
        return all(_is_same(part, anyway[name]) if name in anyway else off for name, part in value.items())
    return isinstance(value, bool) == isinstance(anyway, bool) and value == anyway


def _check_mappings(given: Any) -> None:
    check(isinstance(given, dict), f"train.deepspeed={given}: must be a mapping, as in {{name: value}}")
    zero = given.get("zero_optimization", {})
    check(
        isinstance(zero, dict),
        f"train.deepspeed.zero_optimization={zero}: must be a mapping; "
        "write train.deepspeed={zero_optimization: {name: value}}",
    )


def _check_used(given: dict[str, Any]) -> None:
    """Raises ConfigError for what is no setting of DeepSpeed that a training reads."""
    for name, value in given.get("zero_optimization", {}).items():
        whole = value.is_integer() if isinstance(value, float) else type(value) is int
        check(
            (whole and value >= 0) or name not in _SIZES,
            f"train.deepspeed.zero_optimization.{name}={value}: must be a whole number of parameters, 0 or more",
        )
        check(f"stage3_{name}" not in _SIZES, f"train.deepspeed.zero_optimization.{name}: write stage3_{name}")
    unread = sorted(set(given) - set(_SECTIONS))
    check(
        not unread,
        f"train.deepspeed.{', '.join(unread)}: a training of stj does not read it; it reads {', '.join(_SECTIONS)}",
    )
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(f"train.deepspeed={given}: must hold only text, finite numbers, lists and mappings") from None
