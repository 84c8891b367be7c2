"""The training loop, as one rank runs it: load, resume, step, checkpoint, export. Ranks meet in collectives and on disk."""

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor

from stj.config import ModelConfig
from stj.errors import StjError
from stj.models.locate import local_model
from stj.storage.folder import Folder, workspace
from stj.text import duration
from stj.train import checkpoint
from stj.train.committed import Checkpoint
from stj.train.data import ExampleTokens, read_tokens
from stj.train.export import export
from stj.train.flops import meter_of
from stj.train.job import CHECKPOINTS, METRICS, REFERENCE, Job, TrainResult
from stj.train.model import load_engine
from stj.train.notice import Notice, Order, Watch, stopped
from stj.train.packing import Step, plan_packing
from stj.train.reference import reference_logps, tokenizer_identity
from stj.train.schedule import warmup_steps
from stj.train.step import Material, Metrics, train_step
from stj.train.trackers import keep_files, tracked

log = logging.getLogger(__name__)

_LINES = 20  # progress lines of a run, about


def run_rank(
    job: Job, told: Callable[[], Notice | None] = lambda: None, tell: Callable[[Metrics], None] | None = None
) -> TrainResult:
    """Trains one rank's part of the model and exports it. On rank 0 `tell` is told of each step.

    Before each step rank 0 asks `told` for a notice, and what follows from it is done by all ranks.

    Raises TrainingFailed, on all ranks at once, where nothing can be trained on or the loss is not finite; Stopped, on all
    ranks at the same step, where the notice says so.
    """
    _quiet()
    config, world_size = job.config, dist.get_world_size()
    directory = _fetched_everywhere(job.seed_model)
    beside = _fetched_everywhere(job.seed_model, weights=False)  # for the export: the weights' copy may go while this trains
    tokens, dropped = read_tokens(job, directory)
    steps = plan_packing([row.id for row in tokens], [row.length for row in tokens], config, world_size)
    _tell_start(job, len(tokens), dropped, len(steps))
    engine = load_engine(directory, config)
    reference, forwards = _reference(engine, tokens, job, directory)
    torch.manual_seed(config.seed + dist.get_rank())  # dropout, in models that have it
    material = Material(tokens, reference, config, meter_of(engine.module.language_model))
    losses = _learn(engine, material, steps, job, told, tell)
    done = steps[: job.until]
    files = export(engine.module.language_model, beside, Folder.at(job.model), config.shard_gb)
    return TrainResult(
        examples=len(tokens),
        dropped=dropped,
        steps=len(done),
        planned_steps=len(steps),
        epochs=done[-1].epoch + 1,
        supervised_tokens=sum(sum(tokens[index].counts) for step in done for index in step.examples),
        reference_forwards=forwards,
        loss_first=losses[0],
        loss_last=losses[-1],
        files=files,
    )


def _fetched_everywhere(model: ModelConfig, *, weights: bool = True) -> Path:
    """The model's directory on this machine; where one rank's copy is not whole, its error on all of them."""
    directory, refused = Path(), None
    try:
        directory = local_model(model, weights=weights)
    except StjError as error:
        refused = error
    refusals: list[StjError | None] = [None] * dist.get_world_size()
    deepspeed.get_accelerator().set_device(int(os.environ["LOCAL_RANK"]))  # NCCL talks over the current GPU: each its own
    dist.all_gather_object(refusals, refused)
    for other in filter(None, refusals):
        raise other
    return directory


def _reference(
    engine: deepspeed.DeepSpeedEngine, tokens: Sequence[ExampleTokens], job: Job, directory: Path
) -> tuple[Tensor | None, int]:
    """What preference losses compare with, asked before the weights are those of a checkpoint; None where none is needed."""
    if job.config.objective == "sft":
        return None, 0
    identity = f"{job.weights} {tokenizer_identity(directory)}"
    return reference_logps(engine, tokens, job.config, Folder.at(job.folder) / REFERENCE, identity)


