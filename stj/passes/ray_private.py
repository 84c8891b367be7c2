"""The private APIs of Ray that passes use, all in one place. An upgrade of Ray may remove any of them.

tests/passes/test_ray_private.py names each one and fails by that name. No other module here reaches into Ray.
"""

import json
import logging
import os
import re
import signal
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import yaml
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants, utils, worker
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._private.state import state
from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply, NodeStatus
from ray.core.generated.gcs_pb2 import ActorTableData
from ray.data import DataContext
from ray.data._internal.cluster_autoscaler import get_or_create_autoscaling_coordinator
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.operators.map_operator import MapOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data._internal.output_buffer import OutputBlockSizeOption
from ray.exceptions import RaySystemError

from stj.machine.stderr import stderr_without
from stj.passes.nodes import HEAD, live_nodes, task_on

_ITERATION_THREAD = "iter_threaded"  # The prefetcher beside it waits for this thread, and calls nothing by itself.
_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"  # Kubernetes puts it into every pod.
_NO_ID = b"\xff"  # Ray fills an id that is not set with this byte, or leaves it empty.
_DEAD = NodeStatus.Value("DEAD")
_FAILED_LAUNCH = re.compile(r"Failed to launch \d+ nodes of type ([^:]+): (.+)")
_LEVEL_LINE = re.compile(rb"\[[^\n]*\] logging\.cc:\d+: Set ray log level from environment variable[^\n]*\n")
_LOG_TAIL = 1 << 18  # Bytes: the autoscaler writes a few lines for each launch.


def temporary_folder() -> Path:
    """Where a Ray that starts here puts its sockets and logs; every user's Ray takes the same name."""
    return Path(get_default_ray_temp_dir())


@contextmanager
def own_signals() -> Iterator[None]:
    """Keeps this process's handlers while Ray starts, and Ray's processes from the hang-up of a terminal that is closed.

    Ray's handlers of SIGTERM would end this process: that of Python with code 15, and that of C++ with a stack and an abort.
    Ray's processes would end with the terminal, before the driver could commit.
    """
    set_handler = utils.set_sigterm_handler
    in_main = threading.current_thread() is threading.main_thread()
    terminate = signal.getsignal(signal.SIGTERM)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # what Ray starts inherits this
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = set_handler
        if in_main and terminate is not None:  # None: not Python's
            signal.signal(signal.SIGTERM, terminate)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def messages_logged(log: logging.Logger) -> Iterator[None]:
    """Has Ray log, for debugging, what it would print on stdout, among a verb's results: that a worker died, or a task failed.

    `log_to_driver` says only whether the output of workers is printed. A run says itself what died, with the cause.
    """
    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, ignore_prefix=False: log.debug("Ray: %s", " ".join(data["lines"]))
    try:
        yield
    finally:
        worker.print_to_stdstream = before


@contextmanager
def level_line_left_out() -> Iterator[None]:
    """Leaves out the line in which Ray's core says on stderr at which level it logs from then on.

    It is written before that level counts, so that no variable silences it.
    """
    connect = worker.connect

    def quiet_connect(*args: Any, **kwargs: Any) -> Any:
        with stderr_without(_LEVEL_LINE):
            return connect(*args, **kwargs)

    worker.connect = quiet_connect
    try:
        yield
    finally:
        worker.connect = connect


@contextmanager
def listening_on_loopback() -> Iterator[None]:
    """Has a Ray that starts in the block listen on loopback alone, as Ray itself does on macOS and Windows."""
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


class StepCallback(ExecutionCallback, ABC):  # type: ignore[misc]
    """Runs in Ray Data's own loop. An error raised here ends the execution."""

    @abstractmethod
    def on_step(self, executor: StreamingExecutor) -> None:
        """Runs at each step of the loop."""

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """Ray Data's name for `on_step`."""
        self.on_step(executor)


@dataclass(frozen=True, kw_only=True)
class ActorPool:
    """The actors of one operator, as Ray Data knows them at this step."""

    outputs: int
    """Output blocks that the next operator has taken so far."""
    tasks: int
    """Tasks running on the actors."""
    running: list[Any]
    """Actors that have started once, including those that restart."""
    restarting: list[Any]
    """Running actors that Ray is starting again."""
    pending: list[Any]
    """Actors that have not started yet."""


class SmallReads(ExecutionCallback):  # type: ignore[misc]
    """Makes each table leave its reading task at once. Ray Data would hold it back until the task has read a whole block."""

    def before_execution_starts(self, executor: StreamingExecutor) -> None:
        """Changes the operator that reads, which is the first one with a function."""
        read = next(operator for operator in executor._topology if isinstance(operator, MapOperator))
        for function in read.get_map_transformer()._transform_fns:
            function._output_block_size_option = OutputBlockSizeOption.of(disable_block_shaping=True)


def call_each_step(context: DataContext, callbacks: Sequence[Callable[[], StepCallback]]) -> None:
    """Makes executions under a context create these callbacks and call them at each step."""
    context.custom_execution_callback_classes = list(callbacks)


