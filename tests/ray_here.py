"""Passes without Ray's processes, whose start takes ten seconds: the actors of a pass, and all rows, in this process.

For tests in which a driver is killed a hundred times. What Ray carries from one process to another is called directly here;
reading, the engine's actor, the gate, the commits and the manifest are the product's own.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from stj.passes import actor, helper, run, session, source, watch
from stj.passes.spec import Pass

_AT_ONCE = 8
NODE = "ab" * 28


def install(patch: pytest.MonkeyPatch) -> None:
    """Puts this process in the place of a cluster."""
    patch.setattr(session, "ray_session", lambda *_: nullcontext())
    for module in (actor, helper, run, source, watch):
        patch.setattr(module, "ray", _Ray)
    patch.setattr(run, "_stream", _stream)


def _stream(spec: Pass, done: Any, config: Any, ward: Any) -> Iterator[pa.Table]:
    """Finished rows one by one, in the order in which they are finished."""
    engine = actor.PassActor(spec, config, ward)
    blocks = source.RowSource(spec.read, done, ward)._tables()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running: set[Future[pa.Table]] = set()
        while True:
            running |= {pool.submit(engine, block) for block in islice(blocks, _AT_ONCE - len(running))}
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (source.opened(cell) for one in ended for cell in one.result()[source.SEALED])


class _Ray:
    """What a pass asks of Ray beside its stream."""

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
        return SimpleNamespace(get_actor_id=lambda: NODE, get_node_id=lambda: NODE)


class _Class:
    def __init__(self, made: Any) -> None:
        self._made = made

    def remote(self, *args: Any) -> "Actor":
        return Actor(self._made(*args))


class Actor:
    """Does one thing at a time, as Ray's actors do."""

    def __init__(self, made: Any) -> None:
        self._made = made
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> "_Method":
        return _Method(getattr(self._made, name), self._lock)


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
