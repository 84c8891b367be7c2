"""Packing and the head: useful tokens, tokens a second and logits, each beside the padded or full computation.

The padded peer is what a trainer does by default: examples in random order, as many in a batch as the longest of them lets in
under the same token budget, transformers' own SDPA, and all positions through the head. Both take the same examples through
forward and backward of the same Llama-shaped stack, one after the other. `padded_sorted` pads examples that were sorted by
length, which is the least that padding can cost, and is no order to train in. Seconds are the CPU's.
`logits_bytes_fraction` is the peak of what the head holds over tokens x vocabulary x 4 bytes.
"""

import time
import weakref
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from stj.train import attention
from stj.train.data import Tokens
from stj.train.head import SupervisedHead
from stj.train.model import Judge
from stj.train.packing import micro_batches, pack

BUDGET = 8192
VOCABULARY = 8192
LLAMA_3_VOCABULARY = 128_256


def paper_lengths(count: int, seed: int) -> list[tuple[int, int]]:
    """Tokens of so many prompts and judgments, as the plan assumes them: 1,800 and 500 on average, 4,096 together at most.

    The paper gives no lengths. A prompt is Figure 8 (250), an instruction and two answers; all are drawn log-normally.
    """
    generator = np.random.default_rng(seed)
    prompts = 250 + sum(
        _log_normal(generator, mean, spread, 2 * count) for mean, spread in ((350, 1.0), (600, 0.6), (600, 0.6))
    )
    judgments = _log_normal(generator, 500, 0.5, 2 * count)
    drawn = [(int(prompt), int(judgment)) for prompt, judgment in zip(prompts, judgments, strict=True)]
    return [(prompt, judgment) for prompt, judgment in drawn if prompt + judgment <= 4096][:count]


def _log_normal(generator: np.random.Generator, mean: float, spread: float, count: int) -> np.ndarray:
    """Draws with this mean and this standard deviation as a share of the mean."""
    variance = np.log1p(spread**2)
    return generator.lognormal(np.log(mean) - variance / 2, variance**0.5, count)


class _Live(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of tensors that are made and not yet freed, each storage once."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[int] = set()
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)}
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage(), before)
        return result

    def _count(self, storage: torch.UntypedStorage, before: set[int]) -> None:
        key = storage._cdata
        if key in before or key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def peak_bytes(loss: Callable[[], torch.Tensor], kept: int) -> int:
    """Most bytes alive at once while a loss is computed and differentiated, without `kept`: those of the weight's gradient."""
    with _Live() as live:
        torch.autograd.backward(loss())
    return live.peak - kept


