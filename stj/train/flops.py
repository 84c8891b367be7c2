"""What a model computes for its training texts, and what share of its device's peak that is (MFU).

Counted as in PaLM (arXiv 2204.02311, appendix B), for each token, forward and backward: 6 FLOPs a parameter, or 4 if it is
frozen, because nothing computes its gradient. Attention adds 12
times layers, heads, size of a head and length of the text. Two things do not count: what activation checkpointing computes
again, and the reference of a preference loss. Two things count less than in a plain count, because they are less work.
Attention reaches over a token's own text, not over its packed row. The language-model head counts only at the tokens under the
loss.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn import Parameter
from transformers import PreTrainedModel

from stj.train.data import ExampleTokens

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_PEAK_TFLOPS = {
    "GB200": 2500,
    "B200": 2250,
    "GH200": 989,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
}
"""Dense bf16 peaks from NVIDIA's data sheets, by words of the device's name; the first match counts."""


@dataclass(frozen=True, kw_only=True)
class TokenWork:
    """The sizes that decide what a model computes for a token."""

    body: int
    """Parameters that a token goes through, without embedding and head."""
    head: int
    """Parameters of the language-model head."""
    attention: int
    """Layers times heads times the size of a head."""
    frozen_body: int = 0
    """How many of the body's parameters are frozen."""
    frozen_head: bool = False

    def flops(self, examples: Iterable[ExampleTokens]) -> float:
        """FLOPs of a forward and a backward pass over these examples."""
        return float(sum(self._of_example(example) for example in examples))

    def _of_example(self, example: ExampleTokens) -> int:
        of_token = 6 * self.body - 2 * self.frozen_body
        body = sum(len(text) * (of_token + 12 * self.attention * len(text)) for text in example.texts)
        return body + (4 if self.frozen_head else 6) * self.head * sum(example.counts)


@dataclass(frozen=True, kw_only=True)
class MfuMeter:
    """Computes the share of the devices' peak that a step reaches."""

    work: TokenWork
    peak: float
    """Peak of all ranks' devices together, in FLOP/s."""

    def mfu(self, examples: Iterable[ExampleTokens], seconds: float) -> float:
        """Model FLOPs utilisation of a step on these examples: between 0 and 1."""
        return self.work.flops(examples) / (seconds * self.peak)


def mfu_meter(model: PreTrainedModel) -> MfuMeter | None:
    """The meter of this model on all ranks; None on CPU, and for a device whose peak is not known."""
    peak = peak_of(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return None if peak is None else MfuMeter(work=work_of(model), peak=peak * dist.get_world_size())


def work_of(model: PreTrainedModel) -> TokenWork:
    """Counts a model's parameters; whole ones, even if ZeRO-3 holds only parts of them on this rank."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings().weight
    outer = {id(head), id(model.get_input_embeddings().weight)}
    experts = next((getattr(config, name) for name in _EXPERTS if getattr(config, name, None)), 1)
    active = getattr(config, "num_experts_per_tok", None) or experts
    sizes = {True: 0, False: 0}  # by whether they are trained
    for name, parameter in model.named_parameters():
        if id(parameter) not in outer:
            size = numel(parameter)
            sizes[parameter.requires_grad] += size * active // experts if ".experts." in name else size
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return TokenWork(
        body=sum(sizes.values()),
        head=numel(head),
        attention=config.num_hidden_layers * config.num_attention_heads * head_dim,
        frozen_body=sizes[False],
        frozen_head=not head.requires_grad,
    )


def peak_of(device: str) -> float | None:
    """Dense bf16 peak of a device by its name, in FLOP/s; None if it is not known."""
    return next((tflops * 1e12 for words, tflops in _PEAK_TFLOPS.items() if re.search(rf"\b{words}\b", device)), None)


def numel(parameter: Parameter) -> int:
    """Size of a parameter; of the whole one, even if ZeRO-3 holds only a part of it on this rank."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
