"""What Ray Train's controller leaves for the driver when ranks restart, and when it gives up; no Ray runs in these tests."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError
from ray.train import ControllerError, PreemptionError, TrainingFailedError, WorkerGroupError

from stj.cluster_config import RayConfig
from stj.config import ModelConfig
from stj.errors import CapacityError, StjError, StorageFailed, TrainingFailed
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed
from stj.train import launch
from stj.train.committed import Checkpoint
from stj.train.job import TrainingJob
from stj.train.progress import PROGRESS, RESTARTS
from stj.train_config import TrainConfig
from tests.conftest import soon
from tests.train.test_ray_private import EXECUTION, INTERNAL, resolve

BROKEN = RuntimeError("Traceback ...\nConnection closed by peer [127.0.0.1]:4711")


@pytest.fixture(autouse=True)
def start_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets afterwards what the callback sets in its process."""
    monkeypatch.setenv(resolve(f"{INTERNAL}.constants.WORKER_GROUP_START_TIMEOUT_S_ENV_VAR"), "60")


def starts(folder: Path, deadline_s: float = 600, waits: str = "") -> launch._RankStarts:
    job = TrainingJob(
        config=TrainConfig(max_failures=2, workers=2, device="cpu"),
        seed_model=ModelConfig(path="seed"),
        weights="the seed's",
        fingerprint="mine",
        examples="examples",
        model=str(folder / "model"),
        folder=str(folder),
    )
    return launch._RankStarts(job, RayConfig(capacity_deadline_s=deadline_s), lambda: waits)


def update(callback: launch._RankStarts, state: str, error: TrainingFailedError | None = None) -> None:
    kind = resolve(f"{EXECUTION}.controller.state.{state}")
    callback.after_controller_state_update(None, kind() if error is None else kind(error))


def dead(reason: Exception) -> Exception:
    failure: Exception = resolve(f"{INTERNAL}.exceptions.WorkerHealthCheckFailedError")("A worker health check failed.", reason)
    return failure


def killed(failures: dict[int, Exception]) -> WorkerGroupError:
    return WorkerGroupError("errors of ranks", failures)


def restarts(folder: Path) -> list[str]:
    lines: list[str] = json.loads((folder / "checkpoints" / RESTARTS).read_text())["restarts"]
    return lines


def activity(folder: Path) -> str:
    return str(json.loads((folder / "checkpoints" / PROGRESS).read_text())["activity"])


def test_a_restart_names_its_attempt_its_checkpoint_and_the_rank_that_died_first(tmp_path: Path) -> None:
    callback = starts(tmp_path)
    died = dead(ActorDiedError())
    update(callback, "RestartingState", killed({0: BROKEN, 1: died}))
    kept = Checkpoint(fingerprint="mine", step=6, epoch=0, samples=9, world_size=2, files={})
    write_sealed(Folder.at(tmp_path) / "checkpoints" / kept.tag, "manifest.json", asdict(kept))
    update(callback, "RestartingState", killed({0: BROKEN}))
    assert restarts(tmp_path) == [
        f"ranks restart (attempt 2 of 3) from the beginning: rank 1 died: {ActorDiedError.BASE_ERROR_MSG}",
        "ranks restart (attempt 3 of 3) from step 6: rank 0: Connection closed by peer [127.0.0.1]:4711",
    ]


@pytest.mark.parametrize(
    ("rays", "ours"),
    [
        ("The actor is dead because its worker process has died. Worker exit type: ...", "its process was killed or crashed"),
        ("The actor died because its node has died. Node Id: 7\n\tthe actor's node was terminated", "its machine is lost"),
        (
            "1 worker(s) were killed due to the node running low on memory.",
            "Ray killed it, since its machine was low on memory",
        ),
        ("it is gone", "it is gone"),
    ],
)
def test_how_a_rank_died_takes_few_words(rays: str, ours: str, tmp_path: Path) -> None:
    callback = starts(tmp_path)
    update(callback, "RestartingState", killed({1: dead(RayActorError(error_msg=rays))}))
    assert restarts(tmp_path)[0].endswith(f": rank 1 died: {ours}")


