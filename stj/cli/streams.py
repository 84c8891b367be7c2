"""Standard output and standard error: usable whatever the shell did to them, and the one line of an error."""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from stj.text import CLEAR_LINE, visible_line


def open_streams() -> None:
    """Makes stdout and stderr usable if the shell closed them (`>&-`), and stdout if its encoding lacks a character."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # or the next file opened would get the output
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def start_of_line() -> str:
    """The code that erases a live line (text.LiveLine); empty if stderr is not a terminal, or is a dumb one."""
    return CLEAR_LINE if sys.stderr.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"} else ""


def fail(message: str, exit_code: int) -> int:
    """Prints the one line of an error, whose words may come from a file or a model; returns the exit code."""
    try:
        print(f"{start_of_line()}stj: {visible_line(message)}", file=sys.stderr, flush=True)
    except OSError:  # A full disk, or a terminal that was closed: the exit code still counts.
        _discard(sys.stderr)
    except RuntimeError:  # A signal came while this very stream was written.
        pass
    return exit_code


def fail_io(error: OSError) -> int:
    """The exit code after a file or a stream failed."""
    try:
        sys.stdout.flush()
    except OSError:  # Python would write the rest at its end, fail again, and exit with code 120.
        _discard(sys.stdout)
    if isinstance(error, BrokenPipeError):  # The reader of a pipe (`| head`) has seen enough.
        return 0
    if isinstance(error, FileNotFoundError) and error.filename is None:  # os.getcwd names no file
        return fail("the working directory does not exist any more; change to another one", 1)
    return fail(str(error), 1)


def _discard(stream: TextIO) -> None:
    """Sends what is left in a stream nowhere."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
