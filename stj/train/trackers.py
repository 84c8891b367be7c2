"""Sends the metrics of each step, and of each iteration of a run, to TensorBoard, MLflow and Weights & Biases.

No tracker can fail or delay a training: each has its own thread, with a queue. If it fails, one warning names the tracker
and the kind of error, no more: the libraries' texts may hold an address with a password. The rest of its metrics are dropped;
metrics.jsonl has them all.

A training that is started again resumes the same run, whose id is the fingerprint of the model in training. Steps that are
repeated after a kill do not count twice: TensorBoard forgets the first ones, MLflow and W&B the second.

Servers, names and keys come from the machines' environment, as these tools define it: MLFLOW_TRACKING_URI, WANDB_API_KEY,
WANDB_MODE=offline. The files of TensorBoard and W&B, and of MLflow without a server, lie beside metrics.jsonl.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from time import time
from typing import Any, Protocol

import torch.distributed as dist

from stj.errors import StjError
from stj.storage.folder import Folder
from stj.train.job import TrainingJob
from stj.train.metrics import StepMetrics

log = logging.getLogger(__name__)

_PROJECT = "stj"
_PARAM_LENGTH = 6000  # MLflow refuses longer values.
_CLOSE_S = 30  # At the end a tracker gets this long for the steps that are still in its queue.
_ADVICE = {
    "tensorboard": "is there room on the disk?",
    "mlflow": "does the server at MLFLOW_TRACKING_URI answer?",
    "wandb": "is WANDB_API_KEY set, or WANDB_MODE=offline?",
}
_FOLDERS = ("tensorboard", "mlruns", "wandb")


@dataclass(frozen=True, kw_only=True)
class TrackedTraining:
    """One training, or the iterations of a run, as a tracker sees it."""

    id: str
    """The fingerprint of the model, or one of the run: the same after a restart."""
    name: str
    settings: Mapping[str, Any]
    directory: Path
    """Where a tracker without a server writes, on this machine."""
    done: int
    """Steps done before this start."""
    group: str = "train"
    """What TensorBoard shows before the metrics' names."""
    clock: str = "loss"
    """A metric that every step has."""


class Tracker(Protocol):
    """One of the tools; created, called and closed in one thread."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Records the metrics of a step."""

    def attach(self, file: Path) -> None:
        """Keeps a file with the run."""

    def close(self) -> None:
        """Ends the run; a later start may resume it."""


@contextmanager
def tracked(job: TrainingJob, directory: Path, done: int) -> Iterator[Callable[[StepMetrics], None]]:
    """Gives a function that sends a step's metrics to all trackers of the job; on ranks other than 0 it does nothing."""
    training = TrackedTraining(
        id=job.fingerprint,
        name="/".join(Folder.at(job.folder).path.split("/")[-2:]),
        settings=asdict(job.config),
        directory=directory,
        done=done,
    )
    senders = [_Sender(name, training) for name in job.config.trackers] if dist.get_rank() == 0 else []

    def track(metrics: StepMetrics) -> None:
        values = {name: value for name, value in asdict(metrics).items() if value is not None}
        step = values.pop("step")
        for sender in senders:
            sender.send(partial(_log, step=step, values=values))

    try:
        yield track
    finally:
        for sender in senders:
            sender.close()
        keep_files(directory, Folder.at(job.folder))


def track_run(
    names: Sequence[str], run: TrackedTraining, steps: Iterable[tuple[int, Mapping[str, float]]], report: Path, folder: Folder
) -> None:
    """Sends the metrics of a run's iterations, and its report, to these trackers; `folder` keeps the files that they write."""
    senders = [_Sender(name, run) for name in names]
    for step, values in steps:
        for sender in senders:
            sender.send(partial(_log, step=step, values=values))
    for sender in senders:
        sender.send(lambda tracker: tracker.attach(report))
    for sender in senders:
        sender.close()
    keep_files(run.directory, folder)


