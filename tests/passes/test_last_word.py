"""A driver that is killed leaves one line, and one that ends well or with an error of its own leaves none."""

import signal
import subprocess
import sys

import pytest

BLOCK = "import os, signal, sys\nfrom stj.passes.last_word import last_word\nwith last_word():\n    "


def ends(how: str) -> "subprocess.CompletedProcess[str]":
    """A process that ends like this within the block; returns when nobody holds its stderr any more."""
    return subprocess.run([sys.executable, "-c", BLOCK + how], capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code"),
    [
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, id="kill -9"),
        pytest.param("os._exit(1)", 1, id="as Ray ends a process"),
        pytest.param("os.killpg(os.setpgid(0, 0) or os.getpid(), signal.SIGKILL)", -signal.SIGKILL, id="its group"),
    ],
)
def test_a_driver_that_is_ended_leaves_a_line(how: str, code: int) -> None:
    ended = ends(how)
    assert ended.returncode == code
    (line,) = ended.stderr.splitlines()
    assert line.startswith("stj: process ")
    assert "has ended without a word" in line
    assert line.endswith("run the same command again, on another cluster if this one is lost")


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("pass", 0), ("sys.exit(3)", 3), ("raise SystemExit(143)", 143)])
def test_a_driver_that_ends_by_itself_leaves_none(how: str, code: int) -> None:
    ended = ends(how)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_a_process_that_the_driver_starts_does_not_keep_the_line_back() -> None:
    """Such as Ray, which outlives the driver for seconds: it must not hold the shell's input."""
    started = "import subprocess; subprocess.Popen(['sleep', '10'], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)"
    ended = ends(f"{started}; os._exit(1)")
    assert "has ended without a word" in ended.stderr


@pytest.mark.slow
def test_a_driver_that_a_second_signal_ends_leaves_its_own_line_alone() -> None:
    ended = ends("from stj.cli.signals import end_at_once; end_at_once(143, 'SIGTERM')")
    assert (ended.returncode, ended.stderr) == (143, "\nstj: ended at once by SIGTERM\n")
