"""Training as one call: ranks under Ray Train, which starts them again from the last checkpoint when one dies."""

import math
import os
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray._private.worker import get_dashboard_url
from ray.exceptions import RayActorError
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import WORKER_GROUP_START_TIMEOUT_S_ENV_VAR
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RunningState

from stj.config import ModelConfig, RayConfig, TrainConfig
from stj.errors import CapacityError, ModelError, StjError, Stopped, TrainingFailed
from stj.models.locate import model_identity
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder, workspace
from stj.train.job import CHECKPOINTS, Job, TrainResult
from stj.train.notice import Notice, asked_to_stop, asking_to_stop, stop_notice

_LOOK_S = 60.0  # Ray looks so long for machines, and then again


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


class _Starts(ControllerCallback):  # type: ignore[misc]
    """Bounds what Ray tries without end: to find machines for the ranks, and to start ranks that die while they start."""

    def __init__(self, config: TrainConfig, cluster: RayConfig) -> None:
        self._config = config
        self._cluster = cluster
        self._since: float | None = None
        self._failed = 0

    def on_controller_start_worker_group(self, *, scaling_config: ScalingConfig, num_workers: int) -> None:
        """Has Ray look for machines no longer than the deadline; this is called in a process of the controller alone."""
        self._since = self._since or time.monotonic()
        left = self._cluster.capacity_deadline_s - (time.monotonic() - self._since)
        os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] = str(min(_LOOK_S, max(1.0, left)))

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Raises CapacityError when the deadline is over, TrainingFailed when too many starts have failed."""
        if isinstance(current_state, RunningState):
            self._since, self._failed = None, 0
        if not isinstance(current_state, ReschedulingState):
            return
        error = current_state.training_failed_error
        reason = getattr(error, "controller_failure", error)
        if isinstance(reason, WorkerGroupStartupTimeoutError):
            self._check_deadline()
            return
        self._since = None  # there was room
        self._failed += 1
        if self._failed > self._config.max_failures:
            raise TrainingFailed(
                f"the ranks did not start, {self._failed} times in a row (train.max_failures={self._config.max_failures}): "
                f"{str(reason.__cause__ or reason).strip().splitlines()[-1]}"
            )

    def _check_deadline(self) -> None:
        waited = time.monotonic() - self._since if self._since else 0.0
        if waited >= self._cluster.capacity_deadline_s:
            config, gpus = self._config, 1 if self._config.device == "gpu" else 0
            raise CapacityError(
                f"train.workers={config.workers} ranks ({config.cpus_per_worker:g} CPUs and {gpus} GPUs each) found no room "
                f"within ray.capacity_deadline_s={self._cluster.capacity_deadline_s:g} s: machines are lost or taken. Add "
                "machines and run the same command again; it goes on from the last checkpoint"
            )


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What Ray carries to each rank."""

    job: Job
    run: str
    """Of this driver: what another one was told is not heeded."""
    driver_node: str


_CLUSTER = RayConfig()


@dataclass(frozen=True, kw_only=True)
class TrainingSegment:
    """The beginning of a training, up to a checkpoint that becomes a model of its own."""

    whole: Artifact
    """The model of the whole training: checkpoints and metrics.jsonl are its own, and lie beside it."""
    until: int
    """Steps that are done then; the last part ends with the training."""


def train(
    config: TrainConfig,
    seed_model: ModelConfig,
    examples: Artifact,
    output: Artifact,
    cluster: RayConfig = _CLUSTER,
    part: TrainingSegment | None = None,
) -> None:
    """Fine-tunes the seed model on the examples; the output artifact is the model, and is done when this returns.

    Ray must be running. Checkpoints and metrics.jsonl lie beside the output folder; a call after a kill goes on from them. So
    does the next part after a part, whose checkpoints stay: the parts together make the weights that one call makes.

    Raises TrainingFailed where no model came out; it or ModelError, before any rank starts, where none could; CapacityError
    where machines are lost and no others come; Stopped, with a checkpoint where there was time for it, after SIGTERM.
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
    run = uuid.uuid4().hex
    with asking_to_stop(checkpoints, run, stop_notice(cluster.stop_notice_s)):
        with workspace(checkpoints) as directory:
            outcome = _fit(job, run, directory, cluster)
        facts = asdict(outcome)
        model = {"path": output.folder.uri, "seed": seed_model.path, "files": facts.pop("files")}
        output.finish(model=model, **facts, seconds=round(time.monotonic() - started, 1))
        if part is None:
            checkpoints.remove()


def _fit(job: Job, run: str, directory: Path, cluster: RayConfig) -> TrainResult:
    """Runs the ranks. The directory is Ray's: checkpoints being ours, its controller alone writes there, an empty marker."""
    config = job.config
    gpu = config.device == "gpu"
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    if not get_dashboard_url():  # Ray started here for this run alone: no spot machine to be warned of
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    trainer = _Trainer(
        _rank,
        train_loop_config={"call": _Call(job=job, run=run, driver_node=ray.get_runtime_context().get_node_id())},
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
            callbacks=[_Starts(config, cluster)],
        ),
    )
    try:
        told = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        raise _told(error, job) from None
    except RayActorError as error:  # of the controller: those of ranks are its own to deal with
        raise TrainingFailed(
            f"training of {job.model} lost its controller ({type(error).__name__}): run the same command again, "
            "and it goes on from the last checkpoint"
        ) from None
    if isinstance(told, StjError):
        raise told
    assert isinstance(told, TrainResult)
    return told


def _rank(settings: dict[str, _Call]) -> TrainResult | StjError:
    """What Ray Train runs as each rank.

    An expected error comes back as a value: all ranks have it, and Ray would only start them again to meet it again.
    """
    call = settings["call"]
    job = call.job
    if job.config.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported, so the import stands below
    import torch

    from stj.train.gauges import gauges
    from stj.train.loop import run_rank

    torch.set_num_threads(max(1, int(job.config.cpus_per_worker)))
    asked = asked_to_stop(Folder.at(job.folder) / CHECKPOINTS, call.run)
    try:
        return run_rank(job, lambda: asked() or _drained(call.driver_node), gauges(job.folder))
    except (TrainingFailed, ModelError, Stopped) as error:
        return error


def _drained(driver_node: str) -> Notice | None:
    """What Ray knows of ranks' machines that will be taken away; where the driver's is among them, nothing goes on.

    Not Ray's public function, which is a meeting of all ranks at each call.
    """
    info = get_train_context().preemption_context.preemption_info
    if info is None:
        return None
    by = info.deadline_ms / 1000 if info.deadline_ms else math.inf
    return Notice(by, end=driver_node in info.preempted_node_to_ranks)


def _told(error: ray.train.TrainingFailedError, job: Job) -> StjError:
    """The error for the user."""
    cause = getattr(error, "controller_failure", None)
    return cause if isinstance(cause, StjError) else TrainingFailed(f"training of {job.model} failed: {_cause(error)}")


def _cause(error: ray.train.TrainingFailedError) -> str:
    """One line for why the ranks ended: an error of our own before a broken connection, which only follows from one."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    first = min(failures, key=lambda failure: (not isinstance(failure, StjError), "onnection" in str(failure)))
    lines = str(first).strip().splitlines() or [type(first).__name__]
    return lines[-1].strip()