def actor_pools(executor: StreamingExecutor) -> list[ActorPool]:
    """The actor pools of a running execution."""
    return [_actor_pool(operator) for operator in executor._topology if isinstance(operator, ActorPoolMapOperator)]


def _actor_pool(operator: ActorPoolMapOperator) -> ActorPool:
    pool = operator._actor_pool
    return ActorPool(
        outputs=operator.metrics.num_outputs_taken,
        tasks=operator.metrics.num_tasks_running,
        running=list(pool._running_actors),
        restarting=[actor for actor, actor_state in pool._running_actors.items() if actor_state.is_restarting],
        pending=list(pool._pending_actors.values()),
    )


def forget_block_stats(executor: StreamingExecutor) -> None:
    """Empties the statistics that Ray Data keeps of each output block."""
    for operator in executor._topology:
        if isinstance(operator, MapOperator):
            operator._output_blocks_stats.clear()


def end_streaming_executors(timeout_s: float) -> None:
    """Ends Ray Data's threads in this process and waits for each of them, at most `timeout_s` seconds."""
    for thread in threading.enumerate():
        if isinstance(thread, StreamingExecutor):
            thread.shutdown(force=True)
            thread.join(timeout_s)


def iteration_threads() -> set[threading.Thread]:
    """The threads of this process that read blocks for iterators of Ray Data.

    A closed iterator only asks them to end. One that calls Ray while Ray shuts down ends the process, without a word.
    """
    return {thread for thread in threading.enumerate() if thread.name == _ITERATION_THREAD}


def has_process(actor: "ray.actor.ActorHandle") -> bool:
    """Whether a machine has given an actor its resources and a process.

    An actor that queues for a machine's resources already has that machine's node and address, so those prove nothing.
    """
    record = state._connect_and_get_accessor().get_actor_info(actor._actor_id)
    return bool(record and ActorTableData.FromString(record).address.worker_id.strip(_NO_ID))


ClusterSource = Literal["file", "kuberay", "static", "unknown"]
"""Where the head finds the autoscaler's configuration."""


def autoscaler_config(timeout_s: float = 30) -> tuple[ClusterSource, dict[str, Any]]:
    """The configuration of the cluster's autoscaler, and where the head found it; empty if it has none.

    Raises RayError or GetTimeoutError if the head does not answer.
    """
    answer: tuple[ClusterSource, dict[str, Any]] = _on_head(_config_here, timeout_s)
    return answer


def launch_failures(timeout_s: float = 10) -> dict[str, str]:
    """Why machines could not be started, by type: the newest reason in the log of the autoscaler v2, which reports none.

    Raises RayError or GetTimeoutError if the head does not answer.
    """
    reasons: dict[str, str] = _on_head(_read_failures, timeout_s)
    return reasons


def _on_head(function: Callable[[], Any], timeout_s: float) -> Any:
    """Runs a function on the head, whatever its resources are."""
    heads = [node for node in live_nodes() if HEAD in node["Resources"]]
    if not heads:
        raise RaySystemError("no machine of the cluster is its head")
    return ray.get(task_on(heads[0], function, retries=1).remote(), timeout=timeout_s)


def _config_here() -> tuple[ClusterSource, dict[str, Any]]:
    """Runs on the head, whose autoscaler and whose workers have the address of its control service in the same words."""
    return _find_config(ray.get_runtime_context().gcs_address)


def _find_config(gcs_address: str) -> tuple[ClusterSource, dict[str, Any]]:
    """The autoscaler is a process on the head, which has its configuration's file among its arguments.

    In KubeRay the autoscaler is in another container of the head's pod, and reads the RayCluster object.
    """
    monitors = ("autoscaler/v2/monitor.py", "autoscaler/_private/monitor.py")
    for process, arguments in _processes():
        if f"--gcs-address={gcs_address}" in arguments and any(word.endswith(monitors) for word in arguments):
            key = "--autoscaling-config="
            path = next((word.removeprefix(key) for word in arguments if word.startswith(key)), "")
            if not path:
                return "static", {}
            file = process / "cwd" / Path(path).expanduser()  # it may be relative to the folder where Ray was started
            return "file", yaml.safe_load(file.read_text())
    cluster, namespace = os.environ.get("RAY_CLUSTER_NAME"), Path(_NAMESPACE)
    if cluster and namespace.exists():
        return "kuberay", _RunningGroups(cluster, namespace.read_text().strip())()
    return "unknown", {}


class _RunningGroups(AutoscalingConfigProducer):  # type: ignore[misc]
    """Ray's reader of a RayCluster object, which would count on the machines of groups that are suspended."""

    def _fetch_ray_cr_from_k8s_with_retries(self) -> dict[str, Any]:
        cluster: dict[str, Any] = super()._fetch_ray_cr_from_k8s_with_retries()
        for group in cluster["spec"].get("workerGroupSpecs") or []:
            if group.get("suspend"):
                group["minReplicas"] = group["maxReplicas"] = 0
        return cluster


