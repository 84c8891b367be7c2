"""What a library writes on stderr below Python, without one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stj.machine.stderr import stderr_without

LINE = re.compile(rb"\[[^\n]*\] noise\.cc:\d+: Set[^\n]*\n")


def test_the_line_is_left_out_and_all_else_is_copied_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with stderr_without(LINE):
        os.write(2, b"before\n[2026 I 1 2] noise.cc:303: Set the level to 3\nafter\n")
        os.write(2, b"no end of a line")
    os.write(2, b", and after it\n")
    assert capfd.readouterr().err == "before\nafter\nno end of a line, and after it\n"


def test_an_error_passes_and_stderr_is_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with stderr_without(LINE):
            os.write(2, b"said\n")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "said\nlater\n"


def test_a_closed_stderr_is_no_error() -> None:
    code = "import re; from stj.machine.stderr import stderr_without\nwith stderr_without(re.compile(b'x')): print('in')"
    ran = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{code}" 2>&-'],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout == "in\n"


@pytest.mark.engine
def test_a_ray_that_starts_here_says_nothing_on_stderr() -> None:
    code = (
        "from stj.config import RayConfig; from stj.passes.session import joined_cluster\n"
        "with joined_cluster(RayConfig(address='local')): print('up')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert (ran.stdout, ran.stderr) == ("up\n", "")
