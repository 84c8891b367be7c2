"""The tokenizer of a model directory: which library reads it, what is refused, and where answers end."""

import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from stj.errors import ModelError
from stj.models.chat import is_mistral
from stj.models.tokenizer import load_tokenizer, stop_ids, tokenizer_mode

SEED_MODEL = Path(__file__).parents[2] / "stj" / "mini" / "seed_model"
MISTRAL = Path(find_spec("mistral_common").origin).parent / "data"  # type: ignore[union-attr,arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tekken_240911.json", "tekken.json"),
        ("mistral_instruct_tokenizer_240323.model.v3", "tokenizer.model.v3"),
        ("tokenizer.model.v1", "tokenizer.model.v1"),
    ],
)
def test_mistrals_own_format_is_read_by_mistral_common(file: str, name: str, tmp_path: Path) -> None:
    shutil.copy(MISTRAL / file, tmp_path / name)
    assert tokenizer_mode(tmp_path) == "mistral"
    assert is_mistral(load_tokenizer(tmp_path))


@pytest.mark.parametrize("template", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template_beside_it_is_the_models_own(template: str, tmp_path: Path) -> None:
    shutil.copytree(SEED_MODEL, tmp_path / "model")
    shutil.copy(MISTRAL / "tekken_240911.json", tmp_path / "model/tekken.json")
    if template == "tokenizer_config.json":
        text = (tmp_path / "model/chat_template.jinja").read_text()
        (tmp_path / "model/chat_template.jinja").unlink()
        settings = json.loads((tmp_path / "model" / template).read_text()) | {"chat_template": text}
        (tmp_path / "model" / template).write_text(json.dumps(settings))
    assert tokenizer_mode(tmp_path / "model") == "hf"
    assert len(load_tokenizer(tmp_path / "model")) == len(load_tokenizer(SEED_MODEL))


def changed(tmp_path: Path, name: str, content: Any) -> Path:
    """A copy of the mini seed without weights, with one file changed."""
    shutil.copytree(SEED_MODEL, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    path = tmp_path / "model" / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path.parent


@pytest.mark.parametrize(("kind", "warned"), [("llama", False), ("mistral", True)])
def test_only_mistrals_models_are_warned_of_mistrals_pattern(
    kind: str, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    tokenizer = Tokenizer(WordLevel({str(number): number for number in range(100_001)}, unk_token="0"))  # fewer never warn
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    logger = logging.getLogger("transformers")  # hands nothing to the root logger
    logger.addHandler(caplog.handler)
    request.addfinalizer(lambda: logger.removeHandler(caplog.handler))
    loaded = load_tokenizer(tmp_path)
    assert ("incorrect regex pattern" in caplog.text) is warned
    assert "fix_mistral_regex" not in loaded.init_kwargs


def test_code_beside_a_tokenizer_is_not_run(tmp_path: Path) -> None:
    settings = json.loads((SEED_MODEL / "tokenizer_config.json").read_text())
    remote = {"auto_map": {"AutoTokenizer": ["code.Mine", None]}, "tokenizer_class": "Mine"}
    directory = changed(tmp_path, "tokenizer_config.json", settings | remote)
    (directory / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError) as error:
        load_tokenizer(directory)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["", "{", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"])
def test_a_tokenizer_that_cannot_be_read_is_one_line(content: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"its tokenizer or config\.json cannot be read") as error:
        load_tokenizer(changed(tmp_path, "tokenizer.json", content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [7, 8]}, {"eos_token_id": 9}, {7, 8}),
        ({"temperature": 1.0}, {"eos_token_id": 9}, {9}),
        (None, {"eos_token_id": [9, 10]}, {9, 10}),
        (None, {"text_config": {"eos_token_id": 9}}, {9}),
        (None, {"eos_token_id": None}, set()),
    ],
)
def test_ends_of_an_answer_are_found_where_they_are_named(
    generation: Any, config: Any, expected: set[int], tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(SEED_MODEL)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stop_ids(tokenizer, tmp_path) == expected | {tokenizer.eos_token_id}
    tokenizer.eos_token = None
    assert stop_ids(tokenizer, tmp_path) == expected


@pytest.mark.parametrize("content", ["{", "[]", '{"eos_token_id": "</s>"}', '{"eos_token_id": [true]}', "[" * 100_000])
def test_damaged_settings_are_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        stop_ids(load_tokenizer(SEED_MODEL), tmp_path)
