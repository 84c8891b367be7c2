"""What SIGTERM, Ctrl-C and a closed terminal do: the first of them stops the verb in an orderly way, the next ends it at once.

A verb that is stopped commits what is finished, and a training asks its ranks for a checkpoint. A second signal does not wait
for that; what was committed before is kept. A closed terminal is a SIGTERM, unless `nohup` has the process ignore it.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from stj.cli.lost_signals import send_lost_signals_again
from stj.cli.streams import fail
from stj.cli.words import ending

_TERMINATED, _INTERRUPTED = 143, 130


def handle_signals(verb: str | None) -> None:
    """Installs the handlers. A signal that this process ignores from its start stays ignored, as in a background job.

    A stop that Python has swallowed is sent again, as the first one that it is.
    """
    stop = _Stop(verb)
    signal.signal(signal.SIGTERM, stop.terminate)
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, stop.interrupt)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _hang_up)
    send_lost_signals_again(stop.forget)


class _Stop:
    """The handlers of one command."""

    def __init__(self, verb: str | None) -> None:
        self._verb = verb
        self._stopping = False

    def terminate(self, signum: int, frame: FrameType | None) -> NoReturn:
        """Raises SystemExit; ends the process if it is stopping already."""
        self._stop(_TERMINATED, "SIGTERM")
        raise SystemExit(fail(ending("stopped by SIGTERM", self._verb), _TERMINATED))

    def interrupt(self, signum: int, frame: FrameType | None) -> NoReturn:
        """Raises KeyboardInterrupt, as Python does; ends the process if it is stopping already."""
        self._stop(_INTERRUPTED, "Ctrl-C")
        raise KeyboardInterrupt

    def forget(self) -> None:
        """Takes the next signal as the first."""
        self._stopping = False

    def _stop(self, code: int, name: str) -> None:
        if self._stopping:
            end_at_once(code, name)
        self._stopping = True


def end_at_once(code: int, name: str) -> NoReturn:
    """Ends this process; what it has started ends with it, because Linux or the reaper kills it."""
    try:
        os.write(2, f"\nstj: ended at once by {name}\n".encode())  # a stream may be in use at this moment
        if last_word := sys.modules.get("stj.passes.last_word"):  # an import could wait for the code that the signal stopped
            last_word.silence()
    finally:
        os._exit(code)


class Ending:
    """The end of this process: with the command's exit code, whatever signal comes once the command is over.

    Python gives signals their default before it ends, which takes a while if torch was loaded: a run that has finished and
    printed its tables would seem to have been killed. Made before libraries are imported, so that they clean up first.
    """

    def __init__(self) -> None:
        self._code: int | None = None
        atexit.register(self._end)

    def set(self, code: int) -> None:
        """The command is over. One that was stopped ends without the libraries' own ends, which may wait."""
        self._code = code
        for number in (signal.SIGTERM, signal.SIGINT):
            if callable(signal.getsignal(number)):
                signal.signal(number, lambda *_: os._exit(code))
        if code in (_TERMINATED, _INTERRUPTED):
            atexit.register(self._end)

    def _end(self) -> None:
        if self._code is None:  # an exception that nobody expected
            return
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # the command has said what there is to say of a stream that fails
                stream.flush()
        os._exit(self._code)


def _hang_up(signum: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)  # a training has a handler of its own for it
