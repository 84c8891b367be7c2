"""Training as one call: ranks under Ray Train, which starts them again from the last checkpoint when one dies."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray._private.worker import get_dashboard_url
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from stj.artifacts import Artifact
from stj.config import ModelConfig, TrainConfig
from stj.errors import ModelError, StjError, TrainingFailed
from stj.models import model_identity
from stj.storage import workspace
from stj.train.job import CHECKPOINTS, Job, Outcome


class _Trainer(TorchTrainer):  # type: ignore[misc]  # ray has no types
    """Ray's trainer, interrupted as any Python program is, and without two helpers, each a process that imports for seconds.

    One shares out data sets: ranks read theirs by themselves. One frees placement groups when a controller has died: it asks
    the dashboard every second whether it has, and where there is none it only warns, every second.
    """

    def _create_default_callbacks(self) -> list[Any]:
        unwanted = (DatasetsCallback,) if get_dashboard_url() else (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unwanted)]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leaves Ctrl-C to Python: Ray's handler would end the process with code 0. Ray's ranks end with their driver."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The beginning of a training, up to a checkpoint that becomes a model of its own."""

    whole: Artifact
    """The model of the whole training: checkpoints and metrics.jsonl are its own, and lie beside it."""
    until: int
    """Steps that are done then; the last part ends with the training."""


def train(config: TrainConfig, seed_model: ModelConfig, examples: Artifact, output: Artifact, part: Part | None = None) -> None:
    """Fine-tunes the seed model on the examples; the output artifact is the model, and is done when this returns.

    Ray must be running. Checkpoints and metrics.jsonl lie beside the output folder; a call after a kill goes on from them. So
    does the next part after a part, whose checkpoints stay: the parts together make the weights that one call makes.

    Raises TrainingFailed where no model came out; it or ModelError, before any rank starts, where none could.
    """
    if not output.begin():
        return
    started = time.monotonic()
    whole = part.whole if part else output
    job = Job(
        config=config,
        seed_model=seed_model,
        weights=model_identity(seed_model),
        fingerprint=whole.fingerprint,
        examples=examples.folder.uri,
        model=output.folder.uri,
        folder=whole.folder.parent.uri,
        until=part.until if part else None,
    )
    from stj.train.check import check  # transformers and torch take seconds, and a model that is done needs neither

    check(job)
    checkpoints = whole.folder.parent / CHECKPOINTS
    with workspace(checkpoints) as directory:
        outcome = _fit(job, directory)
    model = {"path": output.folder.uri, "seed": seed_model.path}
    output.finish(model=model, **asdict(outcome), seconds=round(time.monotonic() - started, 1))
    if part is None:
        checkpoints.remove()


def _fit(job: Job, directory: Path) -> Outcome:
    """Runs the ranks. The directory is Ray's: checkpoints being ours, its controller alone writes there, an empty marker."""
    config = job.config
    gpu = config.device == "gpu"
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    if not get_dashboard_url():  # Ray started here for this run alone: no spot machine to be warned of
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    trainer = _Trainer(
        _rank,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if gpu else {})},
        ),
        run_config=RunConfig(
            name="ray_train",
            storage_path=str(directory),
            failure_config=FailureConfig(max_failures=config.max_failures),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        told = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        raise TrainingFailed(f"training of {job.model} failed: {_cause(error)}") from None
    if isinstance(told, StjError):
        raise told
    assert isinstance(told, Outcome)
    return told


def _rank(settings: dict[str, Job]) -> Outcome | StjError:
    """What Ray Train runs as each rank.

    An expected error comes back as a value: all ranks have it, and Ray would only start them again to meet it again.
    """
    job = settings["job"]
    if job.config.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported, so the import stands below
    import torch

    from stj.train.gauges import gauges
    from stj.train.loop import run_rank

    torch.set_num_threads(max(1, int(job.config.cpus_per_worker)))
    try:
        return run_rank(job, gauges(job.folder))
    except (TrainingFailed, ModelError) as error:
        return error


def _cause(error: ray.train.TrainingFailedError) -> str:
    """One line for why the ranks ended: an error of our own before a broken connection, which only follows from one."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    first = min(failures, key=lambda failure: (not isinstance(failure, StjError), "onnection" in str(failure)))
    lines = str(first).strip().splitlines() or [type(first).__name__]
    return lines[-1].strip()