def _learn(
    engine: deepspeed.DeepSpeedEngine,
    material: Material,
    steps: Sequence[Step],
    job: Job,
    told: Callable[[], Notice | None],
    tell: Callable[[Metrics], None] | None,
) -> list[float]:
    """The steps that are wanted and not done yet, with a checkpoint now and then; the loss of each step, on rank 0."""
    folder, every = Folder.at(job.folder), job.config.checkpoint_every_steps
    checkpoints, until, watch = folder / CHECKPOINTS, len(steps[: job.until]), Watch(told)
    last = checkpoint.restore(engine, checkpoints, job.fingerprint, until)
    done = last.step if last else 0
    with workspace(folder) as directory, tracked(job, directory, done) as track:
        metrics = directory / METRICS
        _take_up_metrics(folder, metrics, done)
        started = time.monotonic()
        for number in range(done, until):
            order = _of_rank_0(watch.order, number, last)
            if order.save:
                _keep(metrics, folder)
                last = checkpoint.save(engine, checkpoints, _position(job, steps, number))
            if order.end:
                raise stopped(number, len(steps), last)
            line = train_step(engine, material, steps[number], number, len(steps))
            pace = (time.monotonic() - started) / (number + 1 - done)
            _record(line, metrics, len(steps), eta_s=pace * (len(steps) - number - 1))
            track(line)
            if tell is not None and dist.get_rank() == 0:
                tell(line)
            if (number + 1) % every == 0 and number + 1 < len(steps):
                _keep(metrics, folder)
                last = checkpoint.save(engine, checkpoints, _position(job, steps, number + 1))
        _keep(metrics, folder)
        return [line["loss"] for line in _lines(metrics.read_text(encoding="utf-8"))] if dist.get_rank() == 0 else [math.nan]


def _of_rank_0(order: Callable[[int, Checkpoint | None], Order], done: int, last: Checkpoint | None) -> Order:
    """What rank 0 has decided, on every rank."""
    word = [order(done, last) if dist.get_rank() == 0 else Order()]
    dist.broadcast_object_list(word)
    return word[0]


def _position(job: Job, steps: Sequence[Step], done: int) -> Checkpoint:
    return Checkpoint(
        fingerprint=job.fingerprint,
        step=done,
        epoch=steps[done].epoch,
        samples=sum(len(step.examples) for step in steps[:done]),
        world_size=dist.get_world_size(),
        files={},
    )


def _tell_start(job: Job, examples: int, dropped: dict[str, int], steps: int) -> None:
    if dist.get_rank() != 0:
        return
    left_out = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    log.info("%d examples (dropped: %s), %d steps", examples, left_out or "none", steps)
    warmup = warmup_steps(steps, job.config)
    if warmup < job.config.warmup_steps:
        log.warning("train.warmup_steps=%d does not fit in %d steps: warming up for %d", job.config.warmup_steps, steps, warmup)


def _take_up_metrics(folder: Folder, metrics: Path, done: int) -> None:
    """Begins the file of metrics with the steps that are done; those that were undone by a kill are not in it."""
    if dist.get_rank() != 0:
        return
    before = folder.read(METRICS).decode() if folder.exists(METRICS) else ""
    kept = [line for line in _lines(before) if line["step"] <= done]
    Folder.at(metrics.parent).write(METRICS, "".join(json.dumps(line) + "\n" for line in kept).encode())
    if done:
        log.info("going on after step %d", done)


def _keep(metrics: Path, folder: Folder) -> None:
    """Brings the file of metrics, and what trackers wrote, to where a restart finds it."""
    if dist.get_rank() == 0:
        folder.upload(metrics)
        keep_files(metrics.parent, folder)


def _record(metrics: Metrics, path: Path, total: int, eta_s: float) -> None:
    if dist.get_rank() != 0:
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(metrics)) + "\n")
    if metrics.step % max(1, total // _LINES) == 0 or metrics.step == total:
        log.info("%s", step_line(metrics, total, eta_s))


def step_line(metrics: Metrics, total: int, eta_s: float) -> str:
    """One step for a reader; `eta_s` are the seconds to the last step, at the pace so far."""
    preferred = "" if metrics.preferred is None else f" | preferred {metrics.preferred:.0%}"
    mfu = "" if metrics.mfu is None else f" | mfu {metrics.mfu:.0%}"
    return (
        f"step {metrics.step}/{total} | loss {metrics.loss:.3f}{preferred} | grad_norm {metrics.grad_norm:.2f} "
        f"| lr {metrics.lr:.1e} | {metrics.tokens_per_s:,.0f} tok/s{mfu} | eta {duration(eta_s)}"
    )


def _lines(text: str) -> list[dict[str, float]]:
    whole = text.rpartition("\n")[0]  # a kill can tear the last line
    return [json.loads(line) for line in whole.splitlines()]


def _quiet() -> None:
    """Our log to stderr at INFO; what libraries say at each step or start, and nobody can act on, not at all."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("stj").setLevel(logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a tracker that does not answer is told of once, not at each try
    warnings.simplefilter("ignore", FutureWarning)
    warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # the reference is asked without gradients
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
