"""Which settings of DeepSpeed `train.deepspeed` may hold, against DeepSpeed's own table."""

from typing import Any

import pytest

from stj.config_loader import load
from stj.deepspeed_settings import _DEFAULTS, _OWNED, _SIZES
from stj.errors import ConfigError
from stj.train_config import TrainConfig


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("gradient_accumulation_steps=4", "gradient_accumulation_steps=4: leave it out: set train.gradient_accumulation$"),
        ("zero_optimization.stage=2", "zero_optimization.stage=2: leave it out: stj trains with stage 3"),
        ("zero_optimization.reduce_scatter=false", "zero_optimization.reduce_scatter=false: .*; set train.gradient_dtype$"),
        ("zero_optimization.cpu_offload=true", "zero_optimization.cpu_offload=true: leave it out: set train.offload$"),
        (
            "zero_optimization.offload_param={device: cpu}",
            'zero_optimization.offload_param={"device": "cpu"}: leave it out: weights are on the GPUs',
        ),
        ("zero_optimization.zero_quantized_weights=true", "zero_optimization.zero_q.*: weights are exchanged in bf16"),
        ("zero_optimization.max_live_parameters=5e9", "zero_optimization.max_.*: write stage3_max_live_parameters$"),
        ("zero_optimization.leaf_module={classes: [A]}", "zero_optimization.leaf_module=.*: stj gathers a layer at once$"),
        ("zero_optimization.stage3_module_granularity_threshold=9", "zero_.*=9: leave it out: stj gathers a layer at once$"),
        ("zero_optimization.module_granularity_threshold=9", "zero_.*=9: leave it out: stj gathers a layer at once$"),
        ("zero_optimization.stage3_allgather_sequential=true", "zero_.*: weights are gathered together; set stage3_prefetch"),
        ("zero_optimization.contiguous_gradients=1", "zero_optimization.contiguous_gradients=1: leave it out"),
        ("zero_optimization.offload_param={device: nvme, nvme_path: /a}", "zero_optimization.offload_param=.*: weights are on"),
        ("zero_optimization.zenflow={topk_ratio: 0.1}", "zero_optimization.zenflow=.*: the optimizer is AdamW"),
        ("gradient_clipping=1.0", "gradient_clipping=1.0: leave it out: set train.max_grad_norm$"),
        ("bf16={enabled: true, check_grad_overflow: true}", "bf16=.*: leave it out: weights are trained in bf16"),
        ("bf16={enabled: false}", "bf16=.*: leave it out: weights are trained in bf16"),
        ("train_batch_size=32", "train_batch_size=32: leave it out: it follows from train.workers"),
        ("optimizer={type: Lion}", "optimizer=.*: leave it out: set train.lr"),
        ("zero_optimisation.stage=2", "zero_optimisation: a training of stj does not read it; it reads aio, "),
        ("zero_optimization.reduce_bucket_size=many", "zero_optimization.reduce_bucket_size=many: must be a whole number"),
        ("zero_optimization.sub_group_size=-1", "zero_optimization.sub_group_size=-1: must be a whole number"),
        ("zero_optimization.sub_group_size=Infinity", "zero_optimization.sub_group_size=inf: must be a whole number"),
        ("zero_optimization.overlap_comm=NaN", ".*must hold only text, finite numbers"),
        ("zero_optimization.sub_group_size=1.5", "zero_optimization.sub_group_size=1.5: must be a whole number"),
        ("zero_optimization.stage3_max_live_parameters=true", "zero_optimization.*=True: must be a whole number"),
        ("zero_optimization=2", "zero_optimization=2: must be a mapping"),
    ],
)
def test_settings_of_deepspeed_that_stj_makes_or_that_nothing_reads_are_refused(word: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.deepspeed.{reason}"):
        load([], [f"train.deepspeed.{word}"])


def test_what_is_no_size_of_deepspeed_need_be_no_number() -> None:
    words = ["train.deepspeed.zero_optimization.ignore_unused_parameters=false", "train.deepspeed.wall_clock_breakdown=true"]
    assert load([], words).train.deepspeed["zero_optimization"] == {"ignore_unused_parameters": False}


PUBLISHED = {
    "bf16": {"enabled": True},
    "fp16": {"enabled": False, "loss_scale": 0, "loss_scale_window": 1000},
    "gradient_accumulation_steps": 1,
    "gradient_clipping": 0,
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "none", "pin_memory": True},
        "offload_param": {"device": "none", "nvme_path": "/local", "buffer_count": 5},
        "cpu_offload": False,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "reduce_bucket_size": 5e8,
        "zero_quantized_weights": False,
        "zero_quantized_gradients": False,
        "zero_hpz_partition_size": 1,
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}


