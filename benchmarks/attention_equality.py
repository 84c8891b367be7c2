"""The attentions of packed rows against an eager reference with a mask: outputs and gradients.

    python benchmarks/attention_equality.py        a line of JSON for each case and each attention that runs here; seconds

On a CPU that is the loop over texts, in fp32. On a GPU it is that loop and torch's kernel, both in bf16. The reference computes
in fp32 from the same rounded numbers. An error is the norm of a difference over the norm of the reference.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stj.train.attention import attend_by_kernel, attend_within_texts, boundaries, varlen_kernel

PARTS = ("output", "query", "key", "value")
"""What is compared: the output, and the gradients of the three inputs."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of texts, and the sizes of an attention."""

    lengths: tuple[int, ...]
    heads: int = 4
    kv_heads: int = 4
    size: int = 64
    window: int | None = None
    """Tokens that a token sees, itself included."""


CASES = (
    Case(lengths=(5,)),
    Case(lengths=(1, 1, 300, 7)),
    Case(lengths=(130, 64, 129), kv_heads=1),
    Case(lengths=(257, 1, 128), heads=8, kv_heads=2, size=128),
    Case(lengths=(1, 200, 64, 65), window=64),
    Case(lengths=(300, 33), kv_heads=2, window=2),
    Case(lengths=(100, 50), window=100),
    Case(lengths=(130, 129, 128), heads=8, kv_heads=1, size=128, window=129),
)


class _Layer(nn.Module):
    """A layer of attention without a config: its window is what it is called with."""


def eager(query: Tensor, key: Tensor, value: Tensor, case: Case) -> Tensor:
    """Attention by softmax under the mask of (T, T) that a packed row means: (1, heads, T, d) to (1, T, heads, d)."""
    text = torch.repeat_interleave(torch.arange(len(case.lengths)), torch.tensor(case.lengths)).to(query.device)
    place = torch.arange(len(text), device=query.device)
    seen = (text[:, None] == text) & (place[:, None] >= place)
    if case.window:
        seen &= place[:, None] - place < case.window
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * case.size**-0.5
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def results(attend: Callable[..., Tensor], states: tuple[Tensor, ...], weight: Tensor) -> list[Tensor]:
    """The output, and the gradients of queries, keys and values under a weighted sum of it, in fp32."""
    leaves = [state.detach().clone().requires_grad_() for state in states]
    output = attend(*leaves)
    gradients = torch.autograd.grad(output, leaves, weight.to(output.dtype))
    return [part.detach().float() for part in (output, *gradients)]


def errors(case: Case, name: str, attend: Callable[..., Any], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """The error of each part of an attention that transformers would call by this name."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(case.lengths)
    shapes = [(1, heads, tokens, case.size) for heads in (case.heads, case.kv_heads, case.kv_heads)]
    *states, weight = (
        torch.randn(shape, generator=generator).to(device, dtype) for shape in [*shapes, (1, tokens, case.heads, case.size)]
    )
    within = boundaries(case.lengths, name, device)
    ours = results(
        lambda *qkv: attend(_Layer(), *qkv, None, scaling=case.size**-0.5, sliding_window=case.window, **within)[0],
        tuple(states),
        weight,
    )
    exact = results(lambda *qkv: eager(*qkv, case), tuple(state.float() for state in states), weight.float())
    return {part: float((mine - right).norm() / right.norm()) for part, mine, right in zip(PARTS, ours, exact, strict=True)}


def compare(device: str) -> list[dict[str, Any]]:
    """Every case with every attention that runs on the device, `cpu` or `cuda`."""
    attentions: dict[str, Callable[..., Any]] = {"stj_per_text": attend_within_texts}
    if device != "cpu" and varlen_kernel():
        attentions["stj_varlen"] = attend_by_kernel
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return [
        {"attention": name, **vars(case), "errors": errors(case, name, attend, torch.device(device), dtype)}
        for case in CASES
        for name, attend in attentions.items()
    ]


if __name__ == "__main__":
    for line in compare("cuda" if torch.cuda.is_available() else "cpu"):
        print(json.dumps(line), flush=True)
