"""vLLM's server as a child of `stj serve`, which forwards stops to it and never leaves it behind.

vLLM alone answers SIGTERM with exit code 0, as if nobody had stopped it. One that comes while it starts can be lost: its
processes then wait for each other for ever.
"""

import signal
import subprocess
from collections.abc import Mapping, Sequence

from stj.errors import EngineDied
from stj.passes.reaper import Reaper

_STOPPING_S = 10.0  # A server that runs ends within two seconds: it answers no open request.


def run_server(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs a server until it ends, or until this process is stopped by an exception of a signal's handler.

    The server has a session of its own: a terminal's Ctrl-C reaches it only through this process. Whatever is left of it when
    this process ends, however that happens, is killed within a second or two.

    Raises EngineDied if the server ends with an error.
    """
    reaper = Reaper(grace_s=0)
    process = subprocess.Popen(words, env={**environment, **reaper.marks}, start_new_session=True)
    try:
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    if code < 0:
        raise EngineDied(f"vLLM's server was killed by {signal.Signals(-code).name}; if nobody did that, was memory short?")
    if code:
        raise EngineDied(f"vLLM's server ended with exit code {code}; its own lines above say why")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOPPING_S)
    except subprocess.TimeoutExpired:
        process.kill()
