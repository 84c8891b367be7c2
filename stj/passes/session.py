"""The Ray cluster of a run: starts or joins it, and checks its capacity before anything else starts."""

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
from ray.autoscaler.sdk import request_resources

from stj.config import EngineConfig, ModelConfig, RayConfig, TrainConfig, in_ray_job
from stj.errors import CapacityError
from stj.passes.ray_private import max_cluster_resources
from stj.storage.folder import Folder
from stj.storage.lease import sole_driver

log = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 10
_START_ATTEMPTS = 3
_HELPER_CPUS = 2  # Logical CPUs for Ray Data's reading and splitting tasks, which mostly wait.
_BESIDE_HELPERS = f" beside the {_HELPER_CPUS} that are kept for reading"


@dataclass(frozen=True)
class Demand:
    """The minimum resources that the engines or ranks of a run take together."""

    setting: str
    """Setting that asks for the bundles."""
    bundles: int
    """Number of engines or ranks."""
    cpus: float
    """CPUs of one bundle (an engine or a rank)."""
    gpus: float
    """GPUs of one bundle."""

    @property
    def total(self) -> dict[str, float]:
        """Resources of all bundles, by name."""
        return {"CPU": self.bundles * self.cpus, "GPU": self.bundles * self.gpus}


def training_demand(train: TrainConfig) -> Demand:
    """The resources that training takes."""
    return Demand("train.workers", train.workers, train.cpus_per_worker, 1 if train.device == "gpu" else 0)


def engine_demand(engine: EngineConfig, models: Sequence[ModelConfig]) -> Demand:
    """The resources that passes through these models take; the largest model counts, and models behind an API take no GPU."""
    local = [model for model in models if not model.endpoint]
    if models and not local:
        client = engine.serving(models[0])
        return Demand("clients of models behind an API", client.min_replicas, client.cpus_per_replica, 0)
    gpus = max((model.gpus for model in models), default=0) if engine.device == "gpu" else 0
    return Demand("engine.min_replicas", engine.min_replicas, engine.cpus_per_replica, gpus)


@contextmanager
def driver_session(folder: Folder, config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    """Makes this process the only driver of a directory, with Ray if there are demands.

    Raises ArtifactError if another driver is at work there, and CapacityError as `ray_session` does.
    """
    with sole_driver(folder), ray_session(config, demands) if demands else nullcontext():
        yield


@contextmanager
def ray_session(config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    """Starts or joins Ray, waits for the demanded capacity, and leaves Ray at the end.

    Raises CapacityError if no cluster answers, or if the cluster does not have the capacity and cannot grow to it in time.
    """
    with joined_cluster(config):
        _require(demands, config)
        yield


@contextmanager
def joined_cluster(config: RayConfig) -> Iterator[None]:
    """Starts or joins Ray, and leaves it at the end; waits for nothing. Raises CapacityError if no cluster answers."""
    _connect(config)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(config: RayConfig) -> None:
    local = config.address == "local" and not in_ray_job()
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default, without its warning
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}  # their logs are in Ray's dashboard and session folder
    if not local:
        _probe(config.address)
    stop_handler = signal.getsignal(signal.SIGTERM)
    try:
        if local:
            _start_local(quiet)
        else:
            ray.init(address="auto" if in_ray_job() else config.address, **quiet)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise _unreachable(config.address, error) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop_handler)  # Ray's own handler prints a stack and ends with code 15


def _start_local(quiet: dict[str, Any]) -> None:
    """Starts Ray on this machine. On a busy one, its processes may take longer than the 30 s that Ray waits."""
    cpus = (os.cpu_count() or 1) + _HELPER_CPUS
    for attempt in range(_START_ATTEMPTS):
        try:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
            return
        except Exception as error:  # Ray has no narrower class for this
            ray.shutdown()
            if "timed out" not in str(error) or attempt + 1 == _START_ATTEMPTS:
                raise CapacityError(f"Ray did not start on this machine: {' '.join(str(error).split())}") from None
            log.warning("Ray's processes did not start in time; trying again")


