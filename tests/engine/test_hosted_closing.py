"""No request waits for ever: whatever ends an engine, or its start, ends its requests with a named error."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.engine import hosted
from stj.engine.hosted import HostedEngine
from stj.engine.wire import Answer, Request, frame, receive
from stj.errors import EngineDied, RequestFailed
from stj.generate import Completion, Sampling, Usage
from stj.rows import Turn
from tests.conftest import engines, running, soon
from tests.engine.test_hosted import CONFIG, start

QUESTION = [Turn(role="user", content="What is the color of the fox?")]
ANSWER = Completion(text="red", finish_reason="stop", prompt_tokens=1, output_tokens=1)
CLOSED, DIED = "the engine is closed", "the engine's process has ended"
Other = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connected() -> tuple[HostedEngine, Other]:
    """An engine of a user's process, and the side of the connection on which its host would be."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    return HostedEngine(reader, writer, "engine.log", in_actor=False), await asyncio.open_unix_connection(sock=theirs)


async def errors(engine: HostedEngine, end: Callable[[], Any], requests: int = 3) -> list[str]:
    """The errors of requests that are open when the engine ends, and of one after that; a request that waits fails the test."""
    asked = [asyncio.create_task(engine.generate(QUESTION, Sampling())) for _ in range(requests)]
    await asyncio.sleep(0)  # they have begun
    if isinstance(ended := end(), Awaitable):
        await ended
    asked.append(asyncio.create_task(engine.generate(QUESTION, Sampling())))
    done, waiting = await asyncio.wait(asked, timeout=600)
    for request in waiting:
        request.cancel()
    assert not waiting, f"{len(waiting)} of {len(asked)} requests wait for ever"
    return [str(request.exception()) if type(request.exception()) is EngineDied else repr(request) for request in done]


@pytest.mark.parametrize("times", [1, 2])
def test_requests_of_a_closed_engine_end(times: int) -> None:
    async def closing() -> tuple[list[str], bytes]:
        engine, (reader, writer) = await connected()
        ended = await errors(engine, lambda: [engine.close() for _ in range(times)])
        engine.close()
        sent = await reader.read()  # up to the end: the host notices it too
        writer.close()
        return ended, sent

    ended, sent = asyncio.run(closing())
    assert ended == [f"{CLOSED}; start another one"] * 4
    assert sent.count(b"Request") <= 3


def test_an_engine_may_be_closed_from_another_thread_or_after_its_event_loop() -> None:
    async def closing() -> tuple[HostedEngine, HostedEngine, list[str], bytes]:
        engine, (reader, writer) = await connected()
        ended = await errors(engine, lambda: asyncio.to_thread(engine.close))
        end = await reader.read()
        writer.close()
        later, (_, writer) = await connected()
        writer.close()
        return engine, later, ended, end

    first, later, ended, _ = asyncio.run(closing())
    assert ended == [f"{CLOSED}; start another one"] * 4
    for engine in (first, later):
        engine.close()
        with pytest.raises(EngineDied, match=CLOSED):
            asyncio.run(engine.generate(QUESTION, Sampling()))


def test_requests_of_an_engine_that_dies_end_and_closing_it_then_does_no_harm() -> None:
    async def dying() -> tuple[list[str], list[str]]:
        engine, (_, writer) = await connected()
        died = await errors(engine, writer.close)
        engine.close()
        return died, await errors(engine, engine.close)

    died, closed = asyncio.run(dying())
    assert len(died) == 4
    assert all(error.startswith(DIED) and "engine.log" in error for error in died)
    assert closed == [f"{CLOSED}; start another one"] * 4


def test_requests_end_if_an_answer_cannot_be_read(capfd: pytest.CaptureFixture[str]) -> None:
    async def damaged() -> list[str]:
        engine, (_, writer) = await connected()
        ended = await errors(engine, lambda: writer.write((4).to_bytes(4) + b"none"))
        writer.close()
        return ended

    assert all(error.startswith(DIED) for error in asyncio.run(damaged()))
    assert "UnpicklingError" in capfd.readouterr().err


