"""Locating a model: its identity, its context length, and GPUs that can share its heads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.api_key import api_key
from stj.models.locate import check_division, loading_settings, model_identity, with_absolute_path, within_context


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


API = ModelConfig(endpoint="https://api.example.com/v1", name="judge-1", tensor_parallel_size=3)


def test_a_model_behind_an_api_is_its_name_and_address_and_has_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    check_division(API)
    assert within_context(API) is API
    assert with_absolute_path(API) is API
    priced = replace(API, dollars_per_million_output_tokens=2.0, parallel_requests=1, max_model_len=9)
    keys = [(model_identity(model), loading_settings(model)) for model in (API, priced, replace(API, fixed_sampling=True))]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0][0] == "judge-1 at https://api.example.com/v1"
    monkeypatch.setenv("A_KEY", " sk-1 ")
    assert api_key(replace(API, key_variable="A_KEY")) == "sk-1"
    assert api_key(API) is None
