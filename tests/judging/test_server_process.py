"""`stj serve` and its server, vLLM's process: whatever ends one of them ends both, and the exit code says what it was."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stj.cli import main
from stj.passes.reaper import marked
from tests.conftest import running, soon

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
from stj.cli.signals import handle_signals
from stj.cli.streams import fail
from stj.errors import StjError
from stj.judging import server_process
handle_signals("serve")
server_process._STOPPING_S = float(sys.argv[1])
try:
    server_process.run_server([sys.executable, "-c", sys.argv[2]], {})
except KeyboardInterrupt:
    sys.exit(130)
except StjError as error:
    sys.exit(fail(str(error), error.exit_code))
"""
STARTED = "import os, signal, subprocess, sys, time; engine = subprocess.Popen(['sleep', '600'])\n"
ORDERLY = "signal.signal(signal.SIGTERM, lambda *_: (engine.kill(), sys.exit(0)))\n"
FAILS = "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(3))\n"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
READY = "print('ready', os.getpid(), flush=True); time.sleep(600)"


def served(server: str, act: Callable[["subprocess.Popen[str]", int], None], stopping_s: float = 60) -> tuple[int, str]:
    """Exit code and stderr of `stj serve` with this server, after something was done to them; nothing of it may be left."""
    words = [sys.executable, "-c", SERVE, str(stopping_s), server]
    with running(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready, server_id = process.stdout.readline().split()
        assert ready == "ready"
        marks = Path(f"/proc/{server_id}/environ").read_bytes().split(b"\0")
        [mark] = [word for word in marks if word.startswith(b"STJ_RAY_OF_DRIVER=")]
        act(process, int(server_id))
        code = process.wait(600)
        assert soon(lambda: not list(marked(mark)))
        return code, process.stderr.read()


def test_a_stop_ends_the_server_and_its_exit_code_says_so() -> None:
    code, printed = served(STARTED + ORDERLY + READY, lambda process, _: process.terminate())
    assert (code, printed) == (143, "stj: stopped by SIGTERM\n")


def test_ctrl_c_ends_the_server(ctrl_c: None) -> None:
    code, _ = served(STARTED + ORDERLY + READY, lambda process, _: process.send_signal(signal.SIGINT))
    assert code == 130


@pytest.mark.slow
def test_a_server_that_does_not_hear_a_stop_is_killed_after_a_while() -> None:
    code, printed = served(STARTED + DEAF + READY, lambda process, _: process.terminate(), stopping_s=0.5)
    assert (code, printed) == (143, "stj: stopped by SIGTERM\n")


@pytest.mark.slow
def test_a_second_stop_waits_for_nothing() -> None:
    def twice(process: "subprocess.Popen[str]", server_id: int) -> None:
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.readline() == "stj: stopped by SIGTERM\n"
        process.terminate()

    code, printed = served(STARTED + DEAF + READY, twice)
    assert (code, printed) == (143, "\nstj: ended at once by SIGTERM\n")


@pytest.mark.slow
def test_a_killed_command_leaves_no_server() -> None:
    code, _ = served(STARTED + DEAF + READY, lambda process, _: process.kill())
    assert code == -signal.SIGKILL


@pytest.mark.slow
def test_a_server_that_dies_is_an_error_that_names_the_signal() -> None:
    code, printed = served(STARTED + READY, lambda _, server_id: os.kill(server_id, signal.SIGKILL))
    assert (code, printed.count("\n")) == (1, 1)
    assert "SIGKILL" in printed


@pytest.mark.slow
def test_a_server_that_fails_is_an_error_with_its_exit_code() -> None:
    code, printed = served(STARTED + FAILS + READY, lambda _, server_id: os.kill(server_id, signal.SIGUSR1))
    assert (code, printed.count("\n")) == (1, 1)
    assert "exit code 3" in printed


@pytest.mark.slow
def test_a_server_that_somebody_else_ends_in_order_ends_the_command_without_an_error() -> None:
    code, printed = served(STARTED + ORDERLY + READY, lambda _, server_id: os.kill(server_id, signal.SIGTERM))
    assert (code, printed) == (0, "")


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "Address already in use"),
        ("192.0.2.1", "Cannot assign requested address"),
        ("no such host", ""),
        ("", "Address already in use"),
    ],
)
def test_an_address_where_no_server_can_listen_is_refused_before_the_start(
    host: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "package://mini/seed_model", "engine.device=cpu", "--host", host, "--port", str(port)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"stj: --host {host} --port {port}: cannot be used: {reason}")
    assert printed.endswith("; give an address of this machine and a free port\n")
    assert printed.count("\n") == 1
