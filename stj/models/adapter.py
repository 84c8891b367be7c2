"""What an adapter says of itself: a directory in peft's layout, whose adapter_config.json names the model under it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.train_config import MOST_RANK

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_NOT_LOADED = ("use_dora", "modules_to_save", "lora_bias", "alora_invocation_tokens", "layer_replication", "use_qalora")
"""What peft has and vLLM refuses (vllm/lora/peft_helper.py)."""
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tekken.json")


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A low-rank adapter, which engines load over its base."""

    base: ModelConfig
    """The whole model that it was trained on, loaded with the adapter's own settings of the engine."""
    rank: int
    """The highest rank of its layers."""


def read_adapter(text: bytes, model: ModelConfig) -> Adapter:
    """The adapter that a model's adapter_config.json describes. Raises ModelError if no engine here could load it."""
    try:
        settings = json.loads(text)
        kind, base, rank = settings["peft_type"], settings["base_model_name_or_path"], settings["r"]
        ranks = [rank, *(settings.get("rank_pattern") or {}).values()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ModelError(
            f"model {model.path}: its {ADAPTER_CONFIG} does not name peft_type, base_model_name_or_path and r. Save it again"
        ) from None
    if kind != "LORA" or not all(isinstance(rank, int) and 1 <= rank <= MOST_RANK for rank in ranks):
        raise ModelError(
            f"model {model.path}: its {ADAPTER_CONFIG} has peft_type={kind} and ranks {ranks}, and vLLM loads LORA with ranks "
            f"of 1 to {MOST_RANK}. Merge it into its base and give the whole model"
        )
    if lacking := [name for name in _NOT_LOADED if settings.get(name)]:
        raise ModelError(
            f"model {model.path}: its {ADAPTER_CONFIG} sets {lacking[0]}, which vLLM cannot load. Merge it into its base and "
            "give the whole model"
        )
    if not isinstance(base, str) or not base:
        raise ModelError(f"model {model.path}: its {ADAPTER_CONFIG} names no base_model_name_or_path. Write the base's there")
    return Adapter(base=replace(model, path=base, revision=settings.get("revision")), rank=max(ranks))


def has_tokenizer(directory: str | Path) -> bool:
    """Whether a model's directory holds a tokenizer; many adapters leave it to their base."""
    return any((Path(directory) / name).exists() for name in _TOKENIZERS)