def examples(count: int, seed: int, divide: int) -> list[Tokens]:
    """Random token ids in the lengths of the paper, or in those divided by a number."""
    generator = np.random.default_rng(seed)
    return [
        Tokens(
            id=f"example-{i}",
            texts=(generator.integers(0, VOCABULARY, (prompt + judgment) // divide, dtype=np.int32),),
            prompt_length=prompt // divide,
        )
        for i, (prompt, judgment) in enumerate(paper_lengths(count, seed))
    ]


def model(attend: str) -> LlamaForCausalLM:
    """A Llama of 4 layers and hidden 192, the mini seed's shape but for its vocabulary."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        attn_implementation=attend,
    )
    return LlamaForCausalLM(config).train()


def packed_pass(tokens: Sequence[Tokens], rows: Sequence[tuple[int, ...]]) -> float:
    """Forward and backward of all rows as the training does them; the loss."""
    judge = Judge(model(attention.implementation("cpu")))
    total = 0.0
    for row in rows:
        loss = -judge(**pack([tokens[index] for index in row]).on(torch.device("cpu"))).sum()
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def padded_batches(tokens: Sequence[Tokens], budget: int) -> list[list[int]]:
    """Examples in their order, as many together as fit in the budget when each is as long as the longest of them."""
    batches: list[list[int]] = [[]]
    for index in range(len(tokens)):
        longest = max(tokens[other].length for other in [*batches[-1], index])
        if batches[-1] and (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
        batches[-1].append(index)
    return batches


def padded_pass(tokens: Sequence[Tokens], batches: Sequence[Sequence[int]]) -> float:
    """The same with padding on the right and logits of all positions."""
    language_model = model("sdpa")
    total = 0.0
    for batch in batches:
        longest = max(tokens[index].length for index in batch)
        inputs = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full_like(inputs, -100)
        for place, index in enumerate(batch):
            row, ids = tokens[index], torch.from_numpy(tokens[index].texts[0]).long()
            inputs[place, : row.length] = ids
            labels[place, row.prompt_length : row.length] = ids[row.prompt_length :]
        logits = language_model(input_ids=inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
        loss = cross_entropy(logits.float(), labels[:, 1:].flatten(), reduction="sum")
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def logits_fraction(tokens: Sequence[Tokens], *, full: bool) -> float:
    """Peak of the head over tokens x vocabulary x 4 bytes, at a Llama-3 vocabulary and hidden size 8."""
    learned, length = sum(row.counts[0] for row in tokens), sum(row.length for row in tokens)
    linear = torch.nn.Linear(8, LLAMA_3_VOCABULARY, bias=False)
    hidden = torch.randn(length if full else learned, 8, requires_grad=True)
    targets = torch.randint(LLAMA_3_VOCABULARY, (len(hidden),))
    loss = (
        (lambda: cross_entropy(linear(hidden).float(), targets, reduction="sum"))
        if full
        else (lambda: -SupervisedHead(linear)(hidden, targets).sum())
    )
    return peak_bytes(loss, kept=linear.weight.nbytes) / (4 * length * LLAMA_3_VOCABULARY)


def timed(work: Callable[[], float]) -> tuple[float, float]:
    started = time.process_time()  # of the CPU: other work on the machine does not count
    loss = work()
    return time.process_time() - started, loss


def measure(repeats: int, count: int, divide: int) -> dict[str, Any]:
    """Ratios, and the raw figures; lengths are the paper's over `divide`."""
    lengths = [sum(pair) for pair in paper_lengths(4000, seed=0)]
    many = micro_batches([str(i) for i in range(len(lengths))], lengths, BUDGET, seed=0, epoch=0)
    tokens, budget = examples(count, 1, divide), BUDGET // divide
    by_length = sorted(tokens, key=lambda row: row.length)
    rows = micro_batches([row.id for row in tokens], [row.length for row in tokens], budget, seed=0, epoch=0)
    passes: dict[str, Callable[[], float]] = {
        "packed": lambda: packed_pass(tokens, rows),
        "padded": lambda: padded_pass(tokens, padded_batches(tokens, budget)),
        "padded_sorted": lambda: padded_pass(by_length, padded_batches(by_length, budget)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    losses: dict[str, float] = {}
    for _ in range(repeats):
        for name, work in passes.items():  # interleaved: caches that other work takes are taken from all of them
            took, losses[name] = timed(work)
            seconds[name].append(round(took, 3))
            print(name, seconds[name][-1], flush=True)
    useful = sum(row.length for row in tokens)
    return {
        "packed_over_padded": median(seconds["padded"]) / median(seconds["packed"]),
        "packed_over_padded_sorted": median(seconds["padded_sorted"]) / median(seconds["packed"]),
        "useful_token_fraction": sum(lengths) / (BUDGET * len(many)),
        "logits_bytes_fraction": logits_fraction(examples(4, 1, divide=4), full=False),
        "raw": {
            "cpu_seconds": seconds,
            "losses": losses,
            "tokens": useful,
            "tokens_per_cpu_s": {name: round(useful / median(values), 1) for name, values in seconds.items()},
            "padded_useful_fraction": useful / _padded_tokens(tokens, budget),
            "full_logits_bytes_fraction": logits_fraction(examples(4, 1, divide=4), full=True),
            "examples": len(tokens),
            "lengths_divided_by": divide,
            "lengths_packed": len(lengths),
            "threads": torch.get_num_threads(),
        },
    }


def _padded_tokens(tokens: Sequence[Tokens], budget: int) -> int:
    """Tokens that the padded batches compute."""
    return sum(len(batch) * max(tokens[index].length for index in batch) for batch in padded_batches(tokens, budget))
