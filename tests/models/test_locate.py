"""Locating a model: its identity, its context length, and GPUs that can share its heads."""

import json
from pathlib import Path
from typing import Any

import pytest

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.locate import check_division, model_identity, within_context


@pytest.mark.parametrize(
    ("config", "max_model_len", "expected"),
    [
        ({"max_position_embeddings": 2048}, 8192, 2048),
        ({"max_position_embeddings": 131072}, 8192, 8192),
        ({}, 8192, 8192),
        ({"n_positions": 1024}, 8192, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 8192, 4096),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192, 4096),
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 8192, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": None}, 8192, 2048),
    ],
)
def test_the_context_is_cut_to_what_the_config_states(
    config: dict[str, Any], max_model_len: int, expected: int, tmp_path: Path
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
