"""A stop that Python has swallowed is sent again.

SIGTERM and Ctrl-C raise an exception wherever the main thread is at that moment. That may be a `__del__`, or a callback of the
garbage collector or of a C library. There Python drops the exception, prints "Exception ignored in" with a traceback, and
continues as if no signal had come. The run would then end by the kill that follows, with nothing committed.
"""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_TERMINATED = 143  # Other exits in a callback are a library's own.
_AGAIN_S = 0.05  # By then the callback that swallowed it has ended.


class _SendAgain:
    """In place of Python's hook for exceptions that it swallows."""

    def __init__(self) -> None:
        self._before = sys.unraisablehook
        self.forget: Callable[[], None] = lambda: None

    def __call__(self, lost: Any) -> None:
        """Sends the signal again if its exception was lost; leaves all other exceptions to the hook before."""
        main, error = threading.main_thread(), lost.exc_value
        stop = isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and error.code == _TERMINATED)
        if not stop or threading.current_thread() is not main:
            self._before(lost)
            return
        self.forget()
        interrupted = isinstance(error, KeyboardInterrupt) and callable(signal.getsignal(signal.SIGINT))
        again = threading.Timer(_AGAIN_S, signal.pthread_kill, (main.ident, signal.SIGINT if interrupted else signal.SIGTERM))
        again.daemon = True
        again.start()


def send_lost_signals_again(forget: Callable[[], None] = lambda: None) -> None:
    """From now on. `forget` has the handlers take the signal as the first one: it is called before one is sent again."""
    if not isinstance(sys.unraisablehook, _SendAgain):
        sys.unraisablehook = _SendAgain()
    sys.unraisablehook.forget = forget
