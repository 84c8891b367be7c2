"""Training as one call: ranks under Ray Train, which restarts them from the last checkpoint when one dies."""

import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig

from stj.cluster_config import RayConfig
from stj.config import ModelConfig
from stj.errors import CapacityError, ModelError, StjError, Stopped, StorageFailed, TrainingFailed
from stj.machine.needs import MachineNeeds
from stj.machine.packages import expected_packages
from stj.machine.place import SharedPlace, shared
from stj.models.locate import model_identity
from stj.storage.artifacts import Artifact
from stj.storage.faults import storage_fault
from stj.storage.folder import Folder, workspace
from stj.text import LiveLine
from stj.train.committed import committed
from stj.train.job import CHECKPOINTS, TrainingJob, TrainingRoom, TrainResult
from stj.train.notice import Notice, asking_to_stop, stop_notice, stop_poll
from stj.train.progress import STARTING, clear_progress, write_progress, write_restarts
from stj.train.ray_private import (
    MachineCheck,
    RankCallback,
    RankTrainer,
    controller_error,
    drained_machines,
    failure_cause,
    limit_start,
    prepare_driver,
    storage_failure,
)
from stj.train.watch import TrainingWatch
from stj.train_config import TrainConfig

_UNKNOWN_ROOM = TrainingRoom()
_SAY_EVERY_S = 2.0  # Seconds between two looks at what ranks wait for.
_SHARED_MEMORY = "/dev/shm"
_LOOK_S = 60.0  # Ray looks this long for machines, then again: the deadline is checked in between.


@dataclass(frozen=True, kw_only=True)
class TrainingSegment:
    """The beginning of a training, up to a checkpoint that becomes its own model."""

    whole: Artifact
    """The model of the whole training; the checkpoints and metrics.jsonl of all segments lie beside it."""
    until: int
    """Steps that are done at the end of the segment; the last segment ends with the training."""


class _RankStarts(RankCallback):
    """Limits what Ray would repeat without end, and reports it to the driver.

    Ray has no limit on looking for machines, or on starting ranks that die while they start.
    """

    def __init__(self, job: TrainingJob, cluster: RayConfig, waiting: Callable[[], str]) -> None:
        self._job = job
        self._cluster = cluster
        self._waiting = waiting
        self._watch: threading.Thread | None = None
        self._waits = ""
        self._searching_since: float | None = None
        self._failed_starts = 0
        self._failures = 0
        self._restarts: list[str] = []

    def before_start(self) -> None:
        """Has Ray look for machines no longer than the deadline."""
        self._show_restarts()
        if self._searching_since is None:
            self._waits = ""
        self._write_progress(f"{STARTING}: {self._waits}" if self._waits else STARTING)
        self._searching_since = self._searching_since or time.monotonic()
        left = self._cluster.capacity_deadline_s - (time.monotonic() - self._searching_since)
        limit_start(min(_LOOK_S, max(1.0, left)))
        if self._watch is None or not self._watch.is_alive():
            self._watch = threading.Thread(target=self._watch_machines, name="machines", daemon=True)
            self._watch.start()

    def _watch_machines(self) -> None:
        """Writes what the ranks wait for, until they run; Ray itself says nothing while it looks for machines."""
        while self._searching_since is not None:
            waits = self._waiting()
            if waits and self._searching_since is not None:  # they have not started in the meantime
                self._waits = waits
                with suppress(StorageFailed):  # the next start of the ranks raises it
                    self._write_progress(f"{STARTING}: {waits}")
            time.sleep(_SAY_EVERY_S)

    def running(self) -> None:
        """All limits count from the next start."""
        self._searching_since, self._failed_starts = None, 0

    def no_room(self) -> None:
        """Raises CapacityError when the deadline is over."""
        waited = time.monotonic() - self._searching_since if self._searching_since else 0.0
        if waited >= self._cluster.capacity_deadline_s:
            raise CapacityError(
                f"train.workers={self._job.config.workers} ranks found no room within "
                f"ray.capacity_deadline_s={self._cluster.capacity_deadline_s:g} s: "
                f"{self._waits or 'machines are lost or taken'}. Add machines and run the same command again; it resumes from "
                "the last checkpoint"
            )

    def start_failed(self, cause: str) -> None:
        """Raises TrainingFailed when too many starts in a row have failed."""
        self._searching_since = None  # there was room
        self._failed_starts += 1
        most = self._job.config.max_failures
        if self._failed_starts > most:
            raise TrainingFailed(
                f"the ranks did not start, {self._failed_starts} times in a row (train.max_failures={most}): {cause}"
            )
        self._report(f"ranks did not start (attempt {self._failed_starts + 1} of {most + 1} follows): {cause}")

    def ranks_failed(self, cause: str, *, preempted: bool) -> None:
        """Reports the restart to the driver."""
        self._failures += not preempted
        attempt = "" if preempted else f" (attempt {self._failures + 1} of {self._job.config.max_failures + 1})"
        self._report(f"ranks restart{attempt} from {self._last_checkpoint()}: {cause}")

    def _last_checkpoint(self) -> str:
        try:
            newest = committed(Folder.at(self._job.folder) / CHECKPOINTS, self._job.fingerprint)[:1]
        except (StjError, OSError):  # an unreachable store: an error here would end the training
            return "the last checkpoint"
        return f"step {newest[0].step}" if newest else "the beginning"

    def _report(self, line: str) -> None:
        self._restarts.append(line)
        self._show_restarts()
        write_restarts(Folder.at(self._job.folder), self._restarts)

    def _show_restarts(self) -> None:
        from stj.train.gauges import TrainingGauges  # the driver, which makes this object, has none

        TrainingGauges(self._job.folder).show_restarts(len(self._restarts))

    def _write_progress(self, activity: str) -> None:
        write_progress(Folder.at(self._job.folder), activity)


