"""One iteration as a Ray job, on a cluster that runs: `ray job submit --working-dir . -- stj iterate ...`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.long]

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A separate head; it ends, with all that it started, when its process is ended here."""
    port, dashboard, agent = free_port(), free_port(), free_port()  # the defaults may be another Ray's
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "RAY_AUTH_MODE": "disabled"}
    start = [str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
    start += [f"--dashboard-agent-listen-port={agent}"]
    start += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=4", "--disable-usage-stats"]
    log = (tmp_path_factory.mktemp("ray") / "head.log").open("wb")
    head = subprocess.Popen(start, env=environment, stdout=log, stderr=log)
    ready = {**environment, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    probe = [str(BIN / "ray"), "job", "submit", "--", "true"]  # the head takes jobs some seconds after it listens
    deadline = time.monotonic() + 600
    try:
        while subprocess.run(probe, env=ready, capture_output=True, check=False).returncode:
            assert head.poll() is None, "ray start ended"
            assert time.monotonic() < deadline, "the head takes no jobs"
            time.sleep(1)
        yield ready
    finally:
        head.terminate()
        head.wait(timeout=600)


def submit(environment: dict[str, str], *overrides: str) -> subprocess.CompletedProcess[str]:
    words = [str(BIN / "ray"), "job", "submit", "--working-dir", str(ROOT / "conf"), "--", "stj", "iterate", "mini.yaml"]
    small = ["source.limit=120", "heldout.limit=6", "iterations=1"]
    return subprocess.run(
        [*words, *small, *overrides], env=environment, capture_output=True, text=True, timeout=1800, check=False
    )


def test_a_relative_run_root_is_refused_in_a_job(cluster: dict[str, str]) -> None:
    job = submit(cluster)
    assert job.returncode != 0
    assert "run_root=runs/mini is relative" in job.stdout + job.stderr


def test_an_iteration_runs_as_a_job_and_is_resumed_by_the_same_command(cluster: dict[str, str], tmp_path: Path) -> None:
    job = submit(cluster, f"run_root={tmp_path}/run")
    assert job.returncode == 0, job.stdout + job.stderr
    assert (tmp_path / "run" / "report.json").exists()
    again = submit(cluster, f"run_root={tmp_path}/run")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "all 1 iterations" in again.stdout
