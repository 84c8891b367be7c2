"""A chain of stages: a row stops early, fails or completes, and is never lost."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from stj.engine.scripted import ScriptedEngine
from stj.errors import EndpointError, PromptTooLong, RequestFailed
from stj.generate import Completion, Generate, Sampling, SeededSampling
from stj.rows import Row, Turn
from stj.stages.runner import RequestSeeds, Stage, run_stages, together
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


def seeds_of(row: Row, stages: Sequence[Stage], seed: int = 1, order: int = 0) -> dict[str, list[int]]:
    """The seeds of a row's requests by prompt, with answers that take random times."""
    asked: dict[str, list[int]] = {}
    pace = random.Random(order)

    async def engine(messages: Sequence[Turn], sampling: Sampling) -> Completion:
        assert isinstance(sampling, SeededSampling)
        asked.setdefault(messages[-1].content, []).append(sampling.seed)
        for _ in range(pace.randrange(9)):
            await asyncio.sleep(0)
        return Completion(text=str(sampling.seed), finish_reason="stop", prompt_tokens=1, output_tokens=1)

    asyncio.run(run_stages(row, stages, engine, seeds=RequestSeeds(seed, row.id)))
    return asked


async def ask_often(row: Row, generate: Generate) -> Row:
    answers = await together(generate([Turn(role="user", content=f"{i % 2}")], Sampling()) for i in range(6))
    return replace(row, detail=" ".join(answer.text for answer in answers))


def test_every_request_has_a_seed_of_its_own_that_no_other_order_or_row_changes() -> None:
    row = make_row()
    first = seeds_of(row, [ask_often, ask])
    assert len({seed for seeds in first.values() for seed in seeds}) == 7
    assert all(0 <= seed <= 2**53 for seeds in first.values() for seed in seeds)
    assert seeds_of(row, [ask_often, ask], order=5) == first
    assert seeds_of(row, [ask_often])["0"] == first["0"]
    others = seeds_of(row, [ask_often], seed=2), seeds_of(replace(row, id="another"), [ask_often])
    for other in others:
        assert not {seed for seeds in other.values() for seed in seeds} & {seed for seeds in first.values() for seed in seeds}


def test_without_seeds_a_request_goes_to_the_engine_as_it_is() -> None:
    sampled: list[Sampling] = []

    async def engine(messages: Sequence[Turn], sampling: Sampling) -> Completion:
        sampled.append(sampling)
        return Completion(text="x", finish_reason="stop", prompt_tokens=1, output_tokens=1)

    asyncio.run(run_stages(make_row(), [ask], engine))
    assert sampled == [Sampling()]
    assert type(sampled[0]) is Sampling


def test_an_api_that_refuses_everything_ends_the_pass() -> None:
    with pytest.raises(EndpointError, match="wrong key"):
        run(fail(EndpointError("wrong key")))