@dataclass(frozen=True, kw_only=True)
class _RankCall:
    """What Ray carries to each rank."""

    job: TrainingJob
    run: str
    """Id of this driver's run: ranks ignore a stop that an earlier driver asked for."""
    driver_node: str


_CLUSTER = RayConfig()


def train(
    config: TrainConfig,
    seed_model: ModelConfig,
    examples: Artifact,
    output: Artifact,
    cluster: RayConfig = _CLUSTER,
    segment: TrainingSegment | None = None,
    room: TrainingRoom = _UNKNOWN_ROOM,
    waiting: Callable[[], str] = str,
    live_line: LiveLine | None = None,
) -> None:
    """Fine-tunes the seed model on the examples; the output artifact is the model, and is done when this returns.

    Ray must be running. Checkpoints and metrics.jsonl lie beside the output folder; a call after a kill resumes from them.
    A segment's checkpoints stay, for the next segment: all segments together make the weights that one call makes. `room` has
    each machine make room on its disk before the first step, or refuse the training if that is not enough.
    While the training runs, the last step is shown live on a terminal, and every 20 s in a log. `waiting` says what ranks
    without machines wait for, empty if they have some; it is called on the cluster.

    Raises TrainingFailed if no model came out, and StorageFailed at once if a disk is full. Raises TrainingFailed or ModelError
    before any rank starts if no model could come out. Raises CheckFailed if a rank's machine lacks what it needs, and
    CapacityError if machines are lost and not replaced. Raises Stopped after SIGTERM, with a checkpoint if time is left for it.
    """
    if not output.begin():
        return
    started = time.monotonic()
    whole = segment.whole if segment else output
    job = _job(config, seed_model, examples, output, segment, room)
    from stj.train.check import check  # transformers and torch take seconds, and a model that is done needs neither

    check(job)
    checkpoints = whole.folder.parent / CHECKPOINTS
    run = uuid.uuid4().hex
    with asking_to_stop(checkpoints, run, stop_notice(cluster.stop_notice_s)):
        with _shown(whole.folder, live_line or LiveLine()), workspace(checkpoints) as directory, shared(checkpoints) as place:
            result = _fit(job, run, directory, _RankStarts(job, cluster, waiting), place)
        facts = asdict(result)
        model = {"path": output.folder.uri, "seed": seed_model.path, "files": facts.pop("files")}
        output.finish(model=model, **facts, seconds=round(time.monotonic() - started, 1))
        if segment is None:
            checkpoints.remove()


