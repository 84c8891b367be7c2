"""The messages between an actor and its engine's process: pickled values on a socket, each after its length."""

import asyncio
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stj.config import EngineConfig, ModelConfig
from stj.errors import StjError
from stj.generate import Completion, Sampling, Usage
from stj.rows import Turn

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOG_SUFFIX = ".log"
"""Ends the names of the files that take what the processes of engines print."""
_LENGTH_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Start:
    """The actor's first message. The answer is None when the engine is ready, or a StjError if it cannot start."""

    model: ModelConfig
    config: EngineConfig
    seed: int
    environment: dict[str, str]
    """Whole environment of the engine's processes."""
    log: str
    """Path of the file for all that the engine's processes print."""
    pools: bool = False
    """Whether the engine embeds texts; otherwise it writes them."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Asks for one completion."""

    number: int
    messages: Sequence[Turn]
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class EmbedRequest:
    """Asks for the vectors of texts, of an engine that pools."""

    number: int
    texts: Sequence[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """The vectors of texts, as a model gives them."""

    vectors: "npt.NDArray[np.float32]"
    """Shape (texts, dimensions); of any length, and zeros for a text without tokens."""
    cut: int
    """How many texts were longer than the model reads."""


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Cancels the request of this number, if it is not answered yet."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answers the request of this number."""

    number: int
    result: Completion | Embedded | StjError
    usage: Usage
    """Usage of the engine up to this answer."""


def frame(value: Any) -> bytes:
    """The bytes of a value on the socket."""
    body = pickle.dumps(value)
    return len(body).to_bytes(_LENGTH_BYTES) + body


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next value from the other side. Raises EOFError if the other side has closed."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
        return pickle.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError("the other side has closed") from None
