"""What several tests share: a small Ray of their own, rows, and the scripted world."""

import logging
import os
import pty
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from stj.passes.reaper import marked
from stj.rows import Row, Turn

settings.register_profile("stj", deadline=None, max_examples=25)  # machines are noisy: no test rests on wall time
settings.register_profile("thorough", settings.get_profile("stj"), max_examples=400)
settings.load_profile("stj")


@pytest.fixture(scope="module")
def ray_local() -> Iterator[None]:
    """A Ray of one test module alone, with two GPUs that only Ray counts; a cluster that runs on the machine is left alone."""
    import ray

    ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's handler of Ctrl-C, for tests that interrupt: a script's background processes ignore Ctrl-C from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def root_level() -> None:
    """Gives the root logger its own level again: a library may change it when a test imports it, as vLLM's server does."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real public data, if there is one."""
    folder = os.environ.get("STJ_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("STJ_TEST_DATA does not name a folder with the real data sets")
    return Path(folder)


def make_row(position: int = 0, text: str = "What is 2 + 2?", **fields: object) -> Row:
    """A training row with one user turn."""
    values: dict[str, object] = {"id": f"row-{position}", "position": position, "turns": (Turn(role="user", content=text),)}
    return Row(**(values | fields))  # type: ignore[arg-type]


def on_terminal(words: Sequence[str], columns: int = 80, **environment: str) -> str:
    """What a command prints on a pseudo-terminal in place of stdout and stderr, with the terminal's codes."""
    inherited = {name: os.environ[name] for name in os.environ.keys() - {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"}}
    settings = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "24"} | environment
    screen, terminal = pty.openpty()
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with running(words, **streams, env=inherited | settings) as process:
        os.close(terminal)
        written = b""
        try:
            while part := os.read(screen, 65536):
                written += part
        except OSError:  # how Linux says that the terminal's other end is closed
            pass
        os.close(screen)
        assert process.wait(600) == 0, written
    return written.decode().replace("\r\n", "\n")


@contextmanager
def running(words: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process that does not outlive the block, even if the test fails there."""
    with subprocess.Popen(words, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 600) -> None:
    """Waits until a process has brought a condition about; fails if it ends before."""
    assert soon(lambda: condition() or process.poll() is not None, seconds), "the process did not get there"
    assert condition(), f"the process ended before, with {process.poll()}"


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket of an S3 server of this test session alone; the environment holds the keys to it."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        fs.S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True).create_dir("bucket")
        yield f"s3://bucket?{options}"
    server.stop()


@pytest.fixture(scope="module")
def mark() -> Iterator[str]:
    """A mark in the environment of the processes that this module starts; its engines are gone when the module ends."""
    mark = f"STJ_TEST_{uuid.uuid4().hex}"
    os.environ[mark] = "1"
    yield mark
    del os.environ[mark]
    for process in engines(mark):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process, signal.SIGKILL)


def engines(mark: str) -> list[int]:
    """Processes of engines, the warm one among them, that hold the mark in their environment; the oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"stj.engine.host" in (folder / "cmdline").read_bytes() and mark.encode() in (folder / "environ").read_bytes():
                started = int((folder / "stat").read_text().rpartition(")")[2].split()[19])  # their numbers may begin anew
                found.append((started, int(folder.name)))
        except OSError:
            continue
    return [process for _, process in sorted(found)]


def commands(mark: bytes) -> list[str]:
    """The commands of the processes whose environment holds this `NAME=value`."""
    found = []
    for left in marked(mark):
        with suppress(OSError):  # it has just ended
            found.append(Path(f"/proc/{left}/cmdline").read_text().replace("\0", " ").strip())
    return found


def soon(condition: Callable[[], bool], seconds: float = 600) -> bool:
    """Whether the condition is met within this many seconds; an engine on a busy machine takes a minute to end."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB. Only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
