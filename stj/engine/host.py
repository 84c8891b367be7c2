"""The engine's own process, forked from a warm process that has already imported vLLM.

    actor --- socket ---> warm process: has imported vLLM and holds no engine; one per machine and run
      |                         | fork, for each connection
      +------- socket --------> engine host: a VllmEngine or a PoolingEngine, whose worker processes vLLM forks in turn

Importing vLLM is the longest step in the start of a small engine. A process that Ray runs cannot be forked, because it has
threads; the warm process has none.

The warm process ends with its owner: its machine's Ray, or the process of a user without Ray. It also ends if nobody asks for
an engine for 15 minutes. An engine host ends with its actor, even while the engine starts. The engine's workers end with their
host, however it died.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stj.engine.root_cause import start_error
from stj.engine.shared_memory import remove_names
from stj.engine.wire import LOG_SUFFIX, Answer, Cancel, Embedded, EmbedRequest, Request, Start, frame, receive
from stj.errors import EngineDied, RequestFailed, StjError
from stj.generate import Completion

if TYPE_CHECKING:
    from stj.engine.vllm import VllmEngine
    from stj.engine.vllm_pooling import PoolingEngine

    _Engine = VllmEngine | PoolingEngine

_IDLE_TIMEOUT_S = 900
_HEALTH_INTERVAL_S = 1
_PR_SET_PDEATHSIG = 1  # the number of this option in Linux's prctl.h


def main() -> None:
    """Serves a listening socket while its owner lives; arguments: the socket's number, the owner's process id, the device."""
    listener, owner, device = int(sys.argv[1]), os.pidfd_open(int(sys.argv[2])), sys.argv[3]
    if os.fork():
        os._exit(0)  # the warm process must have no parent: Ray ends an actor's children with the actor
    before = dict(os.environ)
    _warm_up(device)
    _fork_for_each(socket.socket(fileno=listener), owner, SetByImports(before=before, after=dict(os.environ)))


@dataclass(frozen=True, kw_only=True)
class SetByImports:
    """The environment before and after the imports of vLLM. Processes of engines do not import again, and need what was set.

    Without PYTORCH_NVML_BASED_CUDA_CHECK, for example, a process that asks torch for a GPU can fork no worker that uses one.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]

    def added_to(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An engine's environment with what the imports set; a variable with a value of its own there keeps it."""
        names = [name for name, value in self.after.items() if self.before.get(name) != value]
        return {**environment, **{name: self.after[name] for name in names if environment.get(name) == self.before.get(name)}}


def _warm_up(device: str) -> None:
    importlib.import_module("stj.engine.vllm")
    if device == "cpu":
        from stj.engine.vllm_private import import_cpu_modules

        import_cpu_modules()
    assert threading.active_count() == 1, f"a process with threads cannot be forked: {threading.enumerate()}"
    gc.collect()
    gc.freeze()  # the imported modules stay in memory pages that all engines share


def _fork_for_each(listener: socket.socket, owner: int, imports: SetByImports) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the actors, not this process, watch the hosts
    while True:
        ready, _, _ = select.select([listener.fileno(), owner], [], [], _IDLE_TIMEOUT_S)
        if ready != [listener.fileno()]:
            break
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            os.close(owner)
            _host(connection, imports)
        connection.close()
    path = Path(listener.getsockname())
    path.unlink(missing_ok=True)
    path.with_suffix(LOG_SUFFIX).unlink(missing_ok=True)


def _host(connection: socket.socket, imports: SetByImports) -> None:
    os.register_at_fork(before=_remember_parent, after_in_child=_end_with_parent)
    try:
        asyncio.run(_serve(connection, imports))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


async def _serve(connection: socket.socket, imports: SetByImports) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    start: Start = await receive(reader)
    os.environ.clear()
    os.environ.update(imports.added_to(start.environment))
    print_to(start.log)
    shares_files = start.config.device == "cpu" and start.model.gpus > 1
    try:
        with contextlib.nullcontext() if shares_files else ended_by(connection):  # the files would stay in /dev/shm
            engine = await _started(start, shares_files=shares_files)
    except Exception as error:
        remove_names()
        writer.write(frame(_refusal(start, error)))
        await writer.drain()
        return
    writer.write(frame(None))
    watch = asyncio.create_task(_end_when_dead(engine))
    with contextlib.suppress(EOFError):
        await _answer_all(engine, reader, writer)
    watch.cancel()
    engine.close()
    Path(start.log).unlink(missing_ok=True)  # only the logs of engines that failed are of use


async def _started(start: Start, *, shares_files: bool) -> "_Engine":
    from stj.engine.vllm import VllmEngine
    from stj.engine.vllm_pooling import PoolingEngine

    kind = PoolingEngine if start.pools else VllmEngine
    engine = kind.start(start.model, start.config, start.seed, fork_workers=True)
    if shares_files:
        remove_names()
        await engine.run_dummy_batch()
    if isinstance(engine, VllmEngine):
        await engine.load_adapter()
    return engine


@contextlib.contextmanager
def ended_by(connection: socket.socket) -> Iterator[None]:
    """Meanwhile Linux ends this process once the other side closes the connection. The other side must send nothing.

    A start of minutes leaves the event loop no time to notice it, and a process whose workers are forked can have no thread
    that waits for it.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([connection], [], [], 0)[0]:  # it closed before
        os._exit(1)
    try:
        yield
    finally:
        fcntl.fcntl(connection, fcntl.F_SETFL, flags)


async def _answer_all(engine: "_Engine", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> NoReturn:
    tasks: dict[int, asyncio.Task[None]] = {}
    while True:
        message: Request | EmbedRequest | Cancel = await receive(reader)
        if not isinstance(message, Cancel):
            tasks[message.number] = asyncio.create_task(_answer(engine, message, writer))
            tasks[message.number].add_done_callback(partial(_forget, tasks, message.number))
        elif message.number in tasks:
            tasks[message.number].cancel()


def _refusal(start: Start, error: Exception) -> StjError:
    """The error for the user. One of our own says everything; any other is explained by what all processes have printed."""
    log = Path(start.log)
    if isinstance(error, StjError):
        log.unlink(missing_ok=True)
        return error
    refusal = start_error(start.model, start.config, _line(error), log)
    traceback.print_exc()
    return refusal


def print_to(log: str) -> None:
    """Sends all that this process and its children print to a file, from now on."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)


def _forget(tasks: dict[int, asyncio.Task[None]], number: int, done: asyncio.Task[None]) -> None:
    del tasks[number]


async def _end_when_dead(engine: "_Engine") -> None:
    while not engine.died:
        await asyncio.sleep(_HEALTH_INTERVAL_S)
    os._exit(1)


async def _answer(engine: Any, request: Request | EmbedRequest, writer: asyncio.StreamWriter) -> None:
    result: Completion | Embedded | StjError
    try:
        if isinstance(request, EmbedRequest):
            result = await engine.embed(request.texts)
        else:
            result = await engine.generate(request.messages, request.sampling)
    except EngineDied:
        os._exit(1)
    except StjError as error:
        result = error
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception, and its caller would wait forever
        traceback.print_exc()
        result = RequestFailed(_line(error))
    writer.write(frame(Answer(number=request.number, result=result, usage=engine.usage)))


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


_parent = 0


def _remember_parent() -> None:
    global _parent
    _parent = os.getpid()


def _end_with_parent() -> None:
    """Asks Linux to kill this process, a worker of the engine, when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _parent:  # the parent died before the call
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
