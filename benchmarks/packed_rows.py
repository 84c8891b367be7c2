"""Packing and the head: useful tokens, tokens a second and logits, against the padded or full computation.

The padded peer does what trainers do by default. Examples are in random order. A batch holds as many as fit into the same token
budget at the length of its longest. Attention is transformers' SDPA, and all positions go through the head. All ways take the
same examples through forward and backward of the same weights in fp32, one way after the other. Seconds are CPU seconds of one
thread.

`packed_over_padded` is the product of two ratios. `packing_alone` compares with padded batches that use our head on supervised
positions. `head_alone` is the gain of that head on padded batches. The head is small beside the body, as in large models; with
a wide vocabulary on a narrow body the head would dominate. `padded_sorted` is the default on examples sorted by length, where
padding costs least; nobody trains in that order. `expected` has the same ratios in FLOPs, for this shape and for the 70B at
full lengths, which is not measured here.

`logits_bytes_fraction` is the peak memory of the head over tokens x vocabulary x 4 bytes.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from lengths import paper_lengths
from live_bytes import peak_bytes
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from stj.config import ModelConfig
from stj.models.shapes import shape_of
from stj.train import attention
from stj.train.data import ExampleTokens
from stj.train.flops import TokenWork, work_of
from stj.train.head import SupervisedHead
from stj.train.model import PackedJudge
from stj.train.packing import micro_batches, pack

BUDGET = 8192
LAYERS, HIDDEN, VOCABULARY = 4, 512, 2048  # The head has 7% of a token's work, and 1.5% in the 70B.
LLAMA_3_VOCABULARY = 128_256
LARGE = "meta-llama/Meta-Llama-3-70B-Instruct"


def examples(count: int, seed: int, divide: int) -> list[ExampleTokens]:
    """Examples of random token ids, in the paper's lengths over `divide`."""
    generator = np.random.default_rng(seed)
    return [
        ExampleTokens(
            id=f"example-{i}",
            texts=(generator.integers(0, VOCABULARY, (prompt + judgment) // divide, dtype=np.int32),),
            prompt_length=prompt // divide,
        )
        for i, (prompt, judgment) in enumerate(paper_lengths(count, seed))
    ]


def model(attend: str) -> LlamaForCausalLM:
    """A small Llama in fp32, with the same weights in every call."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // 64,
        num_key_value_heads=HIDDEN // 64,
        attn_implementation=attend,
    )
    return LlamaForCausalLM(config).train()


def packed_pass(judge: PackedJudge, tokens: Sequence[ExampleTokens], rows: Sequence[tuple[int, ...]]) -> float:
    """Forward and backward of all rows, as in training; returns the loss."""
    judge.zero_grad()
    total = 0.0
    for row in rows:
        loss = -judge(**pack([tokens[index] for index in row]).on(torch.device("cpu"))).sum()
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def padded_batches(tokens: Sequence[ExampleTokens], budget: int) -> list[list[int]]:
    """Batches of examples in their order; a batch fits into the budget when padded to its longest example."""
    batches: list[list[int]] = [[]]
    for index in range(len(tokens)):
        longest = max(tokens[other].length for other in [*batches[-1], index])
        if batches[-1] and (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
        batches[-1].append(index)
    return batches


def padded_pass(
    language_model: LlamaForCausalLM,
    tokens: Sequence[ExampleTokens],
    batches: Sequence[Sequence[int]],
    *,
    supervised_head: bool,
) -> float:
    """The same with padding on the right, and with logits of all positions or only of the supervised ones."""
    language_model.zero_grad()
    head = SupervisedHead(language_model.get_output_embeddings())
    total = 0.0
    for batch in batches:
        longest = max(tokens[index].length for index in batch)
        inputs = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full_like(inputs, -100)
        for place, index in enumerate(batch):
            row, ids = tokens[index], torch.from_numpy(tokens[index].texts[0]).long()
            inputs[place, : row.length] = ids
            labels[place, row.prompt_length : row.length] = ids[row.prompt_length :]
        targets = labels[:, 1:].flatten()
        if supervised_head:
            hidden = language_model.base_model(input_ids=inputs, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
            loss = -head(hidden[targets >= 0], targets[targets >= 0]).sum()
        else:
            logits = language_model(input_ids=inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
            loss = cross_entropy(logits.float(), targets, reduction="sum")
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def logits_fraction(tokens: Sequence[ExampleTokens], *, full: bool) -> float:
    """Peak memory of the head over tokens x vocabulary x 4 bytes, with a Llama-3 vocabulary and hidden size 8."""
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
    started = time.process_time()  # CPU time: other work on the machine does not count.
    loss = work()
    return time.process_time() - started, loss


def measure(repeats: int, count: int, divide: int) -> dict[str, Any]:
    """The ratios and the raw figures, at the paper's lengths over `divide`."""
    torch.set_num_threads(1)  # CPU seconds of more threads include their waiting for each other.
    lengths = [sum(pair) for pair in paper_lengths(4000, seed=0)]
    many = micro_batches([str(i) for i in range(len(lengths))], lengths, BUDGET, seed=0, epoch=0)
    tokens, budget = examples(count, 1, divide), BUDGET // divide
    by_length = sorted(tokens, key=lambda row: row.length)
    rows = micro_batches([row.id for row in tokens], [row.length for row in tokens], budget, seed=0, epoch=0)
    batches, sorted_batches = padded_batches(tokens, budget), padded_batches(by_length, budget)
    ours, peer = PackedJudge(model(attention.implementation("cpu"))), model("sdpa")
    passes: dict[str, Callable[[], float]] = {
        "packed": lambda: packed_pass(ours, tokens, rows),
        "padded": lambda: padded_pass(peer, tokens, batches, supervised_head=False),
        "padded_supervised_head": lambda: padded_pass(peer, tokens, batches, supervised_head=True),
        "padded_sorted": lambda: padded_pass(peer, by_length, sorted_batches, supervised_head=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    losses: dict[str, float] = {}
    for _ in range(repeats):
        for name, work in passes.items():  # Interleaved, so that other work takes caches from all ways alike.
            took, losses[name] = timed(work)
            seconds[name].append(round(took, 3))
            print(name, seconds[name][-1], flush=True)
    useful, middle, here = (
        sum(row.length for row in tokens),
        {name: median(took) for name, took in seconds.items()},
        work_of(peer),
    )
    full_lengths = examples(4000, 0, divide=1)
    return {
        "packed_over_padded": middle["padded"] / middle["packed"],
        "packing_alone": middle["padded_supervised_head"] / middle["packed"],
        "head_alone": middle["padded"] / middle["padded_supervised_head"],
        "packed_over_padded_sorted": middle["padded_sorted"] / middle["packed"],
        "useful_token_fraction": sum(lengths) / (BUDGET * len(many)),
        "logits_bytes_fraction": logits_fraction(examples(4, 1, divide=4), full=False),
        "raw": {
            "cpu_seconds": seconds,
            "losses": losses,
            "tokens": useful,
            "tokens_per_cpu_s": {name: round(useful / took, 1) for name, took in middle.items()},
            "padded_useful_fraction": useful / _padded_tokens(tokens, budget),
            "padded_useful_fraction_of_full_lengths": sum(row.length for row in full_lengths)
            / _padded_tokens(full_lengths, BUDGET),
            "head_share_of_parameters": here.head / (here.body + here.head),
            "expected": {
                "this_shape": expected(here, tokens, budget),
                "70b_of_full_lengths": expected(_large(), full_lengths, BUDGET),
            },
            "full_logits_bytes_fraction": logits_fraction(examples(4, 1, divide=4), full=True),
            "examples": len(tokens),
            "lengths_divided_by": divide,
            "lengths_packed": len(lengths),
            "threads": torch.get_num_threads(),
        },
    }


def expected(work: TokenWork, tokens: Sequence[ExampleTokens], budget: int) -> dict[str, float]:
    """The ratios in FLOPs, as if all FLOPs were equally fast."""
    packed, padded, supervised_head = (
        work.flops(rows) for rows in (tokens, _as_padded(tokens, budget, every=True), _as_padded(tokens, budget, every=False))
    )
    return {
        "packed_over_padded": padded / packed,
        "packing_alone": supervised_head / packed,
        "head_alone": padded / supervised_head,
    }


def _as_padded(tokens: Sequence[ExampleTokens], budget: int, *, every: bool) -> list[ExampleTokens]:
    """Examples padded to the length of their batch, with all positions through the head or only the supervised ones."""
    longest = {
        index: max(tokens[other].length for other in batch) for batch in padded_batches(tokens, budget) for index in batch
    }
    return [
        ExampleTokens(
            id=row.id,
            texts=(np.zeros(longest[index], dtype=np.int32),),
            prompt_length=0 if every else longest[index] - row.counts[0],
        )
        for index, row in enumerate(tokens)
    ]


def _large() -> TokenWork:
    """The work of the 70B for a token."""
    shape = shape_of(ModelConfig(path=LARGE))
    assert shape
    return TokenWork(
        body=shape.layers * shape.layer_parameters(1),
        head=shape.vocab * shape.hidden,
        attention=shape.layers * shape.heads * shape.head_dim,
    )


def _padded_tokens(tokens: Sequence[ExampleTokens], budget: int) -> int:
    """Tokens that the padded batches compute."""
    return sum(len(batch) * max(tokens[index].length for index in batch) for batch in padded_batches(tokens, budget))
