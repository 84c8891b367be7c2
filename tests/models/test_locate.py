"""Locating a model: its identity, its context length, and GPUs that can share its heads."""

import glob
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter
from stj.models.api_key import api_key
from stj.models.config_json import check_division, within_context
from stj.models.fetch import plain_path
from stj.models.locate import adapter_of, loaded_files, loading_settings, model_identity, with_absolute_path
from stj.models.shapes import shape_of
from stj.storage.folder import Folder


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
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": None}}, 8192, 2048),
        ({"max_position_embeddings": 4096, "text_config": None}, 8192, 4096),
        (
            {
                "text_config": {
                    "model_type": "gemma3_text",
                    "max_position_embeddings": 4096,
                    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                }
            },
            8192,
            4096,
        ),
    ],
)
def test_the_context_is_cut_to_what_the_config_states(
    config: dict[str, Any], max_model_len: int, expected: int, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert within_context(ModelConfig(path=str(tmp_path), max_model_len=max_model_len)).max_model_len == expected


@pytest.mark.parametrize(
    ("length", "factor"),
    [(0, 1), (-1, 1), (2048, "4"), (2048, 0), (2048, -2.0), (2048, math.nan), (2048, math.inf), (2048, [8])],
)
def test_a_context_that_is_no_length_is_an_error(length: int, factor: Any, tmp_path: Path) -> None:
    config = {"max_position_embeddings": length, "rope_scaling": {"rope_type": "linear", "factor": factor}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"a context of {length} tokens with a RoPE factor of .*: both must be above 0; save"):
        within_context(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_is_refused_and_nobody_waits_for_it(file: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / file).unlink(missing_ok=True)
    os.mkfifo(tmp_path / file)
    with pytest.raises(ModelError, match=f"{file} is no file"):
        within_context(ModelConfig(path=str(tmp_path)))


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


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"x"', '{"peft_type": "LORA"}', "[" * 100_000])
def test_a_damaged_adapter_config(text: str, tmp_path: Path) -> None:
    (tmp_path / ADAPTER_CONFIG).write_text(text)
    with pytest.raises(ModelError, match="does not name peft_type, base_model_name_or_path and r"):
        model_identity(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize("pattern", ["x", [8], 1.5, True])
def test_ranks_that_are_no_pattern(pattern: object, tmp_path: Path) -> None:
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base"), rank_pattern=pattern)
    with pytest.raises(ModelError, match="does not name peft_type, base_model_name_or_path and r"):
        model_identity(model)


def test_an_adapter_without_its_weights_is_refused(tmp_path: Path) -> None:
    model = adapter(tmp_path / "adapter", whole(tmp_path / "base"))
    (tmp_path / "adapter" / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"is an adapter without adapter_model.safetensors"):
        model_identity(model)


def test_an_adapter_of_an_adapter_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "first", whole(tmp_path / "base"))
    with pytest.raises(ModelError, match=r"its base .*/first is an adapter too; merge that one first"):
        adapter_of(adapter(tmp_path / "second", tmp_path / "first"))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A model in two shards with an index, as links like those in the cache of the hub."""
    (tmp_path / "blobs").mkdir()
    model = tmp_path / "snapshot 数据"
    model.mkdir()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    contents = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors.index.json": json.dumps(index)}
    contents |= dict.fromkeys(index["weight_map"].values(), "weights")
    for number, (name, content) in enumerate(contents.items()):
        (tmp_path / "blobs" / f"{number}").write_text(content)
        (model / name).symlink_to(tmp_path / "blobs" / f"{number}")
    return model


@pytest.mark.parametrize(
    "name",
    ["README.md", "LICENSE.txt", ".gitattributes", "consolidated.safetensors", "pytorch_model.bin", "modeling_x.py", "a.gguf"],
)
def test_a_file_that_is_not_loaded_changes_no_identity(shards: Path, name: str) -> None:
    model = ModelConfig(path=str(shards))
    before = model_identity(model)
    (shards / name).write_text("new")
    for folder in (".git", ".cache", "original", "onnx"):
        (shards / folder).mkdir(exist_ok=True)
        (shards / folder / "config.json").write_text("new")
    assert model_identity(model) == before


@pytest.mark.parametrize(
    "name",
    [
        *(
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "tokenizer.model",
            "chat_template.jinja",
        ),
        *(
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.json",
            "merges.txt",
            "tekken.json",
            "model-00002-of-00002.safetensors",
        ),
        "model.safetensors.index.json",
    ],
)
def test_a_file_that_is_loaded_changes_the_identity(shards: Path, name: str) -> None:
    model = ModelConfig(path=str(shards))
    before = model_identity(model)
    (shards / name).unlink(missing_ok=True)
    (shards / name).write_text("new")
    assert model_identity(model) != before


def test_weights_without_an_index_are_all_loaded_and_old_formats_only_alone(tmp_path: Path) -> None:
    for name in ("config.json", "a.safetensors", "b.safetensors", "c.bin"):
        (tmp_path / name).write_text("{}")
    assert loaded_files(Folder.at(tmp_path)) == ["a.safetensors", "b.safetensors", "config.json"]
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).unlink()
    assert loaded_files(Folder.at(tmp_path)) == ["c.bin", "config.json"]
    for damaged in ("{", "[]", '{"weight_map": 1}'):
        (tmp_path / "model.safetensors.index.json").write_text(damaged)
        (tmp_path / "a.safetensors").write_text("")
        assert "a.safetensors" in loaded_files(Folder.at(tmp_path))


def test_the_weights_are_read_once_in_a_process(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_file = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *mode, **options: opened.append(path.name) or open_file(path, *mode, **options)
    )
    first = model_identity(ModelConfig(path=str(shards)))
    assert opened
    opened.clear()
    assert model_identity(ModelConfig(path=str(shards))) == first
    assert not opened


@pytest.mark.parametrize("name", ["a b", "mödel [v2]", "数据", "*", "a?b", "a'b", "a%20b", "a#b", "a:b"])
def test_a_path_for_vllm_holds_no_character_that_it_takes_for_a_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.safetensors").write_text("weights")
    for _ in range(2):
        path = plain_path(tmp_path / name)
        assert path.as_posix().isascii()
        assert glob.glob(f"{path}/*.safetensors") == [f"{path}/a.safetensors"]  # as vLLM looks for weights
    assert plain_path(tmp_path) == tmp_path


def test_random_weights_are_in_the_key_of_what_they_write_and_no_key_of_real_weights_changes() -> None:
    model = ModelConfig(path="package://mini/seed_model")
    assert loading_settings(replace(model, load_format="dummy")) == {**loading_settings(model), "load_format": "dummy"}
    assert "load_format" not in loading_settings(model)


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
