"""All that training takes from Ray's private modules, in our own words; tests/train/test_ray_private.py names each of them."""

import math
import os
from collections.abc import Iterable
from typing import Any

import ray
from ray._private.worker import get_dashboard_url
from ray.exceptions import ActorUnavailableError, RayActorError
from ray.train import ControllerError, PreemptionError, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import (
    ENABLE_PREEMPTION_WATCHER_ENV_VAR,
    ENABLE_PRINT_PATCH_ENV_VAR,
    WORKER_GROUP_START_TIMEOUT_S_ENV_VAR,
)
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RestartingState, RunningState

from stj.errors import CheckFailed, StjError, StorageFailed
from stj.machine.needs import MachineNeeds, machine_words

_DEATHS = {
    "low on memory": "Ray killed it, since its machine was low on memory",
    "node has died": "its machine is lost",
    "worker process has died": "its process was killed or crashed",
}
"""Ray's words for how a process ended, and ours: Ray's text has 600 characters. Other words are shown as they are."""


class RankTrainer(TorchTrainer):  # type: ignore[misc]  # ray has no types
    """Ray's trainer without its handler of Ctrl-C, and without two helpers, each a process that imports for seconds.

    One helper shares out data sets; our ranks read theirs themselves. The other frees placement groups of a dead controller.
    Every second it asks the dashboard whether the controller lives; without a dashboard it only warns every second.
    """

    def _create_default_callbacks(self) -> list[Any]:
        unwanted = (DatasetsCallback,) if get_dashboard_url() else (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unwanted)]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Leaves Ctrl-C to Python: Ray's handler would end the process with code 0. Ray's ranks end with their driver."""


class RankCallback(ControllerCallback):  # type: ignore[misc]
    """What happens to the ranks, as Ray Train's controller sees it; these methods run in the controller's process."""

    def before_start(self) -> None:
        """Ray looks for machines for the ranks, and starts them there."""

    def running(self) -> None:
        """All ranks run; called about every second."""

    def no_room(self) -> None:
        """Ray found no machines in time, and looks for them again."""

    def start_failed(self, cause: str) -> None:
        """Ranks died while they started, and Ray starts them again."""

    def ranks_failed(self, cause: str, *, preempted: bool) -> None:
        """Ranks died, and Ray starts all of them again. If a machine was taken away, Ray counts no failure.

        Not called for a full disk: that ends the training.
        """

    def on_controller_start_worker_group(self, *, scaling_config: ScalingConfig, num_workers: int) -> None:
        """Ray's call before each start."""
        self.before_start()

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Ray's call after each of its looks at the ranks."""
        if isinstance(current_state, RunningState):
            self.running()
        elif isinstance(current_state, RestartingState):
            error = current_state.training_failed_error
            if (full := storage_failure(error)) is not None:
                raise full
            self.ranks_failed(failure_cause(error), preempted=_preempted(error))
        elif isinstance(current_state, ReschedulingState):
            error = current_state.training_failed_error
            if isinstance(getattr(error, "controller_failure", error), WorkerGroupStartupTimeoutError):
                self.no_room()
            else:
                self.start_failed(failure_cause(error))


class MachineCheck(WorkerGroupCallback):  # type: ignore[misc]
    """Checks the machines of all ranks at each start, before they connect: one that gives up later leaves others waiting."""

    def __init__(self, needs: MachineNeeds, driver_node: str) -> None:
        self._needs = needs
        self._driver_node = driver_node

    def before_init_train_context(self, workers: list[Any]) -> dict[str, list[Any]]:
        """Ray's call when all ranks have a process. Raises CheckFailed, which ends the training."""
        faults = ray.get([worker.execute_async(self._needs_of(worker).fault) for worker in workers])
        if wrong := {worker.metadata.node_ip: fault for worker, fault in zip(workers, faults, strict=True) if fault}:
            first = next(iter(wrong.values()))
            raise CheckFailed(f"{machine_words([ip for ip, fault in wrong.items() if fault == first])}: {first}")
        return {}

    def _needs_of(self, worker: Any) -> MachineNeeds:
        """The driver's own machine has its packages, and sees its directories."""
        return MachineNeeds(gpu=self._needs.gpu) if worker.metadata.node_id == self._driver_node else self._needs


