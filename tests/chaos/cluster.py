"""Three machines of Ray on this one: a head, where the driver runs, and two that can be lost and replaced."""

import os
import time
from contextlib import suppress
from unittest.mock import patch

import ray
from ray._private.node import Node
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.chaos.processes import Processes, alive, kill

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",  # without a dashboard, our driver turns it off
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2",
    # A machine whose power is cut is known to be dead after 3 s, not 15 s.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_initial_delay_ms": "1000",
}
"""What the machines and drivers need in their environment."""

_MACHINES = 2
_HEAD_CPUS, _CPUS = 0, 2  # What Ray counts: two engines and two helpers in all, so engines and ranks are where machines go.


class ThreeMachines:
    """A cluster whose parts can be struck. This process does not join it."""

    def __init__(self) -> None:
        os.environ.update(ENVIRONMENT)
        self._start()

    @property
    def address(self) -> str:
        """Where drivers find it."""
        return str(self._cluster.address)

    @property
    def raylets(self) -> list[int]:
        """Process ids of Ray itself on all machines, the head first."""
        return [self._head, *self._nodes.values()]

    @property
    def lendable(self) -> list[Node]:
        """The machines that can be lost, the oldest first."""
        return list(self._nodes)

    def drain(self, node: Node, seconds: float) -> bool:
        """Announces, as a spot market does, that a machine will soon be gone; returns whether Ray accepts the notice."""
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        gone_ms = int((time.time() + seconds) * 1000)
        accepted, _ = GcsClient(address=self.address).drain_node(node.node_id, reason, "spot", gone_ms)
        return bool(accepted)

    def lose(self, node: Node) -> bool:
        """Cuts the power of a machine, and has another one come; returns whether none of its processes is left.

        If it was announced, Ray itself may have ended there before.
        """
        raylet = self._nodes.pop(node)
        killed = kill(Processes.now().machine(raylet)) or not alive(raylet)
        with suppress(Exception):  # it is dead, and Ray's bookkeeping of its processes may say so
            self._cluster.remove_node(node, allow_graceful=False)
        self._add()
        return killed

    def kill_head(self) -> bool:
        """Kills Ray's two processes that a cluster cannot lose: the store of its state, and the head's own."""
        pids = {self._head, int(self._cluster.head_node.all_processes["gcs_server"][0].process.pid)}
        table = Processes.now()
        return kill([table.by_pid[pid] for pid in pids if pid in table.by_pid])

    def restart(self) -> None:
        """Another cluster, in place of one whose head is dead."""
        self.close()
        self._start()

    def close(self) -> None:
        """Ends all processes of the cluster."""
        table = Processes.now()
        doomed = [process for raylet in self.raylets for process in table.machine(raylet)]
        with suppress(Exception):
            self._cluster.shutdown()
        kill([process for process in doomed if process.pid in Processes.now().by_pid])

    def _start(self) -> None:
        ray._private.services.find_gcs_addresses.cache_clear()
        with patch("ray._private.utils.write_ray_address"):  # `address="auto"` must not find this cluster
            self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": _HEAD_CPUS, "include_dashboard": False})
        self._head = raylet_of(self._cluster.head_node)
        self._nodes: dict[Node, int] = {}
        for _ in range(_MACHINES):
            self._add()

    def _add(self) -> None:
        node = self._cluster.add_node(num_cpus=_CPUS)
        self._nodes[node] = raylet_of(node)


def raylet_of(node: Node) -> int:
    """Process id of Ray itself on a machine."""
    return int(node.all_processes["raylet"][0].process.pid)
