"""What a killed driver leaves of the Ray that it started: nothing, soon."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from stj.passes.reaper import MARK, Reaper, marked
from tests.conftest import commands, running, soon

ROOT = Path(__file__).parents[2]
DRIVER = """
import time
from stj.cluster_config import RayConfig
from stj.passes.session import ray_session
with ray_session(RayConfig(address="local"), []):
    print("ready", flush=True)
    time.sleep(600)
"""
STOPPED = """
import subprocess
import ray
from stj.cluster_config import RayConfig
from stj.passes.session import joined_cluster

def init(**_):
    subprocess.Popen(["sleep", "600"])
    raise SystemExit(143)

ray.init = init
with joined_cluster(RayConfig(address="local")):
    pass
"""


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A variable in the environment of all that the test starts."""
    name = f"STJ_TEST_{uuid.uuid4().hex}"
    monkeypatch.setenv(name, "1")
    return f"{name}=1".encode()


@pytest.mark.engine
def test_no_process_of_ray_outlives_a_killed_driver(mark: bytes) -> None:
    with running([sys.executable, "-c", DRIVER], cwd=ROOT, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        assert soon(lambda: sum("Agent" in command for command in commands(mark)) == 2, 60), "Ray's agents did not start"
    assert soon(lambda: not list(marked(mark)), 25), commands(mark)


@pytest.mark.slow
def test_a_process_that_hangs_ends_with_the_driver_and_others_do_not(mark: bytes) -> None:
    source = (
        "import subprocess, time\nfrom stj.passes.reaper import Reaper\nreaper = Reaper()\n"
        "with reaper.marking():\n    subprocess.Popen(['sleep', '600'])\n"
        "subprocess.Popen(['sleep', '601'])\nprint('ready', flush=True)\ntime.sleep(600)"
    )
    with running([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
    assert soon(lambda: commands(mark) == ["sleep 601"], 30)
    for left in marked(mark):
        os.kill(left, signal.SIGKILL)


@pytest.mark.slow
def test_what_a_stop_leaves_of_a_ray_that_has_not_started_whole_ends_too(mark: bytes) -> None:
    assert subprocess.run([sys.executable, "-c", STOPPED], cwd=ROOT, check=False).returncode == 143
    try:
        assert soon(lambda: not list(marked(mark)), 25), commands(mark)
    finally:
        for left in marked(mark):
            os.kill(left, signal.SIGKILL)


def test_a_closed_watch_leaves_nothing(mark: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    reaper = Reaper()
    with reaper.marking():
        sleeper = subprocess.Popen(["sleep", "600"])
        environment = Path(f"/proc/{sleeper.pid}/environ")
        assert soon(lambda: MARK.encode() in environment.read_bytes(), 20)  # Linux shows it a moment after the start
        (seen,) = [entry for entry in environment.read_bytes().split(b"\0") if MARK.encode() in entry]
    assert list(marked(seen)) == [sleeper.pid]
    reaper.close()
    sleeper.kill()
    sleeper.wait()
    assert not list(marked(mark))


def test_the_watch_gets_nothing_of_the_environment_but_where_libraries_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that needs them would not start without, and nobody would see it."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/of/a/module")
    reaper = Reaper()
    environment = Path(f"/proc/{reaper._process.pid}/environ")
    assert soon(lambda: environment.read_bytes() == b"LD_LIBRARY_PATH=/of/a/module\0", 20)
    reaper.close()
