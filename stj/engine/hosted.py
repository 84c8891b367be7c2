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
import time
import traceback
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from stj.config import EngineConfig, ModelConfig
from stj.engine.root_cause import death_cause, start_error
from stj.engine.wire import LOG_SUFFIX, Answer, Cancel, Embedded, EmbedRequest, Request, Start, frame, receive
from stj.errors import EngineDied, StjError
from stj.generate import Completion, Engine, Sampling, Usage
from stj.rows import Turn
from stj.storage.private import holds_sockets, private_folder, private_opener

_KEEP_LOGS_S = 7 * 24 * 3600
_VLLM_SOCKET_NAME = 36  # a UUID
_PACKAGE_PARENT = Path(__file__).parents[2]
MakeEngine = Callable[[ModelConfig, EngineConfig, int], Coroutine[Any, Any, Engine]]
"""Starts an engine from a model, settings, and the seed of its sampler."""


class HostedEngine:
    """An engine in its own process, asked over a socket.

    If that process dies, its actor ends its own process too. Ray restarts a dead actor with its rows, but not one that raises
    an exception. A user's own process lives on; its requests raise EngineDied. So do those of an engine that was closed.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: str, *, in_actor: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._log = log
        self._in_actor = in_actor
        self._closed = False
        self.on_death: Callable[[str], None] | None = None
        """Receives the cause of the engine's death, before its actor's process ends."""
        self.usage = Usage()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Completion | Embedded]] = {}
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def start(
        cls, model: ModelConfig, config: EngineConfig, seed: int, scope: str | None, *, pools: bool = False
    ) -> "HostedEngine":
        """Starts an engine; one that `pools` embeds texts, and writes none.

        Actors with the same scope on one machine share the warm process. Without a scope, the caller is a user's own process,
        and it gets its own warm process.

        Raises ModelError if the model is missing, cannot be loaded, or its chat template cannot serve; ConfigError if its KV
        cache does not fit; and CapacityError if another start may succeed. Each names the cause and the log of the engine's
        processes.
        """
        environment, log = engine_environment(model, config), _new_log()
        with ExitStack() as unless_started:  # A caller who is cancelled leaves no engine behind, nor one that starts.
            connection = unless_started.enter_context(socket.socket(socket.AF_UNIX))
            await asyncio.to_thread(_connect, connection, environment, config.device, scope)
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            unless_started.callback(writer.close)
            start = Start(model=model, config=config, seed=seed, environment=environment, log=str(log), pools=pools)
            writer.write(frame(start))
            try:
                refusal: StjError | None = await receive(reader)
            except EOFError:
                refusal = start_error(model, config, "", log if log.exists() else _warm_log(environment, config.device, scope))
            if refusal:
                raise refusal
            unless_started.pop_all()
        return cls(reader, writer, str(log), in_actor=scope is not None)

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion; the request is aborted if the caller is cancelled.

        Raises PromptTooLong and RequestFailed as the engine does, and EngineDied if the engine's process has ended, or ends
        before the answer, or if the engine is closed.
        """
        answer = await self._ask(lambda number: Request(number=number, messages=messages, sampling=sampling))
        assert isinstance(answer, Completion), "an engine that writes answers with a completion"
        return answer

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of texts, by an engine that pools. Raises RequestFailed and EngineDied as `generate` does."""
        answer = await self._ask(lambda number: EmbedRequest(number=number, texts=texts))
        assert isinstance(answer, Embedded), "an engine that pools answers with vectors"
        return answer

    async def _ask(self, request: Callable[[int], Request | EmbedRequest]) -> Completion | Embedded:
        if self._closed or self._receiving.done():
            raise self._ended()
        number = next(self._numbers)
        future: asyncio.Future[Completion | Embedded] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(frame(request(number)))
        try:
            return await future
        except asyncio.CancelledError:
            if self._waiting.pop(number, None):
                self._writer.write(frame(Cancel(number=number)))
            raise

    def close(self) -> None:
        """Ends the engine's processes, and open requests with EngineDied. Any thread may call it, also after the event loop."""
        self._closed = True
        with suppress(OSError):  # the connection has ended before
            self._writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)  # both sides see the end of it

    async def _receive(self) -> None:
        """Hands out answers. However this ends, no request stays open: nobody else would ever end it."""
        try:
            while True:
                answer: Answer = await receive(self._reader)
                self.usage = answer.usage
                self._hand_out(answer)
        except Exception as error:
            if not isinstance(error, EOFError):
                traceback.print_exc()
            if self._in_actor and not self._closed:
                await asyncio.to_thread(self._report_death)
                os._exit(1)
        finally:
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self._ended())
            self._waiting.clear()

    def _report_death(self) -> None:
        if self.on_death:
            self.on_death(death_cause(Path(self._log)))

    def _hand_out(self, answer: Answer) -> None:
        future = self._waiting.pop(answer.number, None)
        if future is None or future.cancelled():
            return
        if isinstance(answer.result, StjError):
            future.set_exception(answer.result)
        else:
            future.set_result(answer.result)

    def _ended(self) -> EngineDied:
        if self._closed:
            return EngineDied("the engine is closed; start another one")
        return EngineDied(
            f"the engine's process has ended, and its requests with it; start the engine again (log: {self._log})"
        )