def _processes() -> Iterator[tuple[Path, list[str]]]:
    """The processes of this machine, as their folders in /proc, with their command lines."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            yield process, (process / "cmdline").read_bytes().decode(errors="replace").split("\0")


def _read_failures() -> dict[str, str]:
    """Runs on the head."""
    log = Path(worker._global_node.get_logs_dir_path()) / "monitor.log"
    if not log.exists():
        return {}
    with log.open("rb") as lines:
        lines.seek(max(0, log.stat().st_size - _LOG_TAIL))
        tail = lines.read().decode(errors="replace")
    return {kind: reason.strip() for kind, reason in _FAILED_LAUNCH.findall(tail)}


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """A machine as the head knows it."""

    node_id: str
    kind: str
    """Name of its type; empty if the provider gives none."""
    labels: dict[str, str]
    total: dict[str, float]
    free: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class AutoscalerState:
    """What the autoscaler does now. A cluster without one has only machines and waiting groups."""

    machines: list[MachineState]
    starting: Counter[str]
    """Machines that are asked for or starting, by type."""
    refused: Counter[str]
    """Launches that have failed since the cluster started, by type: the autoscaler v2 alone counts them."""
    reasons: dict[str, tuple[float, str]]
    """When a type could not be had, in seconds since 1970, and why: the autoscaler v1 alone says that."""
    impossible: list[dict[str, float]]
    """Bundles that no machine can be added for: the autoscaler v2 alone says that."""
    groups: list[list[dict[str, float]]]
    """Bundles of the placement groups that wait for machines."""


def autoscaler_state() -> AutoscalerState:
    """What the autoscaler v2 or v1 does now."""
    reply = _cluster_status()
    now, cluster = reply.autoscaling_state, reply.cluster_resource_state
    v1 = _v1_report()
    starting = Counter({kind: int(count) for kind, count in v1.get("pending_launches", {}).items()})
    starting.update(node[1] for node in v1.get("pending_nodes", []))
    for request in now.pending_instance_requests:
        starting[request.ray_node_type_name] += request.count
    starting.update(instance.ray_node_type_name for instance in now.pending_instances)
    refused: Counter[str] = Counter()
    for failure in now.failed_instance_requests:
        refused[failure.ray_node_type_name] += failure.count
    return AutoscalerState(
        machines=[_machine_state(node) for node in cluster.node_states if node.status != _DEAD],
        starting=+starting,
        refused=refused,
        reasons=_v1_refusals(v1),
        impossible=[dict(request.resources_bundle) for request in now.infeasible_resource_requests],
        groups=[_group(request) for request in cluster.pending_gang_resource_requests],
    )


def machine_types_of_nodes() -> dict[str, str]:
    """The name of each machine's type, by its id in Ray; empty if its provider gives no name."""
    return {node.node_id.hex(): node.ray_node_type_name for node in _cluster_status().cluster_resource_state.node_states}


def _machine_state(node: Any) -> MachineState:
    return MachineState(
        node_id=node.node_id.hex(),
        kind=node.ray_node_type_name,
        labels=dict(node.labels),
        total=dict(node.total_resources),
        free=dict(node.available_resources),
    )


def _group(request: Any) -> list[dict[str, float]]:
    bundles = request.bundle_selectors[0].resource_requests if request.bundle_selectors else request.requests
    return [dict(bundle.resources_bundle) for bundle in bundles]


def _cluster_status() -> Any:
    reply = GetClusterStatusReply()
    reply.ParseFromString(worker.global_worker.gcs_client.get_cluster_status())
    return reply


def _v1_report() -> dict[str, Any]:
    """The report of the autoscaler v1, empty if there is none."""
    text = worker.global_worker.gcs_client.internal_kv_get(DEBUG_AUTOSCALING_STATUS.encode(), None, timeout=5)
    return (json.loads(text) if text else {}).get("autoscaler_report") or {}


def _v1_refusals(report: dict[str, Any]) -> dict[str, tuple[float, str]]:
    kinds = (report.get("node_availability_summary") or {}).get("node_availabilities", {})
    refused = {kind: facts for kind, facts in kinds.items() if not facts["is_available"]}
    return {kind: (facts["last_checked_timestamp"], _v1_reason(facts)) for kind, facts in refused.items()}


def _v1_reason(facts: dict[str, Any]) -> str:
    cause = facts.get("unavailable_node_information")
    return f"{cause['category']}: {cause['description']}" if cause else ""


def hold_machines(name: str, bundles: Sequence[dict[str, float]], labels: dict[str, str], seconds: float) -> None:
    """Asks the autoscaler for machines with these labels, through the actor in which Ray Data and Ray Train ask for theirs.

    The request ends after that time, or if another one of this name replaces it.
    """
    coordinator = get_or_create_autoscaling_coordinator()
    request = coordinator.request_resources.remote(
        requester_id=name,
        resources=list(bundles),
        label_selectors=[labels] * len(bundles),
        expire_after_s=seconds,
    )
    ray.get(request, timeout=30)


def release_machines(name: str) -> None:
    """Ends a request of `hold_machines`."""
    ray.get(get_or_create_autoscaling_coordinator().cancel_request.remote(name), timeout=30)


def token_header() -> dict[str, str]:
    """The header that carries Ray's token; empty if tokens are off. Raises AuthenticationError if there is no token."""
    header: dict[str, str] = get_auth_headers_if_auth_enabled({})
    return header
