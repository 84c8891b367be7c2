"""Runs the chain of stages of one row, counts its tokens, and writes every failure into the row."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

from stj.errors import EndpointError, PromptTooLong, RequestFailed
from stj.generate import Completion, Generate, Sampling, SeededSampling
from stj.randomness import request_seed
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


class RequestSeeds:
    """Gives each request of a row a seed of its own, from the run's seed, the row's id, what is asked, and a number.

    The number counts the row's earlier requests for the same. Samples of one prompt are asked for in index order
    (stages/sampling.py), so a sample's number is its index.
    """

    def __init__(self, seed: int, row_id: str) -> None:
        self._seed = seed
        self._row_id = row_id
        self._asked: Counter[str] = Counter()

    def seeded(self, messages: Sequence[Turn], sampling: Sampling) -> Sampling:
        """The sampling with the seed of the row's next request of this kind."""
        purpose = hashlib.sha256(repr((tuple(messages), sampling)).encode("utf-8", "surrogatepass")).hexdigest()
        index = self._asked[purpose]
        self._asked[purpose] += 1
        return SeededSampling(**asdict(sampling), seed=request_seed(self._seed, self._row_id, purpose, index))


class TokenCounter:
    """A `Generate` that counts the tokens of its prompts and completions, and gives requests their seeds if there are any."""

    def __init__(self, ask: Ask, room: Room = wait_forever, seeds: RequestSeeds | None = None) -> None:
        self._ask = ask
        self._room = room
        self._seeds = seeds
        self.prompt_tokens = 0
        self.output_tokens = 0

    async def __call__(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """Asks the engine for a completion, and counts its tokens."""
        completion = await self._ask(messages, self._seeds.seeded(messages, sampling) if self._seeds else sampling)
        self.prompt_tokens += completion.prompt_tokens
        self.output_tokens += completion.output_tokens
        return completion

    async def room(self) -> None:
        """Waits for room on the engine."""
        await self._room()


async def run_stages(
    row: Row, stages: Sequence[Stage], ask: Ask, room: Room = wait_forever, seeds: RequestSeeds | None = None
) -> Row:
    """The row after its chain of stages; the chain stops early if the row is dropped or a request fails.

    A row is never lost: every failure is written into it. This includes unexpected exceptions, because a single odd row must
    not end a pass of a million. Failed rows count towards `engine.max_failed_fraction`.

    Raises EndpointError: an API would refuse every other row too.
    """
    counter = TokenCounter(ask, room, seeds)
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
