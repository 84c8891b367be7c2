"""Locating a model: its identity, its context length, and GPUs that can share its heads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter
from stj.models.locate import adapter_of, check_division, model_identity, within_context
from stj.models.shapes import shape_of


@pytest.mark.parametrize(
    ("config", "max_model_len", "expected"),
    [
        ({"max_position_embeddings": 2048}, 8192, 2048),
        ({"max_position_embeddings": 131072}, 8192, 8192),
        ({}, 8192, 8192),
    ],
)
def test_the_context_is_cut_to_what_the_config_states(
    config: dict[str, int], max_model_len: int, expected: int, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert within_context(ModelConfig(path=str(tmp_path), max_model_len=max_model_len)).max_model_len == expected


@pytest.mark.parametrize("path", ["./nope", "../nope", "a/b--c", "a/..b", "nope"])
def test_a_missing_directory_is_not_taken_for_a_model_on_the_hub(path: str) -> None:
    with pytest.raises(ModelError, match="the directory does not exist"):
        model_identity(ModelConfig(path=path))


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_config_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"its config.json is not a JSON object"):
        within_context(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("heads", "groups", "size"), [(64, 8, 1), (64, 8, 4), (64, 8, 8), (64, 8, 16), (6, 6, 3), (24, None, 6)]
)
def test_heads_that_can_be_shared(heads: int, groups: int | None, size: int, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads, "num_key_value_heads": groups}))
    check_division(ModelConfig(path=str(tmp_path), tensor_parallel_size=size))


@pytest.mark.parametrize(("heads", "groups", "size"), [(64, 8, 3), (6, 6, 4), (24, 8, 3), (24, 8, 12), (24, None, 5)])
def test_heads_that_cannot_be_shared(heads: int, groups: int | None, size: int, tmp_path: Path) -> None:
    config = {"text_config": {"num_attention_heads": heads, "num_key_value_heads": groups}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"tensor_parallel_size={size} GPUs cannot share its {heads} attention heads.*1, 2"):
        check_division(ModelConfig(path=str(tmp_path), tensor_parallel_size=size))


def whole(folder: Path, **config: object) -> Path:
    """A model's directory, without weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64, "num_attention_heads": 4, **config}))
    return folder


def adapter(folder: Path, base: Path | str, **settings: object) -> ModelConfig:
    """An adapter in peft's layout, as peft writes it: without config.json."""
    folder.mkdir(exist_ok=True)
    described = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": str(base), "revision": None, **settings}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(described))
    (folder / ADAPTER_WEIGHTS).touch()
    return ModelConfig(path=str(folder), tensor_parallel_size=3)


def test_an_adapter_is_loaded_over_the_base_that_it_names(tmp_path: Path) -> None:
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base"))
    assert adapter_of(model) == Adapter(base=replace(model, path=str(tmp_path / "base")), rank=8)
    assert adapter_of(ModelConfig(path=str(tmp_path / "base"))) is None
    higher = adapter_of(adapter(tmp_path / "adapter", tmp_path / "base", rank_pattern={"q_proj": 32}))
    assert higher is not None
    assert higher.rank == 32


def test_context_and_heads_of_an_adapter_are_its_base_s(tmp_path: Path) -> None:
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base"))
    assert within_context(model).max_model_len == 64
    with pytest.raises(ModelError, match="cannot share its 4 attention heads"):
        check_division(model)


def test_the_shape_of_an_adapter_is_its_base_s(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "intermediate_size": 128, "vocab_size": 100}
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base", **sizes))
    assert shape_of(model) == shape_of(ModelConfig(path=str(tmp_path / "base"))) is not None


def test_the_identity_of_an_adapter_changes_with_its_base(tmp_path: Path) -> None:
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base"))
    before = model_identity(model)
    (tmp_path / "base" / "model.safetensors").write_text("other weights")
    assert model_identity(model) != before
    assert model_identity(adapter(tmp_path / "adapter", tmp_path / "base", r=16)) != before


@pytest.mark.parametrize("weights", ["model.safetensors", "model.safetensors.index.json"])
def test_a_whole_model_may_keep_the_config_of_the_adapter_that_was_merged_into_it(weights: str, tmp_path: Path) -> None:
    model = adapter(whole(tmp_path / "merged"), "/gone")
    (tmp_path / "merged" / weights).touch()
    assert adapter_of(model) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, r"has peft_type=IA3 and ranks \[8\], and vLLM loads LORA with ranks of 1 to 512"),
        ({"r": 513}, r"has peft_type=LORA and ranks \[513\]"),
        ({"r": None}, r"has peft_type=LORA and ranks \[None\]"),
        ({"use_dora": True}, r"use_dora, which vLLM cannot load"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save, which vLLM cannot load"),
        ({"base_model_name_or_path": None}, r"names no base_model_name_or_path"),
        ({"base_model_name_or_path": "/gone"}, r"is an adapter, and its base is not there: model /gone: .* does not exist"),
    ],
)
def test_an_adapter_that_no_engine_could_load(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base"), **settings)
    with pytest.raises(ModelError, match=message) as caught:
        adapter_of(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"x"', '{"peft_type": "LORA"}'])
def test_a_damaged_adapter_config(text: str, tmp_path: Path) -> None:
    (tmp_path / ADAPTER_CONFIG).write_text(text)
    with pytest.raises(ModelError, match="does not name peft_type, base_model_name_or_path and r"):
        model_identity(ModelConfig(path=str(tmp_path)))


def test_an_adapter_without_its_weights_is_refused(tmp_path: Path) -> None:
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base"))
    (tmp_path / "adapter" / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"is an adapter without adapter_model.safetensors"):
        model_identity(model)


def test_an_adapter_of_an_adapter_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "first", whole(tmp_path / "base"))
    with pytest.raises(ModelError, match=r"its base .*/first is an adapter too; merge that one first"):
        adapter_of(adapter(tmp_path / "second", tmp_path / "first"))
