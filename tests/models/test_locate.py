"""Locating a model: its identity, its context length, and GPUs that can share its heads."""

import glob
import json
from pathlib import Path

import pytest

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.locate import check_division, loaded_files, model_identity, plain_path, within_context
from stj.storage.folder import Folder


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
