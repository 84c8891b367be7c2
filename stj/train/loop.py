"""The training loop, as one rank runs it: load, resume, step, checkpoint, export. Ranks meet in collectives and on disk."""

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from stj.config import ModelConfig
from stj.errors import StjError
from stj.models.digests import refuse_other_weights
from stj.models.fetch import held_model, local_model
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, explain_write_failure, workspace
from stj.train.checkpoint import restore
from stj.train.checkpoint_writer import CheckpointWriter
from stj.train.committed import Checkpoint
from stj.train.data import ExampleTokens, read_tokens
from stj.train.export import export_adapter, export_model
from stj.train.flops import mfu_meter
from stj.train.job import CHECKPOINTS, METRICS, REFERENCE, TrainingJob, TrainResult
from stj.train.metrics import StepMetrics, read_metrics, step_line
from stj.train.model import load_engine
from stj.train.notice import NoticeHandler, PollNotice, RankAction, stopped
from stj.train.packing import PackedStep, plan_packing
from stj.train.progress import EXPORTING, TAKING_STEPS, write_progress
from stj.train.ranks import on_each_rank, rank_here
from stj.train.reference import reference_logps, tokenizer_identity
from stj.train.room import make_room_everywhere
from stj.train.schedule import warmup_steps
from stj.train.step import StepInputs, train_step
from stj.train.trackers import keep_files, tracked

log = logging.getLogger(__name__)

_LINES = 20  # A rank's own log gets about this many step lines a run.
_UPLOAD_S = 20.0  # Seconds between two uploads of metrics.jsonl: each takes some 100 ms, less than 1% of the time.

OnStep = Callable[[StepMetrics, int], None]
"""Receives each step's metrics and the step of the last checkpoint (0 if there is none), on rank 0."""


def _no_notice() -> None:
    """The notices of an undisturbed training: none."""


def run_rank(job: TrainingJob, poll_notice: PollNotice = _no_notice, on_step: OnStep | None = None) -> TrainResult:
    """Trains one rank's part of the model and exports it.

    Before each step rank 0 calls `poll_notice`, and all ranks do what follows from the notice.

    Raises TrainingFailed, on all ranks at once, if there is nothing to train on or the loss is not finite. Raises Stopped, on
    all ranks at the same step, if the notice ends the training.
    """
    _quiet()
    config, world_size = job.config, dist.get_world_size()
    _show(job, "loading the model")
    directory = _fetched_everywhere(job.seed_model, job.weights)
    # For the export: the copy with weights may leave the cache while this trains.
    beside = _fetched_everywhere(job.seed_model)
    tokens, dropped = read_tokens(job, directory)
    ids, lengths, difficulties = zip(*((row.id, row.length, row.difficulty) for row in tokens), strict=True)
    steps = plan_packing(ids, lengths, config, world_size, difficulties)
    _log_start(job, len(tokens), dropped, len(steps))
    make_room_everywhere(job, len(steps[: job.until]))
    engine = load_engine(directory, config)
    reference, forwards = _reference(engine, tokens, job, directory)
    torch.manual_seed(config.seed + dist.get_rank())  # dropout, in adapters and in models that have it
    inputs = StepInputs(tokens, reference, config, mfu_meter(engine.module.language_model))
    losses = _learn(engine, inputs, steps, job, poll_notice, on_step)
    done = steps[: job.until]
    _show(job, EXPORTING, len(steps))
    files = _export(engine.module.language_model, job, beside)
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


def _export(model: PreTrainedModel, job: TrainingJob, beside: Path) -> dict[str, FileDigest]:
    """Writes the model of the job: whole, or its adapters alone. Returns the digests of its files, on rank 0."""
    target, lora = Folder.at(job.model), job.config.lora
    if lora and lora.export == "adapter":
        return export_adapter(model, job.seed_model, beside, target)
    return export_model(model, beside, target, job.config.shard_gb, job.seed_model.chat_options)


def _fetched_everywhere(model: ModelConfig, identity: str = "") -> Path:
    """The model's directory on this machine, with the weights of this identity, or else without weights.

    If one rank's copy is not whole, all ranks raise its error.
    """
    deepspeed.get_accelerator().set_device(rank_here())  # NCCL uses the current GPU: each rank sets its own
    directories = on_each_rank(lambda: _held(model, identity) if identity else local_model(model, weights=False))
    return directories[dist.get_rank()]


def _held(model: ModelConfig, identity: str) -> Path:
    directory = held_model(model)
    refuse_other_weights(model, identity)
    return directory


def _reference(
    engine: deepspeed.DeepSpeedEngine, tokens: Sequence[ExampleTokens], job: TrainingJob, directory: Path
) -> tuple[Tensor | None, int]:
    """The log-probabilities that a preference loss compares with, and how many were computed; None for `sft`.

    They are computed before the weights become those of a checkpoint.
    """
    if job.config.objective == "sft":
        return None, 0
    _show(job, "computing the reference")
    identity = f"{job.weights} {tokenizer_identity(directory)}"
    return reference_logps(engine, tokens, job.config, Folder.at(job.folder) / REFERENCE, identity)


