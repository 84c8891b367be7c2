"""The engine as an actor sees it: in its own process, forked from a warm one within a few seconds."""

import asyncio
import fcntl
import hashlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from stj.config import EngineConfig, ModelConfig
from stj.engine.wire import Answer, Cancel, Request, Start, frame, receive
from stj.errors import CapacityError, EngineDied, StjError
from stj.generate import Completion, Engine, Sampling, Usage
from stj.rows import Turn

_PACKAGE_PARENT = Path(__file__).parents[2]
MakeEngine = Callable[[ModelConfig, EngineConfig, int], Coroutine[Any, Any, Engine]]
"""Starts an engine from a model, settings, and the seed of its sampler."""


class HostedEngine:
    """An engine in its own process, asked over a socket.

    If that process dies, its actor ends its own process too. Ray restarts a dead actor with its rows, but not one that raises
    an exception. A user's own process lives on; its requests raise EngineDied.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, in_actor: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._in_actor = in_actor
        self._died = False
        self.usage = Usage()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Completion]] = {}
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def start(cls, model: ModelConfig, config: EngineConfig, seed: int, scope: str | None) -> "HostedEngine":
        """Starts an engine. Actors with the same scope on one machine share the warm process.

        Without a scope, the caller is a user's own process, and it gets its own warm process.

        Raises ModelError if the model is missing or its chat template cannot serve, and CapacityError if the engine's
        process ends while it starts.
        """
        environment = engine_environment(model, config)
        connection = await asyncio.to_thread(_connect, environment, config.device, scope)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        writer.write(frame(Start(model=model, config=config, seed=seed, environment=environment)))
        try:
            refusal: StjError | None = await receive(reader)
        except EOFError:
            log = "in Ray's session folder" if scope else "printed here"
            raise CapacityError(f"the engine's process ended while it started; its log is {log}") from None
        if refusal:
            raise refusal
        return cls(reader, writer, in_actor=scope is not None)

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion; the request is aborted if the caller is cancelled.

        Raises PromptTooLong and RequestFailed as the engine does, and EngineDied if the engine's process has ended.
        """
        if self._died:
            raise _engine_died()
        number = next(self._numbers)
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(frame(Request(number=number, messages=messages, sampling=sampling)))
        try:
            return await future
        except asyncio.CancelledError:
            if self._waiting.pop(number, None):
                self._writer.write(frame(Cancel(number=number)))
            raise

    def close(self) -> None:
        """Ends the engine's processes."""
        self._receiving.get_loop().call_soon_threadsafe(self._close)

    def _close(self) -> None:
        self._receiving.cancel()
        self._writer.close()

    async def _receive(self) -> None:
        try:
            while True:
                answer: Answer = await receive(self._reader)
                self.usage = answer.usage
                future = self._waiting.pop(answer.number, None)
                if future is None or future.cancelled():
                    continue
                if isinstance(answer.result, StjError):
                    future.set_exception(answer.result)
                else:
                    future.set_result(answer.result)
        except EOFError:
            if self._in_actor:
                os._exit(1)
            self._died = True
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(_engine_died())


def _engine_died() -> EngineDied:
    return EngineDied("the engine's process has ended, and its requests with it; start the engine again")


def _connect(environment: dict[str, str], device: str, scope: str | None) -> socket.socket:
    """Connects to the warm process of this scope, and starts it if there is none.

    It lives as long as its owner: for an actor its parent, which is Ray's process on this machine, otherwise this process.
    """
    owner = os.getppid() if scope else os.getpid()
    scope = scope or f"process {owner}"
    path = _socket_path(environment, device, scope)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
            _start_warm_process(path, environment, device, owner)
            connection.connect(str(path))  # it listens at once and answers when vLLM is imported
    return connection


def _start_warm_process(path: Path, environment: dict[str, str], device: str, owner: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        number = listener.fileno()
        command = [sys.executable, "-m", "stj.engine.host", str(number), str(owner), device]
        subprocess.run(command, env=environment, pass_fds=(number,), start_new_session=True, check=True)


def _socket_path(environment: dict[str, str], device: str, scope: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"stj-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise CapacityError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    threads = environment.get("OMP_NUM_THREADS", "")
    name = hashlib.sha256("\n".join([scope, device, threads, sys.executable, str(_PACKAGE_PARENT)]).encode()).hexdigest()[:16]
    return folder / f"{name}.socket"


def engine_environment(model: ModelConfig, config: EngineConfig) -> dict[str, str]:
    """The environment of the engine's processes: quiet, and without vLLM's usage reports.

    On a CPU the model runs in the engine's own process, which saves the start of another. vLLM allows that only if it does not
    bind threads itself, so the number of threads is set here.
    """
    home = str(_PACKAGE_PARENT)
    environment = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"} | os.environ
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    if config.deterministic and config.device == "gpu":
        environment["VLLM_BATCH_INVARIANT"] = "1"  # kernels whose result for a request does not depend on the others
    if config.device == "cpu" and model.gpus == 1:
        environment |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        environment["OMP_NUM_THREADS"] = str(max(1, int(config.cpus_per_replica)))
    return environment
