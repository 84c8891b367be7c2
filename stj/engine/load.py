"""Measures how full an engine is, so that stages can draw samples ahead of need while it drains."""

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import NoReturn

from stj.generate import Completion, Engine, Sampling
from stj.rows import Turn

_CHECK_INTERVAL_S = 0.25


class EngineLoad:
    """Counts the requests on an engine.

    There is room if the engine was less than half full at two checks in a row: while it drains, not while it fills.
    """

    def __init__(self, engine: Engine, slots: int) -> None:
        self._engine = engine
        self._slots = slots
        self._requests = 0
        self._waiting: dict[asyncio.Future[None], None] = {}  # in order of arrival; a cancelled caller leaves

    async def ask(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion, counted until it arrives."""
        self._requests += 1
        try:
            return await self._engine.generate(messages, sampling)
        finally:
            self._requests -= 1

    async def room(self) -> None:
        """Waits for room; each free slot lets one caller continue."""
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[slot] = None
        try:
            await slot
        finally:
            self._waiting.pop(slot, None)

    async def watch(self) -> NoReturn:
        """Gives free slots to waiting callers, for the engine's lifetime."""
        free_before = 0
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            free = max(0, self._slots // 2 - self._requests)
            for slot in list(islice(self._waiting, min(free, free_before))):
                del self._waiting[slot]
                if not slot.done():
                    slot.set_result(None)
            free_before = free
