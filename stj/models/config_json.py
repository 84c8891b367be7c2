"""What a model's config.json states: its context, and its attention heads, which several GPUs must share evenly."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.hub import from_hub, is_hub_id
from stj.models.locate import model_folder, whole_model

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
)
_SCALED_BEYOND = ("linear", "dynamic")
"""Kinds of RoPE scaling whose factor the stated context does not include."""


def within_context(model: ModelConfig) -> ModelConfig:
    """The model with max_model_len cut to the context that its config.json states.

    A model behind an API stays as it is. Fetches only the config from the hub or a URI. Raises ModelError as `local_model`
    does.
    """
    if model.endpoint:
        return model
    context = context_of(model)
    return model if context is None else replace(model, max_model_len=min(model.max_model_len, context))


def context_of(model: ModelConfig) -> int | None:
    """The context that a model's config.json states, in tokens, as vLLM derives it; None if it states none.

    A linear or dynamic scaling of RoPE multiplies it; with the other kinds, and in Gemma 3, the stated number includes it.

    Raises ModelError as `read_config` does, or if the number or the factor is none.
    """
    text = text_config(read_config(model))
    stated = [text[key] for key in _CONTEXT_KEYS if type(text.get(key)) is int]
    if not stated:
        return None
    factor = _rope_factor(text)
    if min(stated) < 1 or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise ModelError(
            f"model {model.path}: its config.json states a context of {min(stated)} tokens with a RoPE factor of {factor!r}: "
            "both must be above 0; save the model again"
        )
    return int(min(stated) * factor)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that describes the text model: its text_config, or all of it."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) and text else config


def _rope_factor(text: Mapping[str, Any]) -> Any:
    """The factor by which RoPE's scaling lengthens the stated context; from a file, so it may be anything."""
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if not isinstance(scaling, Mapping) or "gemma3" in str(text.get("model_type")):
        return 1
    factor = scaling.get("factor") if scaling.get("rope_type", scaling.get("type")) in _SCALED_BEYOND else None
    return 1 if factor is None else factor


def check_division(model: ModelConfig) -> None:
    """Raises ModelError if tensor_parallel_size GPUs cannot share the model's attention heads evenly.

    Fetches only the config from the hub or a URI, and nothing for a single GPU.
    """
    size = model.tensor_parallel_size
    if size == 1 or model.endpoint:
        return
    config = read_config(model)
    text: Any = text_config(config)
    heads = text.get("num_attention_heads")
    groups = text.get("num_key_value_heads") or heads
    if isinstance(heads, int) and (heads % size or max(groups, size) % min(groups, size)):
        sizes = [n for n in range(1, heads + 1) if not heads % n and not max(groups, n) % min(groups, n)]
        raise ModelError(
            f"model {model.path}: tensor_parallel_size={size} GPUs cannot share its {heads} attention heads and {groups} "
            f"key-value heads evenly: set it to one of {', '.join(map(str, sizes))}"
        )


def read_config(model: ModelConfig) -> dict[str, Any]:
    """A model's config.json, or that of an adapter's base; fetches only small files from the hub or a URI.

    Raises ModelError if the model is missing, or if the file is no JSON object.
    """
    model = whole_model(model)
    if is_hub_id(model.path):
        text = (from_hub(model, ["config.json"]) / "config.json").read_bytes()
    else:
        text = model_folder(model.path).read("config.json")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"model {model.path}: its config.json is not a JSON object; save the model again")
    return config
