"""Runs the chain of stages of one row, counts its tokens, and writes every failure into the row."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from stj.errors import EndpointError, PromptTooLong, RequestFailed
from stj.generate import Completion, Generate, Sampling
from stj.rows import Row, Turn

_T = TypeVar("_T")

Stage = Callable[[Row, Generate], Awaitable[Row]]
"""From a row to a row; may ask a model."""
Ask = Callable[[Sequence[Turn], Sampling], Awaitable[Completion]]
"""Asks an engine for one completion."""
Room = Callable[[], Awaitable[None]]
"""Returns when the engine has room for a request that delays no other."""


async def together(requests: Iterable[Awaitable[_T]]) -> list[_T]:
    """The results of all requests, in order; if a request fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def wait_forever() -> None:
    """Waits for room on an engine whose load nobody watches: never returns."""
    await asyncio.Event().wait()


class TokenCounter:
    """A `Generate` that counts the tokens of its prompts and completions."""

    def __init__(self, ask: Ask, room: Room = wait_forever) -> None:
        self._ask = ask
        self._room = room
        self.prompt_tokens = 0
        self.output_tokens = 0

    async def __call__(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """Asks the engine for a completion, and counts its tokens."""
        completion = await self._ask(messages, sampling)
        self.prompt_tokens += completion.prompt_tokens
        self.output_tokens += completion.output_tokens
        return completion

    async def room(self) -> None:
        """Waits for room on the engine."""
        await self._room()


async def run_stages(row: Row, stages: Sequence[Stage], ask: Ask, room: Room = wait_forever) -> Row:
    """The row after its chain of stages; the chain stops early if the row is dropped or a request fails.

    A row is never lost: every failure is written into it. This includes unexpected exceptions, because a single odd row must
    not end a pass of a million. Failed rows count towards `engine.max_failed_fraction`.

    Raises EndpointError: an API would refuse every other row too.
    """
    counter = TokenCounter(ask, room)
    for stage in stages:
        if row.ended:
            break
        try:
            row = await stage(row, counter)
        except PromptTooLong as error:
            row = row.drop("prompt_too_long", str(error))
        except RequestFailed as error:
            row = replace(row, error=str(error))
        except EndpointError:
            raise
        except Exception as error:
            name = getattr(stage, "func", stage).__name__
            row = replace(row, error=f"{name}: {type(error).__name__}: {error}")
    return replace(
        row,
        prompt_tokens=row.prompt_tokens + counter.prompt_tokens,
        output_tokens=row.output_tokens + counter.output_tokens,
    )
