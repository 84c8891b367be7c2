"""SIGTERM and Ctrl-C that come where Python drops exceptions still stop the command."""

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from stj.cli.lost_signals import _SendAgain

ROOT = Path(__file__).parents[1]
PROGRAM = """
import signal, weakref
from stj.cli.lost_signals import send_lost_signals_again
from tests.waiting import wait_for_a_signal

def stop(signum, frame):
    raise SystemExit(143)

class Dying:
    def __del__(self):
        signal.raise_signal({signal})

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, signal.default_int_handler)
send_lost_signals_again()
send_lost_signals_again()
{where}
print("it goes on", flush=True)
wait_for_a_signal()
"""
DELETED = "dying = Dying(); del dying"
IN_A_CALLBACK = "thing = set(); seen = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM)); del thing"


def ends(number: str, where: str = DELETED) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program that gets a signal where its exception is lost."""
    program = PROGRAM.format(signal=number, where=where)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("where", [DELETED, IN_A_CALLBACK])
def test_sigterm_stops_the_command(where: str) -> None:
    assert ends("signal.SIGTERM", where) == (143, "it goes on\n", "")


@pytest.mark.slow
def test_ctrl_c_stops_the_command() -> None:
    code, said, errors = ends("signal.SIGINT")
    assert (code, said) == (-2, "it goes on\n")
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in errors


@pytest.mark.slow
def test_every_command_is_covered() -> None:
    program = "import sys; from stj.cli import main; main(['status', 'nowhere']); print(type(sys.unraisablehook).__name__)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert shown.stdout.split() == ["_SendAgain"], shown.stderr


def test_other_exceptions_and_those_of_other_threads_are_shown_as_before() -> None:
    hook, shown = _SendAgain(), []
    hook._before = shown.append
    others = [SimpleNamespace(exc_value=error) for error in (ValueError(), SystemExit(143), SystemExit(1))]
    hook(others[0])
    hook(others[2])
    thread = threading.Thread(target=hook, args=(others[1],))
    thread.start()
    thread.join()
    assert shown == [others[0], others[2], others[1]]


@pytest.mark.slow
def test_a_stop_that_was_lost_is_still_the_first() -> None:
    """The second stop ends a command at once, before it could commit."""
    program = """
import signal
from stj.cli.signals import handle_signals
from tests.waiting import wait_for_a_signal

class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

handle_signals("run")
try:
    dying = Dying()
    del dying
    wait_for_a_signal()
finally:
    print("committed", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stdout) == (143, "committed\n")
    assert "at once" not in ended.stderr