def _probe(address: str) -> None:
    """Fails early if nothing listens at host:port; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_PROBE_TIMEOUT_S).close()
        except OSError as error:
            raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> CapacityError:
    return CapacityError(
        f"ray.address={address}: no Ray cluster answers there ({str(error).splitlines()[0]}). "
        "Start one (`ray start --head`), name another, or set ray.address=local"
    )


def _require(demands: Sequence[Demand], config: RayConfig) -> None:
    """Refuses at once a capacity that the cluster can never have; waits for one that it can grow to."""
    for demand in demands:
        refuse_impossible(demand)
    deadline = time.monotonic() + config.capacity_deadline_s
    try:
        while lack := _lack(demands, _present()):
            if time.monotonic() > deadline:
                raise CapacityError(f"{lack} did not arrive within ray.capacity_deadline_s={config.capacity_deadline_s:g} s")
            log.info("waiting for %s", lack)
            request_resources(bundles=[*_bundles(demands), *[{"CPU": 1.0}] * _HELPER_CPUS])
            time.sleep(min(5.0, max(0.1, deadline - time.monotonic())))
    finally:
        request_resources(bundles=[])  # a request outlives its job: its machines would stay up, and cost money, forever


def refuse_impossible(demand: Demand) -> None:
    """Raises CapacityError if the joined cluster can never hold a demand."""
    now = _present()
    most = {name: max(now[name], limit) for name, limit in _possible().items()}
    for name, amount in demand.total.items():
        if amount > most[name]:
            raise CapacityError(
                f"{demand.setting}={demand.bundles} asks for {amount:g} {name}s ({amount / demand.bundles:g} each); "
                f"the cluster has {now[name]:g}{_BESIDE_HELPERS if name == 'CPU' else ''} and can grow to {most[name]:g}. "
                "Ask for less, add machines, or start Ray with a larger --num-cpus"
            )
    if not _can_add_nodes() and not any(_holds(node, demand) for node in ray.nodes()):
        raise CapacityError(
            f"{demand.setting}: each takes {demand.cpus:g} CPUs and {demand.gpus:g} GPUs of one machine, "
            "and no machine of the cluster has that many. Lower tensor_parallel_size, or add larger machines"
        )


def _holds(node: dict[str, Any], demand: Demand) -> bool:
    """Whether a machine is large enough for one engine or rank."""
    resources = node["Resources"]
    return bool(node["Alive"] and resources.get("CPU", 0) >= demand.cpus and resources.get("GPU", 0) >= demand.gpus)


def _can_add_nodes() -> bool:
    """Whether an autoscaler may add machines; only it knows their sizes."""
    return bool(max_cluster_resources())


def _lack(demands: Sequence[Demand], now: dict[str, float]) -> str | None:
    """The first demand that the cluster cannot hold now, None if it holds all."""
    for demand in demands:
        for name, amount in demand.total.items():
            if amount > now[name]:
                return f"{amount:g} {name}s for {demand.setting}={demand.bundles} (the cluster has {now[name]:g} now)"
    return None


def _present() -> dict[str, float]:
    """The CPUs and GPUs that the cluster has now for engines and ranks."""
    return _without_helpers(ray.cluster_resources())


def _possible() -> dict[str, float]:
    """The CPUs and GPUs that the cluster's autoscaler can grow it to; zero if there is no autoscaler."""
    return _without_helpers(max_cluster_resources())


def _without_helpers(resources: Mapping[str, float]) -> dict[str, float]:
    """The resources left for engines and ranks: if they took every CPU, no row would ever be read."""
    return {"CPU": max(0, resources.get("CPU", 0) - _HELPER_CPUS), "GPU": resources.get("GPU", 0)}


def _bundles(demands: Sequence[Demand]) -> list[dict[str, float]]:
    """The largest demand in the autoscaler's form."""
    largest = max(demands, key=lambda demand: (demand.total["GPU"], demand.total["CPU"]))
    bundle = {name: amount for name, amount in (("CPU", largest.cpus), ("GPU", largest.gpus)) if amount}
    return [bundle] * largest.bundles
