"""The language-model head on supervised positions only, a slice of the vocabulary at a time.

Logits are the largest tensor in training a judge: 4.2 GB in fp32 for 8,192 tokens and 128,256 words. Autograd holds two or
three of them. Here only the judgment's positions have logits. Each position keeps two numbers: the label's logit, and the
logarithm of the sum over all words. Slices are computed, used and dropped, and computed again in the backward pass.
"""

from typing import Any

import torch
from torch import Tensor

_SLICES = 32
"""One slice's logits are at most 1/32 of all, in fp32; with the tensors of its backward pass, less than a tenth."""
_NARROWEST = 2048  # Slices have at least this width: narrow products are slow, and a small vocabulary saves nothing.


class SupervisedHead(torch.nn.Module):
    """Log-probabilities of given next tokens; a separate module, so that ZeRO-3 gathers the weight around it."""

    def __init__(self, output_embeddings: torch.nn.Module) -> None:
        super().__init__()
        self.weight = output_embeddings.weight
        self.bias = getattr(output_embeddings, "bias", None)

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Log-probability (S,) in fp32 of each target (S,) after its hidden state (S, H)."""
        logps: Tensor = _TargetLogps.apply(hidden, self.weight, self.bias, targets)  # type: ignore[no-untyped-call]
        return logps


class _TargetLogps(torch.autograd.Function):
    """log softmax(hidden @ weight.T + bias) at the targets, and its gradients, by slices of the vocabulary."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        total = hidden.new_full((len(targets),), -torch.inf, dtype=torch.float32)
        chosen = torch.zeros_like(total)
        for start, end in _slices(len(weight)):
            logits = _logits(hidden, weight, bias, start, end)
            inside = ((targets >= start) & (targets < end)).nonzero().squeeze(1)
            chosen[inside] = logits[inside, targets[inside] - start]
            total = torch.logaddexp(total, logits.logsumexp(dim=1))
        ctx.save_for_backward(hidden, weight, bias, targets, total)
        return chosen - total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        hidden, weight, bias, targets, total = ctx.saved_tensors
        upstream = gradients[0].unsqueeze(1)  # (S, 1)
        of_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        _, weight_learns, bias_learns, _ = ctx.needs_input_grad  # a frozen head has no gradients of its own
        of_weight = torch.empty_like(weight) if weight_learns else None
        of_bias = torch.empty_like(bias) if bias_learns else None
        for start, end in _slices(len(weight)):
            of_logits = _logits(hidden, weight, bias, start, end).sub_(total.unsqueeze(1)).exp_().mul_(-upstream)
            inside = ((targets >= start) & (targets < end)).nonzero().squeeze(1)
            of_logits[inside, targets[inside] - start] += upstream[inside, 0]
            if of_bias is not None:
                of_bias[start:end] = of_logits.sum(dim=0)
            narrow = of_logits.to(weight.dtype)
            if of_weight is not None:
                of_weight[start:end] = narrow.T @ hidden
            of_hidden += narrow @ weight[start:end]
        return of_hidden.to(hidden.dtype), of_weight, of_bias, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, start: int, end: int) -> Tensor:
    """Logits (S, end - start) in fp32 of a slice of the vocabulary."""
    logits = hidden @ weight[start:end].T
    return (logits if bias is None else logits + bias[start:end]).float()


def _slices(vocabulary: int) -> list[tuple[int, int]]:
    width = max(_NARROWEST, -(-vocabulary // _SLICES))
    return [(start, min(start + width, vocabulary)) for start in range(0, vocabulary, width)]
