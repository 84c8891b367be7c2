"""TensorBoard, MLflow and Weights & Biases: the metrics of each step on their way to people's dashboards.

No tracker can fail a training, or hold it up: each has a thread of its own, with a queue before it. What goes wrong there is
told once, by the tracker's name and the kind of the error alone (what their libraries say may hold an address with a password),
and the rest of its metrics are dropped; metrics.jsonl has them all.

A training that starts again goes on with the same run, which is known by the fingerprint of the model that is trained. Steps
that are made again after a kill do not count twice: TensorBoard forgets the first ones, MLflow and W&B the second.

Servers, names and keys are given as these tools have it, in the environment of the machines: MLFLOW_TRACKING_URI,
WANDB_API_KEY, WANDB_MODE=offline. TensorBoard's files, MLflow's where no server is named, and W&B's lie beside metrics.jsonl.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from time import time
from typing import Any, Protocol

import torch.distributed as dist

from stj.errors import StjError
from stj.storage.folder import Folder
from stj.train.job import Job
from stj.train.step import Metrics

log = logging.getLogger(__name__)

_PROJECT = "stj"
_LAST_WORDS_S = 30  # so long a tracker may take at the end for what is still in its queue
_LOOK_AT = {
    "tensorboard": "is there room on the disk?",
    "mlflow": "does the server at MLFLOW_TRACKING_URI answer?",
    "wandb": "is WANDB_API_KEY set, or WANDB_MODE=offline?",
}
_FOLDERS = ("tensorboard", "mlruns", "wandb")


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """One training, as a tracker knows it."""

    id: str
    """The fingerprint of the model: the same when it starts again."""
    name: str
    settings: Mapping[str, Any]
    directory: Path
    """Where a tracker without a server writes, on this machine."""
    done: int
    """Steps that are done already."""


class Tracker(Protocol):
    """One of the tools; made, called and closed in one thread."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics of a step."""

    def close(self) -> None:
        """Ends the run for now."""


@contextmanager
def tracked(job: Job, directory: Path, done: int) -> Iterator[Callable[[Metrics], None]]:
    """A call that takes a step's metrics to all trackers of the job, on rank 0; on other ranks one that does nothing."""
    training = Tracked(
        id=job.fingerprint,
        name="/".join(Folder.at(job.folder).path.split("/")[-2:]),
        settings=asdict(job.config),
        directory=directory,
        done=done,
    )
    senders = [_Sender(name, training) for name in job.config.trackers] if dist.get_rank() == 0 else []

    def track(metrics: Metrics) -> None:
        for sender in senders:
            sender.send(metrics)

    try:
        yield track
    finally:
        for sender in senders:
            sender.close()
        keep_files(directory, Folder.at(job.folder))


def keep_files(directory: Path, folder: Folder) -> None:
    """Copies what trackers wrote on this machine to where the run is; nothing where they wrote there.

    They may be writing still: what cannot be copied, a temporary file that is gone, say, is left out, and told of once.
    """
    if directory == folder.local:
        return
    for name in _FOLDERS:
        for parent, _, found in os.walk(directory / name):  # passes by a directory that is gone
            for file in (Path(parent) / one for one in found):
                try:
                    if file.is_file():
                        (folder / file.parent.relative_to(directory).as_posix()).upload(file)
                except (OSError, StjError) as error:
                    _tell_left_out(folder.uri, type(error).__name__)


@cache
def _tell_left_out(where: str, kind: str) -> None:
    """Warns once of each kind of error, not at each checkpoint."""
    log.warning(
        "train.trackers: not all that trackers wrote could be copied to %s (%s). Training goes on without it", where, kind
    )


class _Sender:
    """A tracker in its thread."""

    def __init__(self, name: str, training: Tracked) -> None:
        self._name = name
        self._told = False
        self._queue: SimpleQueue[Metrics | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, args=(training,), name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def send(self, metrics: Metrics) -> None:
        """Takes a step's metrics, and returns at once."""
        self._queue.put(metrics)

    def close(self) -> None:
        """Waits until all is sent, but not for ever."""
        self._queue.put(None)
        self._thread.join(_LAST_WORDS_S)
        if self._thread.is_alive():
            self._warn(f"does not answer within {_LAST_WORDS_S} s")

    def _serve(self, training: Tracked) -> None:
        try:
            tracker = _TRACKERS[self._name](training)
            while (metrics := self._queue.get()) is not None:
                values = {name: value for name, value in asdict(metrics).items() if value is not None}
                tracker.log(values.pop("step"), values)
            tracker.close()
        except Exception as error:  # whatever it is: it is the tracker's, and no reason to lose a training
            self._warn(f"failed ({type(error).__name__})")

    def _warn(self, what: str) -> None:
        if not self._told:
            self._told = True
            log.warning("train.trackers: %s %s: %s Training goes on without it", self._name, what, _LOOK_AT[self._name])


class _TensorBoard:
    def __init__(self, training: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(training.directory / "tensorboard"), purge_step=training.done + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, training: Tracked) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # needs no server and no database, and is safe on shared disks
            uri = (training.directory / "mlruns").as_uri()
        self._metric, self._client = Metric, MlflowClient(uri)
        found = self._client.search_runs([self._experiment()], f"tags.`stj.model` = '{training.id}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {"stj.model": training.id}
            self._run = self._client.create_run(self._experiment(), run_name=training.name, tags=tags).info.run_id
            params = [Param(name, str(value)) for name, value in training.settings.items()]
            self._client.log_batch(self._run, params=params)
        self._logged = max((metric.step for metric in self._client.get_metric_history(self._run, "loss")), default=0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._logged:
            now = int(time() * 1000)
            self._client.log_batch(self._run, [self._metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))


class _Wandb:
    def __init__(self, training: Tracked) -> None:
        import wandb

        self._run = wandb.init(
            id=training.id,
            resume="allow",
            name=training.name,
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            config=dict(training.settings),
            dir=os.environ.get("WANDB_DIR", str(training.directory)),
            # what it finds out by itself (command line, environment, git's address, the program's output) may hold secrets
            settings=wandb.Settings(silent=True, console="off", x_disable_meta=True, x_disable_machine_info=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, Callable[[Tracked], Tracker]] = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _Wandb}
