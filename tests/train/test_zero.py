"""The settings of DeepSpeed: what follows from a training's settings and a model's layers, and what a user sets over them."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig

from stj.errors import ConfigError
from stj.models.shapes import Shape
from stj.train.model import largest_layer
from stj.train.zero import check_deepspeed, deepspeed_settings, merged, refusal
from stj.train_config import LoraConfig, TrainConfig

KEYS = st.sampled_from("abc")
TREES: Any = st.recursive(
    st.dictionaries(KEYS, st.integers(), max_size=3), lambda inner: st.dictionaries(KEYS, st.integers() | inner, max_size=3)
)


def leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The values of nested mappings by their path; an empty mapping is a value."""
    values: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        values |= leaves(value, (*above, name)) if isinstance(value, dict) and value else {(*above, name): value}
    return values


@given(TREES, TREES)
def test_what_is_merged_last_wins_and_leaves_the_rest(base: dict[str, Any], over: dict[str, Any]) -> None:
    result = leaves(merged(base, over))
    given_leaves = {path: value for path, value in leaves(over).items() if value != {}}
    assert given_leaves.items() <= result.items()
    for path, value in leaves(base).items():
        replaced = any(path[: len(other)] == other or other[: len(path)] == path for other in leaves(over))
        assert replaced or result.get(path) == value or value == {}


def test_settings_follow_from_the_training() -> None:
    plain = deepspeed_settings(TrainConfig())
    assert plain["communication_data_type"] == "fp32"
    assert plain["zero_optimization"]["zero_hpz_partition_size"] == 1
    changed = deepspeed_settings(TrainConfig(gradient_dtype="bf16", gradient_accumulation=3), sharing=8)
    assert changed["communication_data_type"] == "bf16"
    assert changed["data_types"]["grad_accum_dtype"] == "fp32"
    assert changed["zero_optimization"]["zero_hpz_partition_size"] == 8
    adapters = deepspeed_settings(TrainConfig(lora=LoraConfig()))["zero_optimization"]
    assert adapters["reduce_bucket_size"] < plain["zero_optimization"]["reduce_bucket_size"]


def test_sizes_follow_from_the_layers_and_a_user_s_win() -> None:
    large = 2_500_000_000  # a layer of Mixtral 8x22B
    zero = deepspeed_settings(TrainConfig(), layer=large)["zero_optimization"]
    assert zero["stage3_max_reuse_distance"] > 2 * large
    assert zero["stage3_max_live_parameters"] > 2 * large
    assert zero["stage3_prefetch_bucket_size"] == large
    given_settings = {
        "zero_optimization": {"stage3_max_reuse_distance": 7, "overlap_comm": False},
        "wall_clock_breakdown": True,
    }
    over = deepspeed_settings(TrainConfig(deepspeed=given_settings), layer=large)
    assert over["wall_clock_breakdown"] is True
    assert over["zero_optimization"] == zero | {"stage3_max_reuse_distance": 7, "overlap_comm": False}


def test_the_largest_layer_is_a_layer_of_the_plan() -> None:
    """The plan counts with the shape in config.json, a rank with the model that it has loaded."""
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=999
    )  # fmt: skip
    shape = Shape(layers=3, hidden=32, mlp=48, heads=4, kv_heads=2, head_dim=8, vocab=999)
    assert largest_layer(AutoModelForCausalLM.from_config(config)) == shape.layer_parameters(1)


@pytest.mark.parametrize(
    ("given_settings", "reason"),
    [
        ({"zero_optimization": {"overlap_comm": "maybe"}}, "overlap_comm: Input should be a valid boolean"),
        ({"zero_optimization": {"reduce_buckets": 3}}, "reduce_buckets: Extra inputs are not permitted"),
        ({"zero_optimization": {"mics_shard_size": 8}}, "MiCS ZeRO-3 sharding has been removed"),
        ({"comms_logger": 3}, "deepspeed.comm.config.CommsLoggerConfig.. argument after .. must be a mapping"),
        ({"zero_optimization": {"stage3_prefetch_bucket_size": 0, "reduce_bucket_size": 2e8}}, "$"),
        ({}, "$"),
    ],
)
def test_what_deepspeed_does_not_take_is_one_line(given_settings: dict[str, Any], reason: str) -> None:
    line = refusal(deepspeed_settings(TrainConfig(deepspeed=given_settings)))
    assert re.match(reason, line), line
    assert len(line.splitlines()) <= 1


@pytest.mark.engine
def test_the_check_asks_deepspeed_in_a_process_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r'^train.deepspeed={"zero_optim.*: DeepSpeed refuses it: nothing: Extra inputs'):
        check_deepspeed(TrainConfig(deepspeed={"zero_optimization": {"nothing": 1}}))
    check_deepspeed(TrainConfig(deepspeed={"zero_optimization": {"reduce_bucket_size": 200_000_000}}))
