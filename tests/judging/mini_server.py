"""`stj serve` of the mini seed or another model, as a process that tests ask over HTTP."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def serve_words(model: str | Path, port: int) -> list[str]:
    """The command that serves a model."""
    return [sys.executable, "-m", "stj.cli", "serve", str(model), "--port", str(port)]


@contextmanager
def mini_server(
    log: Path, key: str, model: str | Path = "package://mini/seed_model", settings: Sequence[str] = ()
) -> Iterator[str]:
    """The address of a server that demands a key; it ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as printed:
        process = subprocess.Popen(
            [*serve_words(model, port), "vote.decoding.max_tokens=128", *settings],
            cwd=_ROOT,
            env=os.environ | {"VLLM_API_KEY": key},
            stdout=printed,
            stderr=printed,
        )
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 600
        try:
            while not _healthy(address):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield address
            process.terminate()
            assert process.wait(timeout=600) == 143, log.read_text()
        finally:
            process.kill()  # it is still there only if a test has failed


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=600) as response:
            return bool(response.status == 200)
    except OSError:
        return False
