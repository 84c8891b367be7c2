"""One update of the weights: forward and backward of a rank's micro-batches, and a check of the loss before the update."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import deepspeed
import torch.distributed as dist
from torch import Tensor

from stj.errors import TrainingFailed
from stj.train.data import ExampleTokens, nothing_to_learn
from stj.train.flops import MfuMeter
from stj.train.host import updating
from stj.train.losses import StepTotals, margins, preference, sft
from stj.train.metrics import StepMetrics
from stj.train.packing import PackedStep, pack
from stj.train.ranks import gathered
from stj.train.schedule import learning_rate
from stj.train_config import TrainConfig


@dataclass(frozen=True)
class StepInputs:
    """What every step needs."""

    tokens: Sequence[ExampleTokens]
    reference: Tensor | None
    """Log-probabilities (examples, 2) of right and wrong judgments; None for `sft`."""
    config: TrainConfig
    meter: MfuMeter | None = None
    """None if the device's peak is not known."""


@dataclass(frozen=True)
class _LossShare:
    """The share of a step's loss that a micro-batch has."""

    loss: float
    preferred: int
    bad: list[str]
    """Ids of the examples whose loss is not finite."""


def train_step(engine: deepspeed.DeepSpeedEngine, inputs: StepInputs, step: PackedStep, number: int, total: int) -> StepMetrics:
    """Makes one update and returns its metrics; `number` counts from 0.

    Raises TrainingFailed, on every rank, if a loss or the gradient is not finite: the weights stay as they are.
    """
    started = time.monotonic()
    examples = [inputs.tokens[index] for index in step.examples]
    totals = StepTotals.of(examples)
    lr = learning_rate(number, total, inputs.config)
    for group in engine.optimizer.param_groups:
        group["lr"] = lr
    batches = step.of_rank(dist.get_rank(), dist.get_world_size())
    shares: list[_LossShare] = []
    for batch in batches:
        shares.append(_forward_backward(engine, inputs, batch, totals))
        if len(shares) == len(batches):  # the next line makes the update
            whole = _of_all_ranks(shares, number)
        with updating(inputs.config):
            engine.step()
    grad_norm = _gradient_norm(engine, examples, number, lr)
    seconds = time.monotonic() - started
    return StepMetrics(
        step=number + 1,
        epoch=step.epoch,
        loss=whole.loss,
        preferred=None if inputs.reference is None else whole.preferred / len(examples),
        lr=lr,
        grad_norm=grad_norm,
        tokens_per_s=round(sum(example.length for example in examples) / seconds, 1),
        mfu=None if inputs.meter is None else round(inputs.meter.mfu(examples, seconds), 4),
    )


def _forward_backward(
    engine: deepspeed.DeepSpeedEngine, inputs: StepInputs, batch: Sequence[int], totals: StepTotals
) -> _LossShare:
    """Adds the gradients of a micro-batch's share of the loss."""
    packed = pack([inputs.tokens[index] for index in batch] or [nothing_to_learn(inputs.tokens)])
    logps = engine(**packed.on(engine.device))  # (S,)
    preferred = 0
    if not batch:
        share = logps.sum()  # The loss of no tokens: zero, with zero gradients.
    elif inputs.reference is None:
        share = sft(logps, totals)
    else:
        reference = inputs.reference[list(batch)].to(engine.device)
        share = preference(logps, packed.counts, reference, inputs.config, totals)
        preferred = int((margins(logps.detach(), packed.counts, reference, inputs.config) > 0).sum())
    # DeepSpeed sums over micro-batches and averages over ranks; the shares must be summed over ranks too.
    engine.backward(share * dist.get_world_size(), scale_wrt_gas=False)
    loss = share.item()
    return _LossShare(loss, preferred, [] if math.isfinite(loss) else [inputs.tokens[index].id for index in batch])


def _of_all_ranks(shares: Sequence[_LossShare], number: int) -> _LossShare:
    """The step's loss. Raises TrainingFailed, on every rank, if the loss of any rank is not finite."""
    everywhere = list(chain.from_iterable(gathered(shares)))
    bad = [name for share in everywhere for name in share.bad]
    if bad:
        raise TrainingFailed(
            f"step {number + 1}: the loss is not finite on examples {_named(bad)}; "
            "no update was made. Look at them with `stj show`, or lower train.lr"
        )
    return _LossShare(sum(share.loss for share in everywhere), sum(share.preferred for share in everywhere), [])


def _gradient_norm(engine: deepspeed.DeepSpeedEngine, examples: Sequence[ExampleTokens], number: int, lr: float) -> float:
    """Norm of the step's gradient. Raises TrainingFailed if it is not finite: then DeepSpeed has made no update."""
    norm = float(engine.get_global_grad_norm())
    if not math.isfinite(norm):
        raise TrainingFailed(
            f"step {number + 1}: the gradient is not finite on examples {_named([example.id for example in examples])}; "
            f"no update was made. Look at them with `stj show`, or lower train.lr (it was {lr:g})"
        )
    return norm


def _named(ids: Sequence[str]) -> str:
    """The first eight ids, and the number of the others."""
    return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
