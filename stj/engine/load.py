"""How full an engine is: room for samples that run ahead of what is certainly needed."""

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import NoReturn

from stj.generate import Completion, Engine, Sampling
from stj.rows import Turn

_WATCH_S = 0.25


class EngineLoad:
    """The requests that are on an engine.

    There is room when it has been less than half full for a while: when it drains, not when it fills.
    """

    def __init__(self, engine: Engine, slots: int) -> None:
        self._engine = engine
        self._slots = slots
        self._asked = 0
        self._hopeful: dict[asyncio.Future[None], None] = {}  # in the order in which they came; whoever gives up leaves

    async def ask(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """One completion, counted while it is on its way."""
        self._asked += 1
        try:
            return await self._engine.generate(messages, sampling)
        finally:
            self._asked -= 1

    async def room(self) -> None:
        """Returns when there is room, to one caller for each free slot."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hopeful[place] = None
        try:
            await place
        finally:
            self._hopeful.pop(place, None)

    async def watch(self) -> NoReturn:
        """Gives places away, as long as the engine lives."""
        free_before = 0
        while True:
            await asyncio.sleep(_WATCH_S)
            free = max(0, self._slots // 2 - self._asked)
            for place in list(islice(self._hopeful, min(free, free_before))):
                del self._hopeful[place]
                if not place.done():
                    place.set_result(None)
            free_before = free
