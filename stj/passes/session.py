"""The Ray cluster of a run: started here or joined, and asked for its capacity before anything starts."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state as cluster_state
from ray.autoscaler.sdk import request_resources

from stj.config import EngineConfig, ModelConfig, RayConfig, TrainConfig, in_ray_job
from stj.errors import CapacityError
from stj.storage.folder import Folder
from stj.storage.lease import sole_driver

log = logging.getLogger(__name__)

_PROBE_S = 10
_START_ATTEMPTS = 3
_HELPER_CPUS = 2  # logical CPUs for Ray Data's reading and splitting tasks, which mostly wait
_KEPT = f" beside the {_HELPER_CPUS} that are kept for reading"


@dataclass(frozen=True)
class Demand:
    """What the largest step of a run takes at the least."""

    what: str
    bundles: int
    cpus: float
    """CPUs of one bundle (an engine or a rank)."""
    gpus: float
    """GPUs of one bundle."""

    @property
    def total(self) -> dict[str, float]:
        """What all bundles take together."""
        return {"CPU": self.bundles * self.cpus, "GPU": self.bundles * self.gpus}


def training_demand(train: TrainConfig) -> Demand:
    """What training asks of the cluster."""
    return Demand("train.workers", train.workers, train.cpus_per_worker, 1 if train.device == "gpu" else 0)


def engine_demand(engine: EngineConfig, models: Sequence[ModelConfig]) -> Demand:
    """What passes through these models ask of the cluster."""
    gpus = max((model.gpus for model in models), default=0) if engine.device == "gpu" else 0
    return Demand("engine.min_replicas", engine.min_replicas, engine.cpus_per_replica, gpus)


@contextmanager
def driver_session(folder: Folder, config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    """The only driver of a directory, with Ray if anything is asked of it.

    Raises ArtifactError if another driver is at work there, and CapacityError as `ray_session` does.
    """
    with sole_driver(folder), ray_session(config, demands) if demands else nullcontext():
        yield


@contextmanager
def ray_session(config: RayConfig, wanted: Sequence[Demand]) -> Iterator[None]:
    """Ray, started or joined for as long as it is needed, with the capacity that is wanted.

    Raises CapacityError where no cluster answers, or where it has not and cannot get what is asked for.
    """
    _connect(config)
    try:
        _require(wanted, config)
        yield
    finally:
        ray.shutdown()


def _connect(config: RayConfig) -> None:
    local = config.address == "local" and not in_ray_job()
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's default to be, without its warning
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}  # workers' logs: Ray's dashboard and session folder
    if not local:
        _probe(config.address)
    told_to_stop = signal.getsignal(signal.SIGTERM)
    try:
        if local:
            _start_local(quiet)
        else:
            ray.init(address="auto" if in_ray_job() else config.address, **quiet)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise _unreachable(config.address, error) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, told_to_stop)  # Ray puts its own in place, which prints a stack and ends with code 15


def _start_local(quiet: dict[str, Any]) -> None:
    """Ray on this machine; on a busy one its processes may take longer than the 30 s that Ray itself waits."""
    cpus = (os.cpu_count() or 1) + _HELPER_CPUS
    for attempt in range(_START_ATTEMPTS):
        try:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            return
        except Exception as error:  # Ray has no narrower one for this
            ray.shutdown()
            if "timed out" not in str(error) or attempt + 1 == _START_ATTEMPTS:
                raise CapacityError(f"Ray did not start on this machine: {' '.join(str(error).split())}") from None
            log.warning("Ray's processes did not start in time; trying again")


def _probe(address: str) -> None:
    """Asks whether anything listens at host:port; Ray itself would go on trying for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_PROBE_S).close()
        except OSError as error:
            raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> CapacityError:
    return CapacityError(
        f"ray.address={address}: no Ray cluster answers there ({str(error).splitlines()[0]}). "
        "Start one (`ray start --head`), name another, or set ray.address=local"
    )


def _require(wanted: Sequence[Demand], config: RayConfig) -> None:
    """Waits for capacity that can come; refuses at once what cannot."""
    there = _present()
    most = {name: max(there[name], limit) for name, limit in _possible().items()}
    for demand in wanted:
        for name, amount in demand.total.items():
            if amount > most[name]:
                raise CapacityError(
                    f"{demand.what}={demand.bundles} asks for {amount:g} {name}s ({amount / demand.bundles:g} each); "
                    f"the cluster has {there[name]:g}{_KEPT if name == 'CPU' else ''} and can grow to {most[name]:g}. "
                    "Ask for less, add machines, or start Ray with a larger --num-cpus"
                )
        if not _possible_nodes() and not any(_holds(node, demand) for node in ray.nodes()):
            raise CapacityError(
                f"{demand.what}: one of them takes {demand.cpus:g} CPUs and {demand.gpus:g} GPUs of one machine, "
                "and no machine of the cluster has that many. Lower tensor_parallel_size, or add larger machines"
            )
    deadline = time.monotonic() + config.capacity_deadline_s
    try:
        while short := _short(wanted, _present()):
            if time.monotonic() > deadline:
                raise CapacityError(f"{short} did not come within ray.capacity_deadline_s={config.capacity_deadline_s:g} s")
            log.info("waiting for %s", short)
            _ask_autoscaler([*_bundles(wanted), *[{"CPU": 1.0}] * _HELPER_CPUS])
            time.sleep(min(5.0, max(0.1, deadline - time.monotonic())))
    finally:
        _ask_autoscaler([])  # a request outlives its job: without this the machines would stay up, and cost, for ever


def _holds(node: dict[str, Any], demand: Demand) -> bool:
    """Whether a machine is large enough for one engine or rank."""
    resources = node["Resources"]
    return bool(node["Alive"] and resources.get("CPU", 0) >= demand.cpus and resources.get("GPU", 0) >= demand.gpus)


def _possible_nodes() -> bool:
    """Whether an autoscaler may add machines, of which kinds only it knows."""
    return bool(cluster_state.get_max_resources_from_cluster_config())


def _short(wanted: Sequence[Demand], there: dict[str, float]) -> str | None:
    for demand in wanted:
        for name, amount in demand.total.items():
            if amount > there[name]:
                return f"{amount:g} {name}s for {demand.what}={demand.bundles} (the cluster has {there[name]:g} now)"
    return None


def _present() -> dict[str, float]:
    return _without_helpers(ray.cluster_resources())


def _possible() -> dict[str, float]:
    """The most that the cluster's autoscaler, where there is one, may bring it to."""
    return _without_helpers(cluster_state.get_max_resources_from_cluster_config() or {})


def _without_helpers(resources: Mapping[str, float]) -> dict[str, float]:
    """What engines and ranks may take: were they to take every CPU, no row would ever be read."""
    return {"CPU": max(0, resources.get("CPU", 0) - _HELPER_CPUS), "GPU": resources.get("GPU", 0)}


def _bundles(wanted: Sequence[Demand]) -> list[dict[str, float]]:
    """The largest demand as the autoscaler takes it."""
    largest = max(wanted, key=lambda demand: (demand.total["GPU"], demand.total["CPU"]))
    bundle = {name: amount for name, amount in (("CPU", largest.cpus), ("GPU", largest.gpus)) if amount}
    return [bundle] * largest.bundles


def _ask_autoscaler(bundles: list[dict[str, float]]) -> None:
    request_resources(bundles=bundles)