def prepare_driver() -> None:
    """Turns off services of Ray Train that our training does not need; the environment's own settings stay."""
    os.environ.setdefault(ENABLE_PRINT_PATCH_ENV_VAR, "0")
    if not get_dashboard_url():  # Ray started here only for this run: no spot machine announces its end
        os.environ.setdefault(ENABLE_PREEMPTION_WATCHER_ENV_VAR, "0")


def limit_start(seconds: float) -> None:
    """Has Ray look for machines for this long at the next start, in the controller's process."""
    os.environ[WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] = str(seconds)


def drained_machines() -> tuple[float, set[str]] | None:
    """The ranks' machines that will be taken away, by their ids, and when, in seconds since 1970; None if there are none.

    Called in a rank. Ray's public function for this is a meeting of all ranks at each call.
    """
    info = get_train_context().preemption_context.preemption_info
    if info is None:
        return None
    return info.deadline_ms / 1000 if info.deadline_ms else math.inf, set(info.preempted_node_to_ranks)


def controller_error(error: TrainingFailedError) -> Exception | None:
    """What was raised in the controller, for example by a callback."""
    failure: Exception | None = error.controller_failure if isinstance(error, ControllerError) else None
    return failure


def storage_failure(error: TrainingFailedError) -> StorageFailed | None:
    """A rank's failure to write that trying again cannot heal, if there is one."""
    failures = getattr(error, "worker_failures", {}).values()
    return next((failure for failure in failures if isinstance(failure, StorageFailed)), None)


def failure_cause(error: TrainingFailedError) -> str:
    """One line for why the ranks ended: the first cause if several failed, not the broken connections that follow it."""
    if isinstance(error, PreemptionError):
        return f"the machine of {_ranks(error.preemption_info.preempted_ranks)} is taken away"
    if isinstance(error, WorkerGroupError) and error.worker_failures:
        rank, failure = min(error.worker_failures.items(), key=_causes_first)
        return f"rank {rank}{_fate(failure)}"
    failure = controller_error(error) or error
    return _last_line(failure.__cause__ or failure)


def _causes_first(failed: tuple[int, Exception]) -> tuple[bool, bool, bool]:
    """Sorts our own errors, then ranks that died, before ranks that lost their connection to those."""
    failure = failed[1]
    died = isinstance(failure, WorkerHealthCheckFailedError)
    return not isinstance(failure, StjError), not died, "onnection" in str(failure)


def _fate(failure: Exception) -> str:
    if not isinstance(failure, WorkerHealthCheckFailedError):
        return f": {_last_line(failure)}"
    death = failure.health_check_failure
    if isinstance(death, RayActorError) and death.preempted:
        return " lost its machine, which was taken away"
    if isinstance(death, ActorUnavailableError):  # Ray has lost the connection, and does not know yet what has ended
        return " cannot be reached: its machine or its process is lost"
    return f" died: {next((ours for rays, ours in _DEATHS.items() if rays in str(death)), _last_line(death))}"


def _preempted(error: TrainingFailedError) -> bool:
    """Whether Ray blames a machine that was taken away: it does not count such a failure."""
    failures = [getattr(failure, "health_check_failure", failure) for failure in getattr(error, "worker_failures", {}).values()]
    return isinstance(error, PreemptionError) or any(isinstance(f, RayActorError) and f.preempted for f in failures)


def _ranks(ranks: Iterable[int]) -> str:
    numbers = [str(rank) for rank in ranks]
    return f"rank {numbers[0]}" if len(numbers) == 1 else f"ranks {', '.join(numbers)}"


def _last_line(failure: BaseException) -> str:
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    return lines[-1].strip()
