"""A Ray whose autoscaler, v2 or v1, starts fake machines: processes on this machine, with GPUs that only Ray counts.

Ray's own `AutoscalingCluster` lacks a file in the wheel, and stops every other Ray of the machine. Here the head is started by
hand, with the same provider as an external one. All processes carry a mark in their environment, by which they are stopped:
those of the autoscaler have no process group in common with the head.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

import pytest
import yaml
from ray._raylet import Config
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

Version = Literal["v2", "v1", "static"]

ROOT = Path(__file__).parents[2]
IDLE_S = 6
HEAD_ID = "f" * 51 + "00000"
_REFUSED = "STJ_FAKE_REFUSED"  # The file that names the types that cannot be had.
TYPES = {
    "gpu-on-demand": {"resources": {"CPU": 4, "GPU": 2}, "labels": {"market-type": "on-demand"}, "max_workers": 2},
    "gpu-spot": {"resources": {"CPU": 4, "GPU": 2}, "labels": {"market-type": "spot"}, "max_workers": 2},
}
_HEAD_TYPE = "ray.head.default"
_LEGACY = (
    "auth",
    "file_mounts",
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
"""Keys that Ray fills in for its own providers only; without them the autoscaler v2 ends at once."""


class FakeMachines(FakeMultiNodeProvider):  # type: ignore[misc]
    """Ray's fake provider, which can refuse types as AWS does when it has none."""

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: Any, labels: Any
    ) -> None:
        if tags[TAG_RAY_USER_NODE_TYPE] in Path(os.environ[_REFUSED]).read_text().split():
            raise NodeLaunchException("InsufficientInstanceCapacity", "no p5.48xlarge in us-west-2a", None)
        super().create_node_with_resources_and_labels(node_config, tags, count, resources, labels)


class FakeCluster:
    """A head, and the autoscaler beside it."""

    def __init__(self, version: Version, head_cpus: int = 1) -> None:
        self.version = version
        self._head_cpus = head_cpus
        self._mark = f"STJ_FAKE={uuid.uuid4().hex}"
        self._folder = Path(tempfile.mkdtemp(prefix="stj-fake-"))  # short: sockets below it have at most 107 characters
        host = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()[0]
        self.address = f"{host}:{_free_port()}"  # Ray would replace 127.0.0.1 by the machine's address
        self.configure()
        self.refuse()
        try:
            self._start(version)
        except BaseException:
            self.stop()
            raise

    def refuse(self, *kinds: str) -> None:
        """Names the types that cannot be had from now on."""
        (self._folder / "refused").write_text(" ".join(kinds))

    def configure(self, most: int = 4, types: Mapping[str, Any] = TYPES) -> None:
        """Sets the types and the most machines of all; the autoscaler reads them again at each update."""
        config = {
            "cluster_name": "stj-fake",
            "max_workers": most,
            "idle_timeout_minutes": IDLE_S / 60,
            "upscaling_speed": 1000,
            "provider": self._provider_settings(),
            "head_node_type": _HEAD_TYPE,
            "available_node_types": {
                _HEAD_TYPE: {"resources": {"CPU": self._head_cpus}, "node_config": {}, "max_workers": 0},
                **{name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in types.items()},
            },
            "file_mounts_sync_continuously": False,
            **{key: {} if key in ("auth", "file_mounts") else [] for key in _LEGACY},
        }
        new = self._folder / "new.yaml"
        new.write_text(yaml.safe_dump(config))
        new.rename(self._folder / "autoscaling.yaml")

    def _provider_settings(self) -> dict[str, Any]:
        return {
            "type": "external",
            "module": f"{__name__}.{FakeMachines.__name__}",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,  # v1
            "use_node_id_as_ip": True,  # v1: all machines have the same address
            "launch_multiple": True,  # v2: otherwise one machine at each update
            "gcs_address": self.address,
            "head_node_id": HEAD_ID,
        }

    def _start(self, version: Version) -> None:
        host, port = self.address.split(":")
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--node-ip-address={host}", f"--port={port}"]
        words += [
            f"--num-cpus={self._head_cpus}",
            "--num-gpus=0",
            f"--temp-dir={self._folder}",
            "--object-store-memory=80000000",
        ]
        words += ["--include-dashboard=false", "--disable-usage-stats"]
        if version != "static":
            words.append(f"--autoscaling-config={self._folder / 'autoscaling.yaml'}")
        name, mark = self._mark.split("=")
        started = subprocess.run(
            words,
            env=os.environ | _environment(version) | {name: mark, _REFUSED: str(self._folder / "refused")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not started.returncode, started.stdout + started.stderr

    def kill_machine(self, node_id: str) -> None:
        """Kills the processes of a machine, as if its power were cut."""
        for pid, environment in self._processes():
            if f"RAY_OVERRIDE_NODE_ID_FOR_TESTING={node_id}" in environment and b"raylet/raylet" in _read(pid, "cmdline"):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ends all processes. `ray stop` would end every Ray of the machine."""
        deadline = time.monotonic() + 30
        while (processes := self._processes()) and time.monotonic() < deadline:
            for pid, _ in processes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        rmtree(self._folder, ignore_errors=True)

    def _processes(self) -> list[tuple[int, str]]:
        """Living processes that carry the mark, with their environment."""
        marked = []
        for folder in Path("/proc").glob("[0-9]*"):
            environment = _read(int(folder.name), "environ").decode(errors="replace")
            if f"{self._mark}\0" in environment and int(folder.name) != os.getpid():
                marked.append((int(folder.name), environment))
        return marked


@contextmanager
def fake_cluster(version: Version, head_cpus: int = 1) -> Iterator[FakeCluster]:
    """A fake cluster that ends with the block. This process can join it: within the block its Ray uses no tokens either."""
    with _without_tokens():
        cluster = FakeCluster(version, head_cpus)
        try:
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def _without_tokens() -> Iterator[None]:
    """A local Ray turns tokens on for its process, which reads that once: here it reads it again, before and after."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", "disabled")
            Config.initialize("")
            yield
    finally:
        Config.initialize("")


def _environment(version: Version) -> dict[str, str]:
    """What the head needs, and what its machines inherit from the autoscaler's process."""
    return {
        "PYTHONPATH": str(ROOT),  # tests/ is not installed
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_NODE_TYPE_NAME": _HEAD_TYPE,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_enable_autoscaler_v2": "0" if version == "v1" else "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        # A machine whose power is cut is known to be dead after 3 s, not 15 s.
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_initial_delay_ms": "1000",
    }


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:  # it has ended
        return b""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port
