"""What an engine's process answers if its engine fails: always something, or its caller would wait forever."""

import asyncio
from typing import Any

import pytest

from stj.engine.host import _answer
from stj.engine.wire import Answer, EmbedRequest, receive
from stj.errors import RequestFailed, StjError
from stj.generate import Usage


class Panic(BaseException):
    """As a library in Rust raises it: no Exception."""


class Engine:
    usage = Usage(prompt_tokens=3)

    def __init__(self, fault: BaseException) -> None:
        self._fault = fault

    async def embed(self, texts: Any) -> Any:
        raise self._fault


async def answered(fault: BaseException) -> Answer:
    reader = asyncio.StreamReader()

    class Writer:
        def write(self, content: bytes) -> None:
            reader.feed_data(content)

    await _answer(Engine(fault), EmbedRequest(number=7, texts=["a"]), Writer())  # type: ignore[arg-type]
    answer: Answer = await receive(reader)
    return answer


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Panic("index\nout of range"), "Panic: index out of range"),
        (ValueError("bad"), "ValueError: bad"),
        (RequestFailed("as it is"), "as it is"),
    ],
)
def test_every_fault_is_answered(fault: BaseException, words: str) -> None:
    answer = asyncio.run(answered(fault))
    assert (answer.number, answer.usage) == (7, Usage(prompt_tokens=3))
    assert isinstance(answer.result, StjError)
    assert str(answer.result) == words


def test_a_cancelled_request_is_not_answered() -> None:
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answered(asyncio.CancelledError()))
