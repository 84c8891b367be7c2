"""The Ray cluster of a run: starts or joins it, and checks its capacity before anything else starts."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from stj.cluster_config import RayConfig
from stj.config import EngineConfig, ModelConfig, in_ray_job
from stj.errors import CapacityError
from stj.models.zero import needs_even_ranks, uneven_ranks
from stj.passes.check import on_this_machine
from stj.passes.cluster_machines import machines_of_cluster
from stj.passes.cluster_token import check_auth_mode, check_token, no_token
from stj.passes.demand import HELPER_CPUS, Demand
from stj.passes.last_word import last_word
from stj.passes.machines import Machines
from stj.passes.ray_private import level_line_left_out, listening_on_loopback, messages_logged, own_signals, temporary_folder
from stj.passes.reaper import Reaper
from stj.storage.folder import Folder
from stj.storage.lease import sole_driver
from stj.storage.private import ray_folder, refuse_others
from stj.train_config import TrainConfig

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
    with sole_driver(folder), driver_ray(config, demands):
        yield


@contextmanager
def driver_ray(config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    """Ray for the driver of a directory, if there are demands. Raises CapacityError as `ray_session` does."""
    with ExitStack() as stack:
        if demands:
            stack.enter_context(last_word())
            stack.enter_context(ray_session(config, demands))
        yield


@contextmanager
def ray_session(config: RayConfig, demands: Sequence[Demand]) -> Iterator[None]:
    """Starts or joins Ray, and leaves it at the end.

    Raises CapacityError if no cluster answers, or if the cluster can never have a demanded capacity, and ConfigError if it
    wants a token. Passes and training wait themselves for what it can grow to: the engines and ranks are the only request that
    ends with them.
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
    """Starts or joins Ray, and leaves it at the end; waits for nothing.

    A Ray that was started here ends with this process, even if this process is killed, or stopped while Ray starts.

    Raises CapacityError if no cluster answers, and ConfigError if it wants a token.
    """
    with Reaper() if on_this_machine(config) else nullcontext() as reaper, messages_logged(log):
        _connect(config, reaper)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(config: RayConfig, reaper: Reaper | None = None) -> None:
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's future default, without its warning
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}  # their logs are in Ray's dashboard and session folder
    check_auth_mode()
    if reaper is None:
        _probe(_known_address(config.address))
    try:
        with own_signals(), level_line_left_out():
            if reaper:
                with reaper.marking():
                    _start_local(quiet)
            else:
                ray.init(address="auto" if in_ray_job() else config.address, **quiet)
    except AuthenticationError as error:
        raise no_token(config.address, error) from None
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise _unreachable(config.address, error) from None


def _start_local(quiet: dict[str, Any]) -> None:
    """Starts a Ray of this run alone, which no other machine reaches and whose files no other user reads.

    On a busy machine, its processes may take longer than the 30 s that Ray waits.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # ranks on CPUs; otherwise the address of the host's name
    cpus = (os.cpu_count() or 1) + HELPER_CPUS
    for attempt in range(_START_ATTEMPTS):
        try:
            with listening_on_loopback():
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, _temp_dir=_ray_folder(), **quiet)
            _close_token()
            return
        except Exception as error:  # Ray has no narrower class for this
            ray.shutdown()
            if "timed out" not in str(error) or attempt + 1 == _START_ATTEMPTS:
                raise CapacityError(f"Ray did not start on this machine: {' '.join(str(error).split())}") from None
            log.warning("Ray's processes did not start in time; trying again")


def _known_address(address: str) -> str:
    """The address that `auto` stands for, if a variable or Ray's own file names one."""
    if address != "auto" and not in_ray_job():
        return address
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    with suppress(OSError):
        return os.environ.get("RAY_ADDRESS") or file.read_text().strip()
    return address


def _ray_folder() -> str | None:
    """Where Ray keeps logs and sockets: it opens its own folder to all users, so that lies in one that no other user enters.

    None, for Ray's default place, if sockets do not fit there. Raises ConfigError if the place is another user's, who could
    read and change what this Ray does.
    """
    if folder := ray_folder():
        return str(folder)
    refuse_others(temporary_folder(), "RAY_TMPDIR")
    return None


def _close_token() -> None:
    """Closes Ray's token to other users: Ray makes it with the mode of any file."""
    token = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # there is none, or it is not ours
        token.chmod(0o600)


def _probe(address: str) -> None:
    """Fails early if nothing listens at host:port, or if it wants a token; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_PROBE_TIMEOUT_S).close()
        except OSError as error:
            raise _unreachable(address, error) from None
        check_token(address)


def _unreachable(address: str, error: Exception) -> CapacityError:
    return CapacityError(
        f"ray.address={address}: no Ray cluster answers there ({str(error).splitlines()[0]}). "
        "Start one (`ray start --head`), name another, or set ray.address=local"
    )
