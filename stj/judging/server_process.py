"""vLLM's server as a child of `stj serve`, which forwards stops to it and never leaves it behind.

vLLM alone answers SIGTERM with exit code 0, as if nobody had stopped it. One that comes while it starts can be lost: its
processes then wait for each other for ever.
"""

import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence

from stj.errors import ConfigError, EngineDied
from stj.passes.reaper import Reaper

_STOPPING_S = 10.0  # A server that runs ends within two seconds: it answers no open request.


def check_address(host: str, port: int) -> None:
    """Raises ConfigError if no server can listen there: vLLM would say so with a traceback, after half a minute."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            remedy = "give an address of this machine and a free port"
            raise ConfigError(f"--host {host} --port {port}: cannot be used: {error.strerror}; {remedy}") from None


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
