"""What an actor and its engine's process say to each other over their socket: pickled values, each after its length."""

import asyncio
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stj.config import EngineConfig, ModelConfig
from stj.errors import StjError
from stj.generate import Completion, Sampling, Usage
from stj.rows import Turn

_LENGTH_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Start:
    """The actor's first word; None comes back when the engine is ready, a StjError where it cannot be."""

    model: ModelConfig
    config: EngineConfig
    seed: int
    environment: dict[str, str]
    """The whole environment of the engine's processes."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Asks for one completion."""

    number: int
    messages: Sequence[Turn]
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Takes back the request of this number, if it is not answered yet."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answers the request of this number."""

    number: int
    result: Completion | StjError
    usage: Usage
    """Of the engine, up to here."""


def frame(value: Any) -> bytes:
    """A value as it goes over the socket."""
    body = pickle.dumps(value)
    return len(body).to_bytes(_LENGTH_BYTES) + body


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next value from the other side. Raises EOFError where there is no other side any more."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
        return pickle.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError("the other side is gone") from None