def test_a_rank_that_cannot_be_reached_is_not_called_dead(tmp_path: Path) -> None:
    callback = starts(tmp_path)
    update(callback, "RestartingState", killed({0: BROKEN, 1: dead(ActorUnavailableError("RPC error: refused", None))}))
    assert restarts(tmp_path)[0].endswith(": rank 1 cannot be reached: its machine or its process is lost")


def test_an_error_of_ours_is_the_cause_before_all_that_follows_from_it(tmp_path: Path) -> None:
    callback = starts(tmp_path)
    update(callback, "RestartingState", killed({0: BROKEN, 1: StjError("/run: cannot write: No space left on device")}))
    assert restarts(tmp_path)[0].endswith(": rank 1: /run: cannot write: No space left on device")


def test_a_machine_that_was_taken_away_is_no_failed_attempt(tmp_path: Path) -> None:
    callback = starts(tmp_path)
    info = resolve("ray.train.v2.api.preemption.PreemptionInfo")(deadline_ms=None, preempted_node_to_ranks={"node": [1]})
    update(callback, "RestartingState", PreemptionError(info))
    update(callback, "RestartingState", killed({0: BROKEN, 1: dead(RayActorError(preempted=True))}))
    update(callback, "RestartingState", killed({0: BROKEN}))
    assert restarts(tmp_path) == [
        "ranks restart from the beginning: the machine of rank 1 is taken away",
        "ranks restart from the beginning: rank 1 lost its machine, which was taken away",
        "ranks restart (attempt 2 of 3) from the beginning: rank 0: Connection closed by peer [127.0.0.1]:4711",
    ]


def test_ranks_that_die_while_they_start_are_given_up_after_max_failures(tmp_path: Path) -> None:
    callback = starts(tmp_path)
    error = ControllerError(RuntimeError("a module is missing"))
    update(callback, "ReschedulingState", error)
    update(callback, "ReschedulingState", error)
    assert restarts(tmp_path)[-1] == "ranks did not start (attempt 3 of 3 follows): a module is missing"
    with pytest.raises(TrainingFailed, match=r"did not start, 3 times in a row \(train.max_failures=2\): a module is missing"):
        update(callback, "ReschedulingState", error)
    update(callback, "RunningState")
    update(callback, "ReschedulingState", error)  # counts from the last time that they ran


@pytest.fixture
def no_room() -> ControllerError:
    return ControllerError(resolve(f"{INTERNAL}.exceptions.WorkerGroupStartupTimeoutError")(2))


def test_ranks_wait_for_machines_until_the_deadline(tmp_path: Path, no_room: ControllerError) -> None:
    callback = starts(tmp_path, waits="waiting for 2 of 2 ranks: 1 gpu is starting")
    callback.before_start()
    assert soon(lambda: activity(tmp_path) == "starting ranks: waiting for 2 of 2 ranks: 1 gpu is starting")
    update(callback, "ReschedulingState", no_room)
    callback.before_start()
    update(callback, "RunningState")
    late = starts(tmp_path, deadline_s=0)
    late.before_start()
    with pytest.raises(CapacityError, match=r"train.workers=2 .* found no room within ray.capacity_deadline_s=0 s"):
        update(late, "ReschedulingState", no_room)


def test_the_error_of_the_deadline_says_what_the_ranks_waited_for(tmp_path: Path, no_room: ControllerError) -> None:
    late = starts(tmp_path, deadline_s=0, waits="waiting for 2 of 2 ranks: gpu was refused 3 times (no capacity)")
    late.before_start()
    assert soon(lambda: activity(tmp_path) != "starting ranks")
    with pytest.raises(CapacityError, match=r"gpu was refused 3 times \(no capacity\). Add machines"):
        update(late, "ReschedulingState", no_room)
    update(late, "RunningState")


def test_a_store_that_is_away_ends_no_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    callback = starts(tmp_path / "file")
    callback.before_start()
    update(callback, "RestartingState", killed({0: BROKEN}))


def test_a_full_disk_ends_the_training_instead_of_a_restart(tmp_path: Path) -> None:
    callback = starts(tmp_path)
    full = StorageFailed("/run: cannot write: No space left on device")
    with pytest.raises(StorageFailed, match="No space left"):
        update(callback, "RestartingState", killed({0: BROKEN, 1: full}))
    assert not (tmp_path / "checkpoints" / RESTARTS).exists()
    assert launch._user_error(killed({0: BROKEN, 1: full}), callback._job) is full
