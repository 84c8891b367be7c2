"""Adapters on the seed's linear layers (LoRA), by peft: only they are trained, and the seed's weights stay frozen.

peft (https://github.com/huggingface/peft) puts W x + alpha / rank * B A x in the place of W x. B is 0 before the first step, so
a model with new adapters is its seed: the reference of a preference loss needs no second model.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig as PeftConfig
from peft import inject_adapter_in_model
from torch.nn import Linear
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from stj.errors import ModelError
from stj.train.adapters import ADAPTER
from stj.train_config import LoraConfig


def add_adapters(model: PreTrainedModel, lora: LoraConfig, seed: int) -> None:
    """Puts adapters on the model's layers and freezes everything else; on every rank, A is drawn from the same seed.

    Raises ModelError if a target does not exist.
    """
    settings = PeftConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_layers(model, lora.targets),
    )
    torch.manual_seed(seed)
    inject_adapter_in_model(settings, model, ADAPTER)


def check_targets(directory: Path, lora: LoraConfig) -> None:
    """Raises ModelError if a target is no layer of the model in a directory; reads its config.json, and needs no weights."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory, trust_remote_code=False))
    except Exception as error:  # each architecture raises another error for a config.json that it cannot take
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{directory}: its config.json makes no causal language model ({cause})") from None
    target_layers(model, lora.targets)


def target_layers(model: PreTrainedModel, targets: Sequence[str] | None) -> list[str]:
    """Full names of the linear layers that the targets name by their last parts; None names all but the head.

    Raises ModelError, which names the layers that exist, if a target names none.
    """
    head = model.get_output_embeddings()
    layers = [name for name, module in model.named_modules() if isinstance(module, Linear) and module is not head]
    wanted = ("",) if targets is None else tuple(f".{target}" for target in targets)
    for target in wanted:
        if not any(f".{layer}".endswith(target) for layer in layers):
            names = ", ".join(sorted({layer.rpartition(".")[2] for layer in layers})) or "none"
            raise ModelError(
                f"train.lora.targets={target[1:] or 'null'}: the model has no such linear layer to adapt; it has {names}"
            )
    return [layer for layer in layers if f".{layer}".endswith(wanted)]
