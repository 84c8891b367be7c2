"""Which examples make up each step, and how the texts of a micro-batch lie in one row.

The plan is a function of (seed, epoch, ids, lengths, difficulties) and the token budget. So every rank computes the same plan,
and a resumed run needs only its step. The micro-batches do not depend on the number of ranks: two ranks see in one step what
one rank sees with twice the accumulation.

A micro-batch is a row of texts one after another, without padding. Positions count from 0 in each text, and attention stays
within a text (`attention.py`), so an example is computed as if it were alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor

from stj.randomness import uniform
from stj.train.data import ExampleTokens
from stj.train_config import TrainConfig

_WINDOW = 16  # Packs this many micro-batches' worth of examples together; a whole epoch at once would be sorted by length.
_FULL = 0.97  # A row below this share of the budget is broken up, and its examples wait for the next window.


@dataclass(frozen=True, kw_only=True)
class PackedStep:
    """The examples of one update of the weights."""

    epoch: int
    micro_batches: tuple[tuple[int, ...], ...]
    """Indices of examples, in accumulation x ranks micro-batches; the last ones may be empty."""

    @property
    def examples(self) -> list[int]:
        """Indices of all examples of the step."""
        return [index for batch in self.micro_batches for index in batch]

    def of_rank(self, rank: int, world_size: int) -> tuple[tuple[int, ...], ...]:
        """The micro-batches of one rank, in the order in which it accumulates their gradients."""
        return self.micro_batches[rank::world_size]


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """The texts of a micro-batch in one row of T tokens, of which S are learned."""

    inputs: Tensor
    """Token ids (1, T)."""
    positions: Tensor
    """Place of each token in its own text (1, T)."""
    lengths: tuple[int, ...]
    """Tokens of each text, T together."""
    counts: tuple[int, ...]
    """Learned tokens of each text, S together."""
    learned: Tensor
    """Places in the row (S,) whose next token is learned."""
    targets: Tensor
    """Those next tokens (S,)."""

    def on(self, device: torch.device) -> dict[str, Any]:
        """The arguments of the model's forward, on a device."""
        fields = {name: value for name, value in vars(self).items() if name != "counts"}
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in fields.items()}


def plan_packing(
    ids: Sequence[str],
    lengths: Sequence[int],
    config: TrainConfig,
    world_size: int,
    difficulties: Sequence[float | None] | None = None,
) -> list[PackedStep]:
    """All steps of a run, over its epochs; each example is in one step of an epoch.

    An epoch's micro-batches are spread evenly over its steps, so that no update rests on a few left-over examples.
    """
    per_step = world_size * config.gradient_accumulation
    steps: list[PackedStep] = []
    for epoch in range(config.max_epochs):
        batches = micro_batches(ids, lengths, config.max_num_tokens, config.seed, epoch, difficulties)
        count = -(-len(batches) // per_step)
        bounds = [len(batches) * step // count for step in range(count + 1)]
        for start, end in pairwise(bounds):
            filled = [*batches[start:end], *[()] * (per_step - (end - start))]
            steps.append(PackedStep(epoch=epoch, micro_batches=tuple(filled)))
    return steps[: config.max_steps]


def micro_batches(
    ids: Sequence[str],
    lengths: Sequence[int],
    max_num_tokens: int,
    seed: int,
    epoch: int,
    difficulties: Sequence[float | None] | None = None,
) -> list[tuple[int, ...]]:
    """One epoch's examples in random order, packed into rows of at most `max_num_tokens` tokens.

    With difficulties from 0 to 1 the easy ones come first, in random order among equals; an example without one takes a random
    place. Examples near each other in the order are packed together. A row that is not full is broken up again, and its
    examples join the next window.
    """

    def place(index: int) -> tuple[float, float]:
        drawn = uniform(seed, ids[index], f"order of epoch {epoch}")
        difficulty = difficulties[index] if difficulties else 0.0
        return (drawn if difficulty is None else difficulty), drawn

    order = sorted(range(len(ids)), key=place)
    rows: list[tuple[int, ...]] = []
    waiting: list[int] = []
    for window in _windows(order, lengths, _WINDOW * max_num_tokens):
        packed = fill_rows([*waiting, *window], lengths, max_num_tokens)
        full = [row for row in packed if sum(lengths[index] for index in row) >= _FULL * max_num_tokens]
        taken = set(chain.from_iterable(full))
        waiting = [index for index in [*waiting, *window] if index not in taken]
        rows += _shuffled(full, ids, seed, epoch)
    return rows + _shuffled(fill_rows(waiting, lengths, max_num_tokens), ids, seed, epoch)


def fill_rows(indices: Sequence[int], lengths: Sequence[int], room: int) -> list[tuple[int, ...]]:
    """Rows of at most `room` tokens: the longest remaining example, and those that fill the row best with it."""
    left = sorted(indices, key=lambda index: -lengths[index])  # stable sort: equals stay in random order
    rows = []
    while left:
        row = [left[0], *_fullest(left[1:], lengths, room - lengths[left[0]])]
        rows.append(tuple(row))
        taken = set(row)
        left = [index for index in left if index not in taken]
    return rows


def _fullest(indices: Sequence[int], lengths: Sequence[int], room: int) -> list[int]:
    """The examples whose lengths add up to the most that fits: a subset sum, with the possible sums as bits of a number."""
    within = (1 << (room + 1)) - 1
    sums = [1]  # bit k of entry i: the first i examples can make a sum of k
    for index in indices:
        sums.append((sums[-1] | sums[-1] << lengths[index]) & within)
    wanted, chosen = sums[-1].bit_length() - 1, []
    for index, without in zip(reversed(indices), reversed(sums[:-1]), strict=True):
        if not without >> wanted & 1:
            chosen.append(index)
            wanted -= lengths[index]
    return chosen


def pack(batch: Sequence[ExampleTokens]) -> PackedRow:
    """The texts of a micro-batch in one row."""
    texts = [(torch.from_numpy(text).long(), tokens.prompt_length) for tokens in batch for text in tokens.texts]
    learned, start = [], 0
    for ids, prompt_length in texts:
        learned.append(torch.arange(start + prompt_length - 1, start + len(ids) - 1))
        start += len(ids)
    return PackedRow(
        inputs=torch.cat([ids for ids, _ in texts]).unsqueeze(0),
        positions=torch.cat([torch.arange(len(ids)) for ids, _ in texts]).unsqueeze(0),
        lengths=tuple(len(ids) for ids, _ in texts),
        counts=tuple(len(ids) - prompt_length for ids, prompt_length in texts),
        learned=torch.cat(learned),
        targets=torch.cat([ids[prompt_length:] for ids, prompt_length in texts]),
    )


def _windows(order: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Consecutive examples, about `budget` tokens at a time."""
    window: list[int] = []
    tokens = 0
    for index in order:
        window.append(index)
        tokens += lengths[index]
        if tokens >= budget:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def _shuffled(rows: Sequence[tuple[int, ...]], ids: Sequence[str], seed: int, epoch: int) -> list[tuple[int, ...]]:
    """Rows in random order: in the order of packing, the longest examples would come first."""
    return sorted(rows, key=lambda row: uniform(seed, ids[row[0]], f"place in epoch {epoch}"))
