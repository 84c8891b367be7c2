"""Room on an engine: there is some only while the engine drains, and callers that left are forgotten."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from stj.engine import load
from stj.engine.load import EngineLoad
from stj.generate import Completion, Sampling, Usage
from stj.rows import Turn


class Held:
    """An engine whose requests wait for a gate to open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        await self.gate.wait()
        return Completion(text="", finish_reason="stop", prompt_tokens=0, output_tokens=0)

    usage = Usage()

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_CHECK_INTERVAL_S", 0.001)


async def with_waiting(asked: int, waiting: int, wanted: int = 0) -> tuple[int, int]:
    """The waiting callers that got a slot of an engine with 8 slots and `asked` requests, and those still remembered."""
    engine = Held()
    full = EngineLoad(engine, 8)
    watch = asyncio.create_task(full.watch())
    requests = [asyncio.create_task(full.ask([], Sampling())) for _ in range(asked)]
    places = [asyncio.create_task(full.room()) for _ in range(waiting)]
    await asyncio.sleep(0.05)
    deadline = time.monotonic() + 60
    while (given := sum(place.done() for place in places)) < wanted and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    for task in (watch, *requests, *places):
        task.cancel()
    await asyncio.gather(watch, *requests, *places, return_exceptions=True)
    return given, len(full._waiting)


@pytest.mark.parametrize("asked", [4, 8, 20])
def test_a_busy_engine_has_no_room_and_those_who_left_are_forgotten(asked: int) -> None:
    assert asyncio.run(with_waiting(asked, 100)) == (0, 0)


def test_a_draining_engine_has_room() -> None:
    given, remembered = asyncio.run(with_waiting(1, 100, wanted=3))
    assert given >= 3
    assert remembered == 0