def test_a_published_recipe_is_taken_and_what_it_has_anyway_is_no_setting() -> None:
    """The settings are part of the model's key: a default that is written out must not change it."""
    assert TrainConfig(deepspeed=PUBLISHED).deepspeed == {
        "zero_optimization": {
            "overlap_comm": True,
            "reduce_bucket_size": 5e8,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    }


@pytest.mark.parametrize(
    ("ours", "given", "reason"),
    [
        ({"offload": "optimizer"}, {"offload_optimizer": {"device": "cpu", "pin_memory": True}, "cpu_offload": True}, ""),
        (
            {"offload": "optimizer"},
            {"offload_optimizer": {"device": "none"}},
            "offload_optimizer=.*: leave it out: set train.off",
        ),
        (
            {"offload": "optimizer"},
            {"offload_optimizer": {"device": "cpu", "ratio": 0.5}},
            "offload_optimizer=.*: leave it out",
        ),
        ({"offload": "optimizer"}, {"cpu_offload_use_pin_memory": False}, "set train.offload, which pins the memory"),
        ({}, {"offload_optimizer": {"device": "cpu"}}, "offload_optimizer=.*: leave it out: set train.offload"),
        (
            {"shard_within_machine": True},
            {"zero_hpz_partition_size": 1},
            "size=1: leave it out: set train.shard_within_machine",
        ),
    ],
)
def test_what_a_setting_has_anyway_follows_from_ours(ours: dict[str, Any], given: dict[str, Any], reason: str) -> None:
    deepspeed = {"zero_optimization": given}
    if not reason:
        assert TrainConfig(**ours, deepspeed=deepspeed).deepspeed == {}
        return
    with pytest.raises(ConfigError, match=reason):
        TrainConfig(**ours, deepspeed=deepspeed)


def test_settings_at_the_top_are_compared_with_ours() -> None:
    given = {"gradient_clipping": 1, "gradient_accumulation_steps": 4, "communication_data_type": "bf16"}
    TrainConfig(max_grad_norm=1.0, gradient_accumulation=4, gradient_dtype="bf16", deepspeed=given)
    for name, value in given.items():
        with pytest.raises(ConfigError, match=f"^train.deepspeed.{name}="):
            TrainConfig(deepspeed={name: value})


HARMLESS = {
    "overlap_comm",  # the plan reads it
    "param_persistence_threshold", "model_persistence_threshold",  # they keep small parameters whole
    "ignore_unused_parameters", "round_robin_gradients", "legacy_stage1", "parameter_alignment",  # stages 1 and 2
    "allgather_partitions", "use_multi_rank_bucket_allreduce",  # stages 1 and 2
    "load_from_fp32_weights", "pipeline_loading_checkpoint",  # of DeepSpeed's way to read a checkpoint
    "gather_16bit_weights_on_model_save", "stage3_gather_fp16_weights_on_model_save",  # of its way to save a model
    "override_module_apply", "log_trace_cache_warnings", "enable_sanity_checks",
    "save_muon_momentum_buffer_in_memory",  # of another optimizer
}  # fmt: skip


def test_every_setting_of_zero_is_judged_and_its_defaults_are_deepspeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer DeepSpeed with one setting more fails here."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    owned = {name.removeprefix("zero_optimization.") for name in _OWNED if name.startswith("zero_optimization.")}
    for name, setting in DeepSpeedZeroConfig.model_fields.items():
        assert {name, setting.alias} & (owned | HARMLESS | set(_SIZES)), name
        assert name not in owned or setting.alias is None or setting.alias in owned
    plain = DeepSpeedZeroConfig(stage=3)
    for name in owned & {key.removeprefix("zero_optimization.") for key in _DEFAULTS} - {"stage"}:
        for value in _DEFAULTS[f"zero_optimization.{name}"]:
            if value != {"device": "none"} and not name.startswith("cpu_"):
                assert DeepSpeedZeroConfig(**{"stage": 3, name: value}) == plain, name
