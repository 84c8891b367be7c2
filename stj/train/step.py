"""One update of the weights: forward and backward of a rank's micro-batches, and a look at the loss before it counts."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import deepspeed
import torch.distributed as dist
from torch import Tensor

from stj.config import TrainConfig
from stj.errors import TrainingFailed
from stj.train.data import ExampleTokens, nothing_to_learn
from stj.train.flops import MfuMeter
from stj.train.losses import Totals, margins, preference, sft
from stj.train.packing import Step, pack
from stj.train.schedule import learning_rate


@dataclass(frozen=True)
class Material:
    """What steps are made from."""

    tokens: Sequence[ExampleTokens]
    reference: Tensor | None
    """Log-probabilities (examples, 2) of right and wrong judgments, where pairs are learned from."""
    config: TrainConfig
    meter: MfuMeter | None = None
    """None where the device's peak is not known."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """A line of metrics.jsonl: one step, over all ranks."""

    step: int
    epoch: int
    loss: float
    """In nats; of `sft`, the mean over the step's supervised tokens."""
    preferred: float | None
    """Share of the step's pairs whose right judgment has gained more than the wrong one; None for `sft`."""
    lr: float
    grad_norm: float
    tokens_per_s: float
    """Tokens of examples, of all ranks together."""
    mfu: float | None = None
    """Share of the devices' peak (stj/train/flops.py); None where that is not known."""


@dataclass(frozen=True)
class _Part:
    """What one rank, or one of its micro-batches, has of a step."""

    loss: float
    preferred: int
    bad: list[str]
    """Ids of the examples whose loss is not finite."""


def train_step(engine: deepspeed.DeepSpeedEngine, material: Material, step: Step, number: int, total: int) -> Metrics:
    """One update, and its metrics.

    Raises TrainingFailed, on every rank, where a loss or the gradient is not finite: the weights stay as they are.
    """
    started = time.monotonic()
    examples = [material.tokens[index] for index in step.examples]
    totals = Totals.of(examples)
    lr = learning_rate(number, total, material.config)
    for group in engine.optimizer.param_groups:
        group["lr"] = lr
    batches = step.of_rank(dist.get_rank(), dist.get_world_size())
    parts: list[_Part] = []
    for batch in batches:
        parts.append(_forward_backward(engine, material, batch, totals))
        if len(parts) == len(batches):  # the next line makes the update
            whole = _of_all_ranks(parts, number)
        engine.step()
    grad_norm = _gradient_norm(engine, examples, number, lr)
    seconds = time.monotonic() - started
    return Metrics(
        step=number + 1,
        epoch=step.epoch,
        loss=whole.loss,
        preferred=None if material.reference is None else whole.preferred / len(examples),
        lr=lr,
        grad_norm=grad_norm,
        tokens_per_s=round(sum(example.length for example in examples) / seconds, 1),
        mfu=None if material.meter is None else round(material.meter.mfu(examples, seconds), 4),
    )


def _forward_backward(engine: deepspeed.DeepSpeedEngine, material: Material, batch: Sequence[int], totals: Totals) -> _Part:
    """Adds the gradients of a micro-batch's share of the loss."""
    packed = pack([material.tokens[index] for index in batch] or [nothing_to_learn(material.tokens)])
    logps = engine(**packed.on(engine.device))  # (S,)
    preferred = 0
    if not batch:
        share = logps.sum()  # of no tokens: zero, with zero gradients
    elif material.reference is None:
        share = sft(logps, totals)
    else:
        reference = material.reference[list(batch)].to(engine.device)
        share = preference(logps, packed.counts, reference, material.config, totals)
        preferred = int((margins(logps.detach(), packed.counts, reference, material.config) > 0).sum())
    # DeepSpeed adds up micro-batches and averages over ranks; the shares are to be added up over ranks too.
    engine.backward(share * dist.get_world_size(), scale_wrt_gas=False)
    loss = share.item()
    return _Part(loss, preferred, [] if math.isfinite(loss) else [material.tokens[index].id for index in batch])


def _of_all_ranks(parts: Sequence[_Part], number: int) -> _Part:
    """The step's loss. Raises TrainingFailed, on every rank, where any rank's is not finite."""
    everywhere: list[Sequence[_Part]] = [()] * dist.get_world_size()
    dist.all_gather_object(everywhere, parts)
    found = list(chain.from_iterable(everywhere))
    bad = [name for part in found for name in part.bad]
    if bad:
        raise TrainingFailed(
            f"step {number + 1}: the loss is not finite on examples {_named(bad)}; "
            "no update was made. Look at them with `stj show`, or lower train.lr"
        )
    return _Part(sum(part.loss for part in found), sum(part.preferred for part in found), [])


def _gradient_norm(engine: deepspeed.DeepSpeedEngine, examples: Sequence[ExampleTokens], number: int, lr: float) -> float:
    """Norm of the step's gradient. Raises TrainingFailed where it is not finite: DeepSpeed has made no update then."""
    norm = float(engine.get_global_grad_norm())
    if not math.isfinite(norm):
        raise TrainingFailed(
            f"step {number + 1}: the gradient is not finite on examples {_named([example.id for example in examples])}; "
            f"no update was made. Look at them with `stj show`, or lower train.lr (it was {lr:g})"
        )
    return norm


def _named(ids: Sequence[str]) -> str:
    """The first few ids, and how many more there are."""
    return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
