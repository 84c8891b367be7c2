"""The tokenizer of a model directory, and the tokens at which its answers end."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stj.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MISTRAL_FILES = ("tekken.json", "*.model.v*")
_PATTERN = "fix_mistral_regex"  # transformers' word: whether to replace a pattern that Mistral published with a fault.
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


def tokenizer_mode(directory: Path) -> Literal["hf", "mistral"]:
    """Which library reads the tokenizer, under vLLM's names: transformers ("hf"), or mistral_common ("mistral").

    Mistral's own format (tekken.json, tokenizer.model.v3) holds no chat template: mistral_common's encoder takes its place. It
    is used if the directory has no template for transformers.
    """
    mistral = any(path.is_file() for pattern in _MISTRAL_FILES for path in directory.glob(pattern))
    return "mistral" if mistral and not _has_template(directory) else "hf"


def load_tokenizer(directory: str | Path, name: str | None = None) -> "PreTrainedTokenizerBase":
    """The tokenizer of a local model directory, the same for engine, training and Judge; its own code is never run.

    `name` is the model's name in errors, by default the directory.

    Raises ModelError if it cannot be read.
    """
    name = name or str(directory)
    try:
        if tokenizer_mode(Path(directory)) == "mistral":
            tokenizer = _mistral_tokenizer(str(directory))
        else:
            tokenizer = _tokenizer(str(directory))
    except Exception as error:  # each kind of tokenizer raises another error if a file is missing or damaged
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"model {name}: its tokenizer or config.json cannot be read ({cause}). Save it again") from None
    tokenizer.name_or_path = name
    return tokenizer


def stop_ids(tokenizer: "PreTrainedTokenizerBase", directory: Path) -> set[int]:
    """Token ids that end an answer: the tokenizer's, and those of generation_config.json; if it names none, of config.json.

    Raises ModelError if one of these files is damaged.
    """
    named = _eos(directory / "generation_config.json") or _eos(directory / "config.json")
    return named | ({tokenizer.eos_token_id} - {None})


def _tokenizer(directory: str) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    # transformers warns of Mistral's faulty pattern for any model whose config.json names no version of it, unless it is told.
    told = {} if _is_of_mistral(Path(directory)) else {_PATTERN: False}
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, mistral_format=False, **told)
    tokenizer.init_kwargs.pop(_PATTERN, None)  # else a saved copy would name it
    return tokenizer


def _is_of_mistral(directory: Path) -> bool:
    """Whether config.json names a model of Mistral's: their types hold `tral`, as mistral3 and pixtral do."""
    try:
        kind = json.loads((directory / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
    return isinstance(kind, str) and "tral" in kind


def _mistral_tokenizer(directory: str) -> "PreTrainedTokenizerBase":
    from transformers.tokenization_mistral_common import MistralCommonBackend

    return MistralCommonBackend.from_pretrained(directory, mode="test")  # the mode that vLLM uses


def _eos(file: Path) -> set[int]:
    if not file.is_file():
        return set()
    try:
        record = json.loads(file.read_bytes())
        ids = _named_ids(record) or _named_ids(record.get("text_config") or {})
    except (ValueError, AttributeError, RecursionError):
        raise ModelError(f"model {file.parent}: its {file.name} is not a JSON object; save the model again") from None
    if not all(type(number) is int for number in ids):
        raise ModelError(f"model {file.parent}: {file.name}: eos_token_id={ids} must be token ids")
    return set(ids)


def _named_ids(record: dict[str, Any]) -> list[Any]:
    named = record.get("eos_token_id")
    return named if isinstance(named, list) else [] if named is None else [named]


def _has_template(directory: Path) -> bool:
    if any((directory / name).is_file() for name in _TEMPLATE_FILES):
        return True
    try:
        return bool(json.loads((directory / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
