"""The parameters of a model with adapters, under the names that its files give them; a model without adapters has one each.

In memory a layer `q_proj` with an adapter is q_proj.base_layer, q_proj.lora_A.default and q_proj.lora_B.default.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from stj.config import ModelConfig

ADAPTER = "default"  # peft's own name for the only adapter of a model
_A, _B = f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight"
_BASE = ".base_layer."
_IN_FILES = "base_model.model."  # peft begins all names in an adapter's file with the path to the model that it wraps


@dataclass(frozen=True)
class Weight:
    """A parameter of the seed, and its adapter if it has one."""

    parameter: Parameter
    adapter: tuple[Parameter, Parameter] | None = None
    """A (rank, n) and B (m, rank)."""
    scale: float = 1.0
    """alpha / rank."""

    @property
    def parts(self) -> list[Parameter]:
        """All parameters that make it."""
        return [self.parameter, *(self.adapter or ())]

    def merged(self) -> Tensor:
        """W, or W + alpha / rank * B A, in bf16; computed in fp32 and rounded once. All parts must be gathered."""
        weight = self.parameter.detach()
        if self.adapter:
            a, b = (part.detach().float() for part in self.adapter)
            weight = weight.to(torch.float32, copy=True).addmm_(b, a, alpha=self.scale)
        return weight.to(torch.bfloat16)


def weights_of(model: Module) -> dict[str, Weight]:
    """The seed's parameters by their names in the seed; tied ones appear once."""
    parameters = dict(model.named_parameters())
    weights = {}
    for name, parameter in parameters.items():
        layer, adapted, _ = name.rpartition(f"{_BASE}weight")
        if adapted:
            adapter = parameters[layer + _A], parameters[layer + _B]
            weights[f"{layer}.weight"] = Weight(parameter, adapter, _settings(model).lora_alpha / _settings(model).r)
        elif not name.endswith((_A, _B)):
            weights[name.replace(_BASE, ".")] = Weight(parameter)
    return weights


def adapters_of(model: Module) -> dict[str, Parameter]:
    """A and B of every adapted layer, by their names in an adapter's file."""
    return {
        _IN_FILES + name.replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in model.named_parameters()
        if name.endswith((_A, _B))
    }


def adapter_config(model: Module, seed: ModelConfig) -> dict[str, Any]:
    """The content of adapter_config.json: peft's settings, and the seed by name."""
    settings = _settings(model).to_dict()
    return {
        **{name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()},
        "inference_mode": True,
        "base_model_name_or_path": seed.path,
        "revision": seed.revision,
    }


def _settings(model: Any) -> Any:
    """What peft has left at the model: its own LoraConfig."""
    return model.peft_config[ADAPTER]


def trained(model: Module) -> Iterator[Parameter]:
    """The parameters that training changes."""
    return (parameter for parameter in model.parameters() if parameter.requires_grad)