def test_requests_end_if_the_task_that_receives_answers_is_cancelled() -> None:
    """As Judge.close does with all tasks of its event loop."""

    async def cancelling() -> list[str]:
        engine, (_, writer) = await connected()
        ended = await errors(engine, engine._receiving.cancel)
        writer.close()
        return ended

    assert all(error.startswith(DIED) for error in asyncio.run(cancelling()))


def test_what_was_answered_before_the_end_stays_answered() -> None:
    async def one_of_two() -> list[Any]:
        engine, (reader, writer) = await connected()
        asked = [asyncio.create_task(engine.generate(QUESTION, Sampling())) for _ in range(3)]
        requests: list[Request] = [await receive(reader) for _ in asked]
        results = (ANSWER, RequestFailed("no"))
        for request, result in zip(requests, results, strict=False):
            writer.write(frame(Answer(number=request.number, result=result, usage=Usage())))
        await asyncio.wait(asked[:2])
        engine.close()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        writer.close()
        return answers

    answer, refused, closed = asyncio.run(one_of_two())
    assert answer == ANSWER
    assert (type(refused), type(closed)) == (RequestFailed, EngineDied)


@pytest.mark.parametrize("silent_for", ["connect", "answer"])
def test_a_cancelled_start_closes_its_connection(monkeypatch: pytest.MonkeyPatch, silent_for: str) -> None:
    """The host sees the end at once, and nothing of it stays open here."""

    async def cancelled() -> bytes:
        """What the host reads after the start was cancelled."""
        ours, theirs = socket.socketpair()
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def connect(connection: socket.socket, *_: object) -> None:
            os.dup2(ours.fileno(), connection.fileno())
            ours.close()
            loop.call_soon_threadsafe(began.set)

        monkeypatch.setattr(hosted, "_connect", connect)
        starting = asyncio.create_task(HostedEngine.start(ModelConfig(path="x"), EngineConfig(device="cpu"), 0, None))
        await began.wait()
        reader, writer = await asyncio.open_unix_connection(sock=theirs)
        if silent_for == "answer":
            await receive(reader)
        starting.cancel()
        await asyncio.wait([starting], timeout=600)
        assert starting.cancelled()
        rest = await asyncio.wait_for(reader.read(), 600)
        writer.close()
        return rest

    rest = asyncio.run(cancelled())
    assert not rest or silent_for == "connect"


WAITS = """
import os, socket, sys, time
from stj.engine.host import ended_by
connection = socket.socket(fileno=int(sys.argv[1]))
with ended_by(connection):
    print("starts", flush=True)
    if sys.argv[2] == "busy":
        while True:
            pass
    sys.stdin.readline()
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.parametrize("closes", ["before", "while it starts", "afterwards"])
def test_a_process_that_starts_an_engine_ends_with_its_connection(closes: str) -> None:
    ours, theirs = socket.socketpair()
    if closes == "before":
        ours.close()
    words = [sys.executable, "-c", WAITS, str(theirs.fileno()), "busy" if closes == "while it starts" else "idle"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(words, **pipes, pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[2]) as process:
        theirs.close()
        if closes == "before":
            assert process.wait(600) == 1
            return
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "starts\n"
        if closes == "while it starts":
            ours.close()
            assert process.wait(600) < 0
            return
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        ours.close()
        process.stdin.write("end\n")
        process.stdin.flush()
        assert process.wait(600) == 0


@pytest.mark.engine
@pytest.mark.long
def test_no_process_of_an_engine_stays_if_its_start_is_cancelled(mark: str) -> None:
    async def cancelled(whole: int) -> None:
        starting = asyncio.create_task(start(mark))
        while len(engines(mark)) < whole and not starting.done():  # the warm process, the engine's host, the check of weights
            await asyncio.sleep(0.01)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():  # a slow test and a fast start
            starting.result().close()

    for whole in (1, 2, 3):
        asyncio.run(cancelled(whole))
        assert soon(lambda: len(engines(mark)) == 1)

    async def answered() -> Completion:
        engine = await HostedEngine.start(CONFIG.models.seed, CONFIG.engine, 0, mark)
        try:
            return await engine.generate(QUESTION, Sampling(max_tokens=4))
        finally:
            engine.close()

    assert asyncio.run(answered()).output_tokens > 0
    assert soon(lambda: len(engines(mark)) == 1)
