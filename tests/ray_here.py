"""Runs passes without Ray's processes, which take ten seconds to start: all actors and rows are in this process.

For tests that kill a driver a hundred times. Calls that Ray carries from one process to another are direct here. Reading, the
engine's actor, the gate, the commits and the manifest are the product's own.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from stj.passes import actor, driver_actor, engine_waits, gate, nodes, run, session, source, watch, window
from stj.passes.spec import Pass

_BLOCKS_IN_FLIGHT = 8
NODE = "ab" * 28


def install(patch: pytest.MonkeyPatch) -> None:
    """Replaces the cluster by this process."""
    patch.setattr(session, "ray_session", lambda *_: nullcontext())
    for module in (actor, driver_actor, engine_waits, gate, nodes, run, source, watch, window):
        patch.setattr(module, "ray", _Ray)
    patch.setattr(run, "_stream", _stream)


def _stream(spec: Pass, finished: Any, config: Any, registry: Any) -> Generator[pa.Table, None, None]:
    """The unfinished rows as tables, in the order in which they are finished."""
    engine = actor.PassActor(spec, config, registry)
    limited = window.ReadingWindow(spec.gate, registry, config.max_replicas * config.rows_in_flight) if spec.gate else None
    rows_per_call = max(1, config.rows_in_flight // 32)
    blocks = source.RowSource(spec.read, finished, registry, rows_per_call, spec.read_after, limited).tables()
    try:
        with ThreadPoolExecutor(_BLOCKS_IN_FLIGHT) as pool:
            running: set[Future[pa.Table]] = set()
            while True:
                running |= {pool.submit(engine, block) for block in islice(blocks, _BLOCKS_IN_FLIGHT - len(running))}
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (source.unseal(cell) for future in ended for cell in future.result()[source.SEALED])
    finally:
        end(engine)


def end(engine: actor.PassActor) -> None:
    """Ends what an actor's process would take with it: its event loop, and the connections of its engine."""
    loop = engine._loop
    asyncio.run_coroutine_threadsafe(_end(engine), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    deadline = time.monotonic() + 30
    while loop.is_running() and time.monotonic() < deadline:
        time.sleep(0.0005)  # tests that kill a driver a hundred times run a thousand passes
    loop.close()


async def _end(engine: actor.PassActor) -> None:
    await _cancel_others()
    if hasattr(engine, "_engine"):
        engine._engine.close()
        del engine._engine
        await asyncio.sleep(0.001)
    await _cancel_others()
    await asyncio.get_running_loop().shutdown_default_executor()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Ray:
    """The part of Ray that a pass calls, except for Ray Data."""

    @staticmethod
    def remote(**options: Any) -> Callable[[Any], Any]:
        return _Class

    @staticmethod
    def get(value: "_Value", timeout: float | None = None) -> Any:
        return value.value

    @staticmethod
    def nodes() -> list[dict[str, Any]]:
        return [{"NodeID": NODE, "Alive": True}]

    @staticmethod
    def get_runtime_context() -> Any:
        return SimpleNamespace(get_actor_id=lambda: NODE, get_node_id=lambda: NODE, get_job_id=lambda: NODE)


class _Class:
    def __init__(self, actor_class: Any) -> None:
        self._actor_class = actor_class

    def remote(self, *args: Any) -> "Actor":
        return Actor(self._actor_class(*args))


class Actor:
    """Runs one call at a time, as Ray's actors do."""

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> "_Method":
        return _Method(getattr(self._instance, name), self._lock)


class _Method:
    def __init__(self, method: Any, lock: threading.Lock) -> None:
        self._method = method
        self._lock = lock

    def remote(self, *args: Any) -> "_Value":
        with self._lock:
            return _Value(self._method(*args))


class _Value:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, Any]:
        yield from ()
        return self.value
