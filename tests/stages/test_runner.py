"""A chain of stages: a row stops early, fails or completes, and is never lost."""

import asyncio
from dataclasses import replace

import pytest

from stj.engine.scripted import ScriptedEngine
from stj.errors import EndpointError, PromptTooLong, RequestFailed
from stj.generate import Generate, Sampling
from stj.rows import Row
from stj.stages.runner import Stage, run_stages, together
from tests.conftest import make_row


async def ask(row: Row, generate: Generate) -> Row:
    completion = await generate(row.turns, Sampling())
    return replace(row, detail=completion.text)


async def drop(row: Row, generate: Generate) -> Row:
    return row.drop("enough")


def fail(error: Exception) -> Stage:
    async def stage(row: Row, generate: Generate) -> Row:
        raise error

    return stage


def run(*stages: Stage) -> Row:
    engine = ScriptedEngine(lambda messages, sampling: "five words of an answer")
    return asyncio.run(run_stages(make_row(), stages, engine.generate))


def test_tokens_are_counted_over_all_stages() -> None:
    row = run(ask, ask)
    assert (row.prompt_tokens, row.output_tokens, row.ended) == (10, 10, False)


def test_later_stages_skip_a_dropped_row() -> None:
    assert run(drop, ask).output_tokens == 0


def test_a_failed_request_is_written_into_its_row() -> None:
    assert run(fail(RequestFailed("refused")), ask).error == "refused"


def test_a_prompt_without_room_is_a_drop() -> None:
    row = run(ask, fail(PromptTooLong("prompt of 9000 tokens")))
    assert (row.dropped, row.detail, row.error) == ("prompt_too_long", "prompt of 9000 tokens", None)


def test_an_unexpected_exception_is_written_into_its_row() -> None:
    assert "KeyError: 'odd'" in (run(fail(KeyError("odd"))).error or "")


def test_if_a_request_fails_the_others_are_cancelled() -> None:
    """Otherwise they would take the engine's room for a row that has ended."""
    ended: list[str] = []

    async def request(seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            raise RequestFailed("no")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def row() -> None:
        with pytest.raises(RequestFailed):
            await together([request(3600), request(0), request(3600)])
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(row(), 60))
    assert ended == ["cancelled", "cancelled"]


def test_an_api_that_refuses_everything_ends_the_pass() -> None:
    with pytest.raises(EndpointError, match="wrong key"):
        run(fail(EndpointError("wrong key")))
