"""The Ray cluster of a run: starts or joins it, and checks its capacity before anything else starts."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import ray

from stj.config import EngineConfig, ModelConfig, RayConfig, TrainConfig, in_ray_job
from stj.errors import CapacityError
from stj.models.zero import needs_even_ranks, uneven_ranks
from stj.passes.check import on_this_machine
from stj.passes.cluster_machines import machines_of_cluster
from stj.passes.demand import HELPER_CPUS, Demand
from stj.passes.last_word import last_word
from stj.passes.machines import Machines
from stj.storage.folder import Folder
from stj.storage.lease import sole_driver

log = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 10
_START_ATTEMPTS = 3


def training_demand(train: TrainConfig) -> Demand:
    """The resources that training takes."""
    return Demand(
        setting="train.workers",
        noun="ranks",
        bundles=train.workers,
        cpus=train.cpus_per_worker,
        gpus=1 if train.device == "gpu" else 0,
        place=train.place,
        place_setting="train.place",
        uneven=partial(uneven_ranks, train) if needs_even_ranks(train) else None,
    )


def engine_demand(engine: EngineConfig, models: Sequence[ModelConfig]) -> Demand:
    """The resources that passes through these models take; the largest model counts, and models behind an API take no GPU."""
    local = [model for model in models if not model.endpoint]
    clients = bool(models) and not local
    pool = engine.serving(models[0]) if clients else engine
    return Demand(
        setting="clients of models behind an API" if clients else "engine.min_replicas",
        noun="clients" if clients else "engines",
        bundles=pool.min_replicas,
        cpus=pool.cpus_per_replica,
        gpus=max((model.gpus for model in local), default=0) if engine.device == "gpu" else 0,
        place=pool.place,
        place_setting="engine.place",
        helper_cpus=HELPER_CPUS,
    )


@contextmanager
def driver_session(folder: Folder, config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    """Makes this process the only driver of a directory, with Ray if there are demands. A line says so if it is killed there.

    Raises ArtifactError if another driver is at work there, and CapacityError as `ray_session` does.
    """
    with sole_driver(folder), _ray_of_driver(config, demands) if demands else nullcontext():
        yield


@contextmanager
def _ray_of_driver(config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    with last_word(), ray_session(config, demands):
        yield


@contextmanager
def ray_session(config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    """Starts or joins Ray, and leaves it at the end.

    Raises CapacityError if no cluster answers, or if the cluster can never have a demanded capacity. Passes and training wait
    themselves for what it can grow to: the engines and ranks are the only request that ends with them.
    """
    with joined_cluster(config):
        machines = joined_machines(config)
        for demand in demands:
            machines.refuse_impossible(demand)
        if machines.source != "static":
            unknown = any(machines.room(demand) is None for demand in demands)
            log.log(logging.WARNING if unknown else logging.INFO, "%s", machines.words())
        yield


def joined_machines(config: RayConfig) -> Machines:
    """The machines of the cluster that the config names, which this process has joined."""
    return machines_of_cluster(grows=not on_this_machine(config))


@contextmanager
def joined_cluster(config: RayConfig) -> Iterator[None]:
    """Starts or joins Ray, and leaves it at the end; waits for nothing. Raises CapacityError if no cluster answers."""
    _connect(config)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(config: RayConfig) -> None:
    local = on_this_machine(config)
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
    cpus = (os.cpu_count() or 1) + HELPER_CPUS
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
