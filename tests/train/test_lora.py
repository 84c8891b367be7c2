"""Which layers get adapters, and what is refused before anything starts; no rank runs in these tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, MixtralConfig

from stj.config import ModelConfig
from stj.config_loader import load
from stj.errors import ConfigError, ModelError
from stj.train.check import check_model
from stj.train.lora import add_adapters, check_targets, target_layers
from stj.train_config import LoraConfig, TrainConfig

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@contextmanager
def refused(words: str) -> Iterator[None]:
    with pytest.raises(ModelError, match=words) as caught:
        yield
    assert "\n" not in str(caught.value)


def last_parts(layers: list[str]) -> set[str]:
    return {layer.rpartition(".")[2] for layer in layers}


def test_without_targets_every_linear_layer_but_the_head_is_adapted(seed_directory: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(seed_directory)
    layers = target_layers(model, None)
    assert last_parts(layers) == {*ATTENTION, "gate_proj", "up_proj", "down_proj"}
    assert len(layers) == 2 * 7


@pytest.mark.parametrize(
    ("targets", "count"),
    [(("q_proj",), 2), (("q_proj", "mlp.up_proj"), 4), (("layers.1.mlp.up_proj",), 1), (("q_proj", "self_attn.q_proj"), 2)],
)
def test_targets_name_layers_by_their_last_parts(targets: tuple[str, ...], count: int, seed_directory: Path) -> None:
    assert len(target_layers(AutoModelForCausalLM.from_pretrained(seed_directory), targets)) == count


@pytest.mark.parametrize("target", ["q_prj", "proj", "lm_head", "embed_tokens", "norm", "layers", "1", "*"])
def test_a_target_that_is_no_linear_layer_is_refused_with_those_that_are(target: str, seed_directory: Path) -> None:
    with refused(rf"^train.lora.targets={target if target != '*' else '.'}: .* it has down_proj, gate_proj, k_proj, o_proj, "):
        check_targets(seed_directory, LoraConfig(targets=("v_proj", target)))


def test_experts_in_one_tensor_are_no_targets(tmp_path: Path) -> None:
    """The layers of a mixture are known from its config.json alone."""
    MixtralConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4).save_pretrained(tmp_path)
    with refused(r"targets=w1: .* it has k_proj, o_proj, q_proj, v_proj$"):
        check_targets(tmp_path, LoraConfig(targets=("w1",)))


def test_training_that_could_not_begin_is_refused_on_the_driver(seed_directory: Path) -> None:
    with refused(r"targets=w1: "):
        check_model(ModelConfig(path=str(seed_directory)), LoraConfig(targets=("w1",)))


@pytest.mark.slow
def test_only_adapters_learn_and_equal_seeds_begin_alike(seed_directory: Path) -> None:
    models = [AutoModelForCausalLM.from_pretrained(seed_directory) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_adapters(model, LoraConfig(rank=3), seed)
    learning = [{name: p for name, p in model.named_parameters() if p.requires_grad} for model in models]
    assert len(learning[0]) == 2 * 14
    assert all("lora_" in name for name in learning[0])
    assert all(p.equal(learning[1][name]) for name, p in learning[0].items())
    assert not all(p.equal(learning[2][name]) for name, p in learning[0].items())
    assert not any(p.any() for name, p in learning[0].items() if "lora_B" in name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.lora.rank=0"], "train.lora.rank=0: must be 1 or more"),
        (["train.lora.alpha=0"], "train.lora.alpha=0: must be 1 or more"),
        (["train.lora.dropout=1"], "train.lora.dropout=1.0: must be 0 or more, and below 1"),
        (["train.lora.dropout=nan"], "train.lora.dropout=nan: must be 0 or more, and below 1"),
        (["train.lora.targets=[]"], r"train.lora.targets=\[\]: nothing would be trained"),
        (["train.lora.targets=[q_proj,'']"], "train.lora.targets holds an empty name"),
        (["train.lora.rank=513", "train.lora.export=adapter"], "train.lora.rank=513: vLLM loads adapters of a rank up to 512"),
    ],
)
def test_settings_out_of_range(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([], words)


def test_a_warm_up_s_adapters_are_merged_because_preferences_are_learned_from_its_weights() -> None:
    train = TrainConfig(objective="sft_then_dpo", lora=LoraConfig(rank=5, export="adapter"))
    assert train.stage("sft").lora == LoraConfig(rank=5, export="merged")
    assert train.stage("dpo").lora == train.lora
    assert replace(train, objective="sft").stage("sft").lora == train.lora