def _learn(
    engine: deepspeed.DeepSpeedEngine,
    inputs: StepInputs,
    steps: Sequence[PackedStep],
    job: TrainingJob,
    poll_notice: PollNotice,
    on_step: OnStep | None,
) -> list[float]:
    """Runs the steps that are not done yet, with regular checkpoints. Returns the loss of each step, on rank 0."""
    folder, every = Folder.at(job.folder), job.config.checkpoint_every_steps
    checkpoints, until, handler = folder / CHECKPOINTS, len(steps[: job.until]), NoticeHandler(poll_notice)
    last = restore(engine, checkpoints, job.fingerprint, until)
    done = last.step if last else 0
    with (
        workspace(folder) as directory,
        tracked(job, directory, done) as track,
        CheckpointWriter(engine, checkpoints, last) as writer,
    ):
        metrics = _MetricsFile(directory, folder, done)

        def save(done: int) -> None:
            metrics.keep()
            writer.save(_position(job, steps, done))

        shown = last
        _show(job, TAKING_STEPS, len(steps), last.step if last else 0)
        started = time.monotonic()
        for number in range(done, until):
            writer.look()
            if writer.last and writer.last is not shown:
                shown = writer.last
                _show(job, TAKING_STEPS, len(steps), shown.step)
            action = _of_rank_0(handler.next_action, number, writer)
            if action.save:
                save(number)
            if action.save or action.end:
                writer.finish()
            if action.end:
                raise stopped(number, len(steps), writer.last)
            step = train_step(engine, inputs, steps[number], number, len(steps))
            metrics.add(step)
            pace = (time.monotonic() - started) / (number + 1 - done)
            _log_step(step, len(steps), eta_s=pace * (len(steps) - number - 1))
            track(step)
            if on_step is not None and dist.get_rank() == 0:
                on_step(step, writer.last.step if writer.last else 0)
            if (number + 1) % every == 0 and number + 1 < len(steps):
                save(number + 1)
        writer.finish()
        metrics.keep()
        return metrics.losses()


def _of_rank_0(next_action: Callable[..., RankAction], done: int, writer: CheckpointWriter) -> RankAction:
    """What rank 0 has decided, on every rank."""
    decided = [next_action(done, writer.last, writing=writer.writing) if dist.get_rank() == 0 else RankAction()]
    dist.broadcast_object_list(decided)
    return decided[0]


def _position(job: TrainingJob, steps: Sequence[PackedStep], done: int) -> Checkpoint:
    return Checkpoint(
        fingerprint=job.fingerprint,
        step=done,
        epoch=steps[done].epoch,
        samples=sum(len(step.examples) for step in steps[:done]),
        world_size=dist.get_world_size(),
        files={},
    )


def _show(job: TrainingJob, activity: str, steps: int = 0, checkpoint: int = 0) -> None:
    """Lets the driver show what the ranks do now, of how many steps, and from which step they would resume."""
    if dist.get_rank() == 0:
        write_progress(Folder.at(job.folder), activity, steps, checkpoint)


def _log_start(job: TrainingJob, examples: int, dropped: dict[str, int], steps: int) -> None:
    if dist.get_rank() != 0:
        return
    left_out = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    log.info("%d examples (dropped: %s), %d steps", examples, left_out or "none", steps)
    warmup = warmup_steps(steps, job.config)
    if warmup < job.config.warmup_steps:
        log.warning("train.warmup_steps=%d does not fit in %d steps: warming up for %d", job.config.warmup_steps, steps, warmup)


def _log_step(metrics: StepMetrics, total: int, eta_s: float) -> None:
    if dist.get_rank() == 0 and (metrics.step % max(1, total // _LINES) == 0 or metrics.step == total):
        log.info("%s", step_line(metrics, total, eta_s))


class _MetricsFile:
    """metrics.jsonl, as rank 0 writes it; on the other ranks nothing.

    It grows in the working directory. If the run is in an object store, that directory is on a scratch disk. Then the file is
    uploaded at each checkpoint, for a restart, and every 20 s, so that the driver can show it.
    """

    def __init__(self, directory: Path, folder: Folder, done: int) -> None:
        """Begins with the steps that are done; steps that a kill undid are left out."""
        self._folder = folder
        self._path = directory / METRICS
        self._writes = dist.get_rank() == 0
        if not self._writes:
            return
        before = folder.read(METRICS).decode(errors="replace") if folder.exists(METRICS) else ""
        lines = [_json_line(step) for step in read_metrics(before) if step.step <= done]
        Folder.at(directory).write(METRICS, "".join(lines).encode())
        self._upload()
        if done:
            log.info("resuming after step %d", done)

    def add(self, step: StepMetrics) -> None:
        """Appends a step, and uploads the file for the driver if that is due."""
        if self._writes:
            with explain_write_failure(str(self._path.parent)), self._path.open("a", encoding="utf-8") as file:
                file.write(_json_line(step))
            if time.monotonic() - self._uploaded_at > _UPLOAD_S:
                self._upload()

    def keep(self) -> None:
        """Uploads the file, and what trackers wrote, for a restart."""
        if self._writes:
            self._folder.upload(self._path)
            keep_files(self._path.parent, self._folder)

    def losses(self) -> list[float]:
        """The loss of each step."""
        return [step.loss for step in read_metrics(self._path.read_text(encoding="utf-8"))] if self._writes else [math.nan]

    def _upload(self) -> None:
        """Uploads the file for the driver; an unreachable store is no reason to lose a training."""
        self._uploaded_at = time.monotonic()
        with suppress(StjError, OSError):
            self._folder.upload(self._path)


def _json_line(step: StepMetrics) -> str:
    return json.dumps(asdict(step)) + "\n"


def _quiet() -> None:
    """Our log to stderr at INFO, without library messages that repeat at each step or start and that nobody can act on."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("stj").setLevel(logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # we warn once of a tracker that does not answer
    warnings.simplefilter("ignore", FutureWarning)
    warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # the reference has no gradients
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
