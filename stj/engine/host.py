"""The engine's own process, forked from one that has vLLM imported already.

    actor --- socket ---> warm process: has imported vLLM and holds no engine; one a machine and run
      |                         | fork, for each connection
      +------- socket --------> engine host: a VllmEngine, whose worker processes vLLM forks in turn

Importing vLLM takes longer than all else in the start of a small engine, and a process that Ray runs cannot be forked: it
has threads. The warm process has none. It ends with its owner (its machine's Ray, or the process of a user who needs no Ray),
or when nobody has asked for an engine for a while; an engine host ends with its actor, and the engine's workers end with their
host, however it died.
"""

import asyncio
import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from stj.engine.wire import Answer, Cancel, Request, Start, frame, receive
from stj.errors import EngineDied, PassFailed, RequestFailed, StjError
from stj.generate import Completion, Engine

if TYPE_CHECKING:
    from stj.engine.vllm import VllmEngine

_IDLE_S = 900
_HEALTH_S = 1
_CPU_MODULES = ("vllm.v1.worker.cpu_worker", "vllm.model_executor.models.llama")
"""What a CPU engine imports beside vLLM itself; on a GPU these would need care not to touch the device before the fork."""
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serves the listening socket of the given number, as long as its owner, the process with the given id, lives."""
    listener, owner, device = int(sys.argv[1]), os.pidfd_open(int(sys.argv[2])), sys.argv[3]
    if os.fork():
        os._exit(0)  # the warm process is nobody's child: Ray ends the children of an actor with it
    _warm_up(device)
    _fork_for_each(socket.socket(fileno=listener), owner)


def _warm_up(device: str) -> None:
    importlib.import_module("stj.engine.vllm")
    for module in _CPU_MODULES if device == "cpu" else ():
        importlib.import_module(module)
    assert threading.active_count() == 1, f"a process with threads cannot be forked: {threading.enumerate()}"
    gc.collect()
    gc.freeze()  # what is imported stays in pages that all engines share


def _fork_for_each(listener: socket.socket, owner: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the hosts' ends are the actors' affair
    while True:
        ready, _, _ = select.select([listener.fileno(), owner], [], [], _IDLE_S)
        if ready != [listener.fileno()]:
            break
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            os.close(owner)
            _host(connection)
        connection.close()
    Path(listener.getsockname()).unlink(missing_ok=True)


def _host(connection: socket.socket) -> None:
    os.register_at_fork(before=_remember_parent, after_in_child=_end_with_parent)
    try:
        asyncio.run(_serve(connection))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


async def _serve(connection: socket.socket) -> None:
    from stj.engine.vllm import VllmEngine

    reader, writer = await asyncio.open_unix_connection(sock=connection)
    start: Start = await receive(reader)
    os.environ.clear()
    os.environ.update(start.environment)
    try:
        engine = VllmEngine.start(start.model, start.config, start.seed, fork_workers=True)
    except Exception as error:
        traceback.print_exc()
        known = error if isinstance(error, StjError) else PassFailed(f"the engine did not start: {_line(error)}")
        writer.write(frame(known))
        await writer.drain()
        return
    writer.write(frame(None))
    watch = asyncio.create_task(_end_when_dead(engine))
    with contextlib.suppress(EOFError):
        await _answer_all(engine, reader, writer)
    watch.cancel()
    engine.close()


async def _answer_all(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> NoReturn:
    tasks: dict[int, asyncio.Task[None]] = {}
    while True:
        asked: Request | Cancel = await receive(reader)
        if isinstance(asked, Request):
            tasks[asked.number] = asyncio.create_task(_answer(engine, asked, writer))
            tasks[asked.number].add_done_callback(partial(_forget, tasks, asked.number))
        elif asked.number in tasks:
            tasks[asked.number].cancel()


def _forget(tasks: dict[int, asyncio.Task[None]], number: int, done: asyncio.Task[None]) -> None:
    del tasks[number]


async def _end_when_dead(engine: "VllmEngine") -> None:
    while not engine.died:
        await asyncio.sleep(_HEALTH_S)
    os._exit(1)


async def _answer(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> None:
    result: Completion | StjError
    try:
        result = await engine.generate(request.messages, request.sampling)
    except EngineDied:
        os._exit(1)
    except StjError as error:
        result = error
    except Exception as error:
        traceback.print_exc()
        result = RequestFailed(_line(error))
    writer.write(frame(Answer(number=request.number, result=result, usage=engine.usage)))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


_parent = 0


def _remember_parent() -> None:
    global _parent
    _parent = os.getpid()


def _end_with_parent() -> None:
    """Asks Linux to kill this process, a worker of the engine, when its parent has died."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _parent:  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
