"""Durations, and the live line on real terminals: a pseudo-terminal is in the place of stderr."""

import io
import os
import pty
import subprocess
import sys
from io import StringIO

import pytest

from stj.text import CLEAR_LINE, LiveLine, data_size, duration, show

LINE = "iteration_1/judged: 2,000/4,000 rows | [failed] | :smile: eta 20s"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (29, "29s"), (31, "1m"), (7860, "2h11m")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (40, "40 bytes"),
        (999_900, "1 MB"),
        (4.11e6, "4.11 MB"),
        (999.6e6, "1 GB"),
        (16.1e9, "16.1 GB"),
        (99.96e9, "100 GB"),
        (2.25e12, "2,250 GB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert data_size(size) == text


class Screen:
    """A terminal of 80 columns in the place of stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.main, terminal = pty.openpty()
        monkeypatch.setattr(sys, "stderr", os.fdopen(terminal, "w"))

    def read(self) -> str:
        """What was written since the last call, without the codes for bold."""
        sys.stderr.write("$")
        sys.stderr.flush()
        written = b""
        while not written.endswith(b"$"):
            written += os.read(self.main, 10_000)
        return written.decode().removesuffix("$").replace("\x1b[1m", "").replace("\x1b[0m", "")


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)


def test_a_line_replaces_the_one_before_and_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    line = LiveLine()
    assert line.live
    line.clear()
    assert screen.read() == ""
    line.show(LINE)
    assert screen.read() == CLEAR_LINE + LINE
    line.show("done")
    assert screen.read() == CLEAR_LINE + "done"
    line.clear()
    assert screen.read() == CLEAR_LINE
    line.clear()
    assert screen.read() == ""


def test_a_line_is_cut_to_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    LiveLine().show("x" * 200)
    assert screen.read() == CLEAR_LINE + "x" * 80
    LiveLine().show("判" * 200)
    assert screen.read() == CLEAR_LINE + "判" * 40


def test_colors_are_left_out_under_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    LiveLine().show(LINE)
    assert "\x1b[1;36m" not in screen.read()
    monkeypatch.delenv("NO_COLOR")
    LiveLine().show(LINE)
    assert "\x1b[1;36m" in screen.read()


def test_a_dumb_terminal_has_no_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen(monkeypatch)
    line = LiveLine()
    line.show(LINE)
    line.clear()
    assert not line.live
    assert screen.read() == ""


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    line = LiveLine()
    line.show(LINE)
    line.clear()
    assert not line.live
    assert file.getvalue() == ""


def test_a_terminal_that_closes_ends_the_line_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(monkeypatch)
    line = LiveLine()
    os.close(screen.main)
    line.show(LINE)
    assert not line.live
    line.show(LINE)
    line.clear()


def test_rich_is_imported_only_on_a_terminal() -> None:
    code = "import sys; from stj.text import LiveLine; LiveLine().show('x'); LiveLine().clear(); print('rich' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("False\n", "")


def test_a_terminal_without_a_dash_shows_a_hyphen() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="backslashreplace", write_through=True)
    show("größer – 50.0", stream)
    assert stream.buffer.getvalue() == "größer - 50.0\n".encode("latin-1")  # type: ignore[attr-defined]
