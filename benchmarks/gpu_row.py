"""The parts of gpu.py on one packed row: its attention, and the head behind it. Each yields figures as it has them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import torch
from gpu_sizes import Sizes
from gpu_training import Figures, Memory, card_gb, device_of, packed_steps, timed


def attention(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """Attention of one packed row, forward and backward: seconds of each way, and how far their results are apart."""
    from stj.train.attention import implementation

    tokens, steps = packed_steps(sizes, 2)
    lengths = tuple(tokens[index].length for index in steps[0].micro_batches[0])
    best, per_text = implementation(sizes.device), implementation("cpu")
    alone = _Attention(sizes, lengths, per_text)
    figures: Figures = {"lengths": lengths, "best": best, "per_text_s": alone.seconds(), "per_text_tflops": alone.tflops()}
    if best == per_text:
        yield {**figures, "best_over_per_text": "not available: there is only attention of one text at a time here"}
        return
    fast = _Attention(sizes, lengths, best)
    figures |= {"best_s": fast.seconds(), "best_tflops": fast.tflops()}
    yield {
        **figures,
        "best_over_per_text": round(figures["best_s"] / figures["per_text_s"], 4),
        "difference": {
            name: float((ours.float() - reference.float()).abs().max() / reference.float().abs().max())
            for name, ours, reference in zip(("output", "query", "key", "value"), fast.results(), alone.results(), strict=True)
        },
    }


class _Attention:
    """One layer's attention over a packed row, by its name in transformers."""

    def __init__(self, sizes: Sizes, lengths: Sequence[int], name: str) -> None:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        from stj.train.attention import boundaries

        shape, self._device = sizes.small, device_of(sizes)
        self._squares = sum(length**2 for length in lengths)
        torch.manual_seed(0)
        self._inputs = [
            torch.randn(1, heads, sum(lengths), shape.head_dim, device=self._device, dtype=torch.bfloat16, requires_grad=True)
            for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
        ]
        self._upstream = torch.randn(1, sum(lengths), shape.heads, shape.head_dim, device=self._device, dtype=torch.bfloat16)
        self._attend = ALL_ATTENTION_FUNCTIONS[name]
        self._module = torch.nn.Module()
        self._module.is_causal = True
        self._module.num_key_value_groups = shape.heads // shape.kv_heads
        self._options = {"scaling": shape.head_dim**-0.5, **boundaries(lengths, name, self._device)}

    def results(self) -> list[torch.Tensor]:
        """The output and the three gradients."""
        output, _ = self._attend(self._module, *self._inputs, None, **self._options)
        return [output.detach(), *torch.autograd.grad(output, self._inputs, self._upstream)]

    def seconds(self, times: int = 10) -> float:
        """Median seconds of forward and backward."""
        for _ in range(3):
            self.results()
        self._seconds = median(timed(self.results, self._device) for _ in range(times))
        return round(self._seconds, 6)

    def tflops(self) -> float:
        """The rate of the last measurement. Two products forward and five backward, each over half of a text's square."""
        return float(f"{7 * self._squares * self._inputs[0].shape[1] * self._inputs[0].shape[3] / self._seconds / 1e12:.4g}")


def logits(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """Memory of loss and gradient behind the last layer, beyond the gradient of the head's weights, and the plan's figure."""
    from torch.nn.functional import cross_entropy

    from stj.plan.training import training_plan
    from stj.train.head import SupervisedHead

    shape, device, row = sizes.small, device_of(sizes), sizes.row_tokens
    tokens, steps = packed_steps(sizes, 2)
    learned = sum(sum(tokens[index].counts) for index in steps[0].micro_batches[0])
    linear = torch.nn.Linear(shape.hidden, shape.vocab, bias=False, device=device, dtype=torch.bfloat16)
    head = SupervisedHead(linear)
    plan = training_plan(shape, sizes.plan_config(max(1.0, card_gb(sizes)), every=1))
    yield {"row_tokens": row, "learned_tokens": learned, "vocabulary": shape.vocab, "plan_gb": plan.logits_gb}

    def gb(positions: int, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        hidden = torch.randn(positions, shape.hidden, device=device, dtype=torch.bfloat16, requires_grad=True)
        targets = torch.randint(shape.vocab, (positions,), device=device)
        linear.zero_grad(set_to_none=True)
        return _peak_gb(lambda: loss(hidden, targets), linear.weight.nbytes, device)

    def supervised(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -head(hidden, targets).sum()

    def plain(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(linear(hidden).float(), targets, reduction="sum")

    full_row = gb(row, supervised)
    yield {"supervised_gb": gb(learned, supervised), "all_gb": full_row, "all_over_plan": full_row / plan.logits_gb}
    yield {"plain_all_gb": gb(row, plain)}


def _peak_gb(loss: Callable[[], torch.Tensor], kept: int, device: torch.device) -> float:
    if device.type == "cpu":
        from live_bytes import peak_bytes

        return peak_bytes(loss, kept) / 1e9
    memory = Memory(device)
    torch.autograd.backward(loss())
    return memory.peak_gb() - kept / 1e9
