"""The stages: async functions from a row to a row that may ask a model. They know neither Ray nor vLLM."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from stj.errors import PromptTooLong, RequestFailed
from stj.generate import Completion, Generate, Sampling
from stj.rows import Row, Turn

T = TypeVar("T")
Stage = Callable[[Row, Generate], Awaitable[Row]]


Ask = Callable[[Sequence[Turn], Sampling], Awaitable[Completion]]
"""Asks an engine for one completion."""
Room = Callable[[], Awaitable[None]]
"""Returns when the engine could take one more request that makes no other wait."""


async def together(requests: Iterable[Awaitable[T]]) -> list[T]:
    """What all of them give; where one fails, the others are not left running."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def never() -> None:
    """The room of an engine that nobody watches."""
    await asyncio.Event().wait()


class TokenCounter:
    """A `Generate` that counts the tokens that go through it."""

    def __init__(self, ask: Ask, room: Room = never) -> None:
        self._ask = ask
        self._room = room
        self.prompt_tokens = 0
        self.output_tokens = 0

    async def __call__(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """The completion, counted."""
        completion = await self._ask(messages, sampling)
        self.prompt_tokens += completion.prompt_tokens
        self.output_tokens += completion.output_tokens
        return completion

    async def room(self) -> None:
        """As the engine's."""
        await self._room()


async def run_stages(row: Row, stages: Sequence[Stage], ask: Ask, room: Room = never) -> Row:
    """The row after its chain of stages; it ends early where it is dropped or a request fails.

    A row is never lost: what goes wrong with it is written into it. That holds for any exception, since one row that no
    stage foresaw must not end a pass of a million; such rows count towards `engine.max_failed_fraction`.
    """
    meter = TokenCounter(ask, room)
    for stage in stages:
        if row.ended:
            break
        try:
            row = await stage(row, meter)
        except PromptTooLong as error:
            row = row.drop("prompt_too_long", str(error))
        except RequestFailed as error:
            row = replace(row, error=str(error))
        except Exception as error:
            name = getattr(stage, "func", stage).__name__
            row = replace(row, error=f"{name}: {type(error).__name__}: {error}")
    return replace(
        row,
        prompt_tokens=row.prompt_tokens + meter.prompt_tokens,
        output_tokens=row.output_tokens + meter.output_tokens,
    )