def _connect(connection: socket.socket, environment: dict[str, str], device: str, scope: str | None) -> None:
    """Connects a socket to the warm process of this scope, and starts it if there is none.

    It lives as long as its owner: for an actor its parent, which is Ray's process on this machine, otherwise this process.
    """
    path = _socket_path(environment, device, scope)
    with open(path.with_suffix(".lock"), "w", opener=private_opener) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
            _start_warm_process(path, environment, device, _owner(scope))
            connection.connect(str(path))  # it listens at once and answers when vLLM is imported


def _owner(scope: str | None) -> int:
    return os.getppid() if scope else os.getpid()


def _start_warm_process(path: Path, environment: dict[str, str], device: str, owner: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        number = listener.fileno()
        command = [sys.executable, "-m", "stj.engine.host", str(number), str(owner), device]
        with open(path.with_suffix(LOG_SUFFIX), "wb", opener=private_opener) as log:
            subprocess.run(
                command, env=environment, stdout=log, stderr=log, pass_fds=(number,), start_new_session=True, check=True
            )


def _warm_log(environment: dict[str, str], device: str, scope: str | None) -> Path:
    return _socket_path(environment, device, scope).with_suffix(LOG_SUFFIX)


def _new_log() -> Path:
    """The path of a new engine's log. Engines that end well delete theirs; those of failed ones are kept for a week.

    So are vLLM's sockets and its files for the start of workers, which it never removes.
    """
    folder = private_folder()
    for pattern in (f"engine-*{LOG_SUFFIX}", "vllm_dist_*", "????????-????-????-????-????????????"):
        for old in folder.glob(pattern):
            with suppress(FileNotFoundError):  # another process may delete it at the same time
                if time.time() - old.stat().st_mtime > _KEEP_LOGS_S and not _answers(old):
                    old.unlink()
    return folder / f"engine-{time.strftime('%Y-%m-%dT%H-%M-%S')}-{uuid.uuid4().hex[:8]}{LOG_SUFFIX}"


def _answers(file: Path) -> bool:
    """Whether a process still listens on a socket, as that of a server that has run for weeks."""
    if not file.is_socket():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(file)) == 0


def _own_temporary_folder() -> str:
    """Where vLLM puts its sockets and files: a folder that no other user enters, unless its path is too long for sockets."""
    folder = private_folder()
    return str(folder) if holds_sockets(folder, _VLLM_SOCKET_NAME) else tempfile.gettempdir()


def _socket_path(environment: dict[str, str], device: str, scope: str | None) -> Path:
    scope = scope or f"process {_owner(scope)}"
    threads = environment.get("OMP_NUM_THREADS", "")
    name = hashlib.sha256("\n".join([scope, device, threads, sys.executable, str(_PACKAGE_PARENT)]).encode()).hexdigest()[:16]
    return private_folder() / f"{name}.socket"


def engine_environment(model: ModelConfig, config: EngineConfig) -> dict[str, str]:
    """The environment of the engine's processes: quiet, and without vLLM's usage reports.

    On a CPU a model on one device runs in the engine's own process, which saves the start of another. vLLM allows that, and
    several workers on a machine with one memory node, only if it does not bind threads itself. So the number of threads is set.
    """
    home = str(_PACKAGE_PARENT)
    environment = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"} | os.environ
    environment["TMPDIR"] = _own_temporary_folder()
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    if config.deterministic and config.device == "gpu":
        environment["VLLM_BATCH_INVARIANT"] = "1"  # kernels whose result for a request does not depend on the others
    if config.device == "cpu":
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        environment["OMP_NUM_THREADS"] = str(max(1, int(config.cpus_per_replica / model.gpus)))
        if model.gpus == 1:
            environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return environment