def _job(
    config: TrainConfig,
    seed_model: ModelConfig,
    examples: Artifact,
    output: Artifact,
    segment: TrainingSegment | None,
    room: TrainingRoom,
) -> TrainingJob:
    whole = segment.whole if segment else output
    return TrainingJob(
        config=config,
        seed_model=seed_model,
        weights=whole.key.get("seed_model") or model_identity(seed_model),
        fingerprint=whole.fingerprint,
        examples=examples.folder.uri,
        model=output.folder.uri,
        folder=whole.folder.parent.uri,
        until=segment.until if segment else None,
        room=room,
    )


@contextmanager
def _shown(model: Folder, live_line: LiveLine) -> Iterator[None]:
    """Shows the training of a model while it runs; its name is the end of its path: iteration_1/model."""
    clear_progress(model.parent)
    watch = TrainingWatch("/".join(model.path.split("/")[-2:]), model.parent, live_line)
    try:
        yield
    finally:
        watch.close()


def _fit(job: TrainingJob, run: str, directory: Path, starts: _RankStarts, place: SharedPlace) -> TrainResult:
    """Runs the ranks. Ray's controller alone writes to that directory, and only an empty marker: the checkpoints are ours."""
    config = job.config
    gpu = config.device == "gpu"
    prepare_driver()
    driver_node = ray.get_runtime_context().get_node_id()
    needs = MachineNeeds(packages=expected_packages(), place=place, gpu=gpu)
    trainer = RankTrainer(
        _rank,
        train_loop_config={"call": _RankCall(job=job, run=run, driver_node=driver_node)},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if gpu else {})},
            label_selector=dict(config.place) or None,
        ),
        run_config=RunConfig(
            name="ray_train",
            storage_path=str(directory),
            failure_config=FailureConfig(max_failures=config.max_failures),
            logging_config=LoggingConfig(log_level="ERROR"),
            callbacks=[starts, MachineCheck(needs, driver_node)],
        ),
    )
    try:
        result = trainer.fit().return_value
    except ray.train.TrainingFailedError as error:
        raise _user_error(error, job) from None
    except RayActorError as error:  # An error of the controller; it handles those of ranks itself.
        raise TrainingFailed(
            f"training of {job.model} lost its controller ({type(error).__name__}): run the same command again, "
            "and it resumes from the last checkpoint"
        ) from None
    if isinstance(result, StjError):
        raise result
    assert isinstance(result, TrainResult)
    return result


def _rank(settings: dict[str, _RankCall]) -> TrainResult | StjError:
    """What Ray Train runs as each rank.

    An expected error comes back as a value: all ranks have it, and Ray would only restart them to meet it again.
    """
    call = settings["call"]
    job = call.job
    if job.config.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # Read when DeepSpeed is imported, so the import stands below.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # Others import it if it is there, and it reports that.
    import torch

    from stj.train.gauges import TrainingGauges
    from stj.train.loop import run_rank

    torch.set_num_threads(max(1, int(job.config.cpus_per_worker)))
    poll_stop = stop_poll(Folder.at(job.folder) / CHECKPOINTS, call.run)
    try:
        return run_rank(job, lambda: poll_stop() or _drain_notice(call.driver_node), TrainingGauges(job.folder).show)
    except (TrainingFailed, ModelError, Stopped) as error:
        return error
    except Exception as error:  # libraries have words of their own for a full disk
        if fault := storage_fault(error, _written_places(job)):
            raise fault from None  # the ranks would only start again to meet it again
        raise


def _written_places(job: TrainingJob) -> list[str]:
    """Where a rank writes: the run, its scratch disk, and what ranks of one machine share."""
    return [job.folder, tempfile.gettempdir(), _SHARED_MEMORY]


def _drain_notice(driver_node: str) -> Notice | None:
    """A notice if ranks' machines will be taken away; if the driver's is among them, training ends."""
    drained = drained_machines()
    return None if drained is None else Notice(by=drained[0], end=driver_node in drained[1])


def _user_error(error: ray.train.TrainingFailedError, job: TrainingJob) -> StjError:
    """The error for the user."""
    raised = storage_failure(error) or controller_error(error)
    if raised is not None and not isinstance(raised, StjError):
        raised = storage_fault(raised, _written_places(job)) or raised
    return raised if isinstance(raised, StjError) else TrainingFailed(f"training of {job.model} failed: {failure_cause(error)}")