def keep_files(directory: Path, folder: Folder) -> None:
    """Copies what trackers wrote on this machine to the run's folder, unless they wrote there.

    They may still be writing. What cannot be copied, for example a temporary file that is gone, is left out with one warning.
    """
    if directory == folder.local:
        return
    for name in _FOLDERS:
        for parent, _, files in os.walk(directory / name):  # skips a directory that is gone
            for file in (Path(parent) / file for file in files):
                try:
                    if file.is_file():
                        (folder / file.parent.relative_to(directory).as_posix()).upload(file)
                except (OSError, StjError) as error:
                    _warn_left_out(folder.uri, type(error).__name__)


@cache
def _warn_left_out(target: str, kind: str) -> None:
    """Warns once of each kind of error, not at each checkpoint."""
    log.warning("train.trackers: not all files of trackers could be copied to %s (%s). Training continues", target, kind)


def _log(tracker: Tracker, step: int, values: Mapping[str, float]) -> None:
    tracker.log(step, values)


class _Sender:
    """A tracker in its thread."""

    def __init__(self, name: str, training: TrackedTraining) -> None:
        self._name = name
        self._warned = False
        self._queue: SimpleQueue[Callable[[Tracker], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, args=(training,), name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def send(self, use: Callable[[Tracker], None]) -> None:
        """Takes what is to be done with the tracker, and returns at once."""
        self._queue.put(use)

    def close(self) -> None:
        """Waits until all is sent, but not forever."""
        self._queue.put(None)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self._warn(f"does not answer within {_CLOSE_S} s")

    def _serve(self, training: TrackedTraining) -> None:
        try:
            tracker = _TRACKERS[self._name](training)
            while (use := self._queue.get()) is not None:
                use(tracker)
            tracker.close()
        except Exception as error:  # any error of a tracker: none is a reason to lose a training
            self._warn(f"failed ({type(error).__name__})")

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("train.trackers: %s %s: %s Training continues without it", self._name, what, _ADVICE[self._name])


class _TensorBoard:
    def __init__(self, training: TrackedTraining) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._group = training.group
        self._writer = SummaryWriter(str(training.directory / "tensorboard"), purge_step=training.done + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{self._group}/{name}", value, step)
        self._writer.flush()

    def attach(self, file: Path) -> None:
        self._writer.add_text(file.name, f"The report of this run is `{file}`.")  # TensorBoard keeps no files.

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, training: TrackedTraining) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # needs no server and no database, and is safe on shared disks
            uri = (training.directory / "mlruns").as_uri()
        self._metric, self._client = Metric, MlflowClient(uri)
        runs = self._client.search_runs([self._experiment()], f"tags.`stj.model` = '{training.id}'")
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {"stj.model": training.id}
            self._run = self._client.create_run(self._experiment(), run_name=training.name, tags=tags).info.run_id
            params = [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in training.settings.items()]
            self._client.log_batch(self._run, params=params)
        self._logged = max((metric.step for metric in self._client.get_metric_history(self._run, training.clock)), default=-1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._logged:
            now = int(time() * 1000)
            self._client.log_batch(self._run, [self._metric(name, value, now, step) for name, value in values.items()])

    def attach(self, file: Path) -> None:
        self._client.log_artifact(self._run, str(file))

    def close(self) -> None:
        self._client.set_terminated(self._run)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        return str(experiment.experiment_id if experiment else self._client.create_experiment(name))


class _Wandb:
    def __init__(self, training: TrackedTraining) -> None:
        import wandb

        self._run = wandb.init(
            id=training.id,
            resume="allow",
            name=training.name,
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            config=dict(training.settings),
            dir=os.environ.get("WANDB_DIR", str(training.directory)),
            # what it collects by default (command line, environment, git's address, the program's output) may hold secrets
            settings=wandb.Settings(silent=True, console="off", x_disable_meta=True, x_disable_machine_info=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def attach(self, file: Path) -> None:
        self._run.log_artifact(str(file), name=f"report-{self._run.id}", type="report")

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, Callable[[TrackedTraining], Tracker]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _Wandb}
