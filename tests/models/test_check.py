"""One model's directory: good ones of many architectures pass, and whatever its JSON files hold, the check ends in findings."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.check import ModelUse, check_model_use, check_trainable
from tests.train.conftest import make_tokenizer

SEED_MODEL = Path(__file__).parents[2] / "stj" / "mini" / "seed_model"
SIZES = {
    "vocab_size": 264,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
)


def use_of(directory: Path) -> ModelUse:
    model = ModelConfig(path=str(directory), max_model_len=2048)
    return ModelUse(roles=("models.seed",), model=model, trained=True, max_seq_len=1024)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi3",
        "olmo2",
        "gpt2",
        "gpt_neox",
    ],
)
def test_a_whole_model_of_a_known_architecture_passes(kind: str, tmp_path: Path) -> None:
    special = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 4096} if kind == "gpt2" else {}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**SIZES, **special)).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    (finding,) = check_model_use(use_of(tmp_path))
    assert finding.ok, finding.words
    assert type(model).__name__ in finding.words
    assert "a context of 4,096 tokens" in finding.words


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama3_1", "qwen3"])
def test_published_tokenizers_pass(name: str, tmp_path: Path, test_data: Path) -> None:
    for file in (test_data / "tokenizers" / name).iterdir():
        shutil.copy(file, tmp_path)
    rows = 1 + max(token["id"] for token in json.loads((tmp_path / "tokenizer.json").read_text())["added_tokens"])
    sizes = SIZES | {"vocab_size": max(rows, 262_208), "hidden_size": 8, "head_dim": 4, "eos_token_id": 1}
    AutoModelForCausalLM.from_config(CONFIG_MAPPING["llama"](**sizes)).to(torch.bfloat16).save_pretrained(tmp_path)
    (finding,) = check_model_use(use_of(tmp_path))
    assert finding.ok, finding.words


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the mini world's seed, for damage."""
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    return Path(shutil.copytree(SEED_MODEL, tmp_path / "seed"))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_whatever_a_json_file_holds_the_check_ends_in_findings(file: str, copy: Path, data: Any) -> None:
    content = json.loads((SEED_MODEL / file).read_text())
    more = ["text_config", "rope_scaling", "quantization_config", "auto_map", "vision_config", "chat_template", "n_positions"]
    for key in data.draw(st.lists(st.sampled_from([*content, *more]), min_size=1, max_size=2, unique=True)):
        content[key] = data.draw(JSON)
    (copy / file).write_text(json.dumps(content))
    for finding in check_model_use(use_of(copy)):
        assert finding.words
        assert "\n" not in finding.words


@pytest.mark.parametrize("kind", ["chunked_attention", "linear_attention", "conv"])
def test_a_model_with_layers_that_mix_texts_is_refused_before_training(kind: str) -> None:
    check_trainable({"layer_types": ["full_attention", "sliding_attention"]}, "m")
    with pytest.raises(ModelError, match=f"layers of {kind}, and training knows full_attention and sliding_attention"):
        check_trainable({"text_config": {"layer_types": ["full_attention", kind]}}, "m")


@pytest.mark.parametrize(
    ("kind", "layers"), [("llama4", "chunked"), ("qwen3_next", "linear"), ("jamba", "linear"), ("nemotron_h", "linear")]
)
def test_kinds_of_layers_that_a_config_does_not_name_are_derived(kind: str, layers: str) -> None:
    """These are published without `layer_types`."""
    check_trainable({"model_type": "llama"}, "m")
    with pytest.raises(ModelError, match=f"layers of {layers}_attention"):
        check_trainable({"model_type": kind}, "m")
