"""Engines in processes of their own: real vLLM, forked from a warm process, and ended with their actor."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import Config, ModelConfig
from stj.config_loader import load
from stj.engine.hosted import HostedEngine
from stj.errors import ModelError, PromptTooLong
from stj.generate import Completion, Sampling, SeededSampling, Usage
from stj.rows import Turn
from tests.conftest import engines, soon

pytestmark = pytest.mark.engine

CONFIG: Config = load([Path(__file__).parents[2] / "conf" / "mini.yaml"])
QUESTION = [Turn(role="user", content="What is the color of the fox?")]
GREEDY = Sampling(temperature=0.0, max_tokens=16)


async def start(scope: str, model: ModelConfig = CONFIG.models.seed) -> HostedEngine:
    return await HostedEngine.start(model, CONFIG.engine, 0, scope)


async def closed(engine: HostedEngine) -> None:
    engine.close()
    await asyncio.sleep(0.1)


def test_engines_answer_at_once_and_share_one_warm_process(mark: str) -> None:
    async def ask_two() -> tuple[list[Completion], list[Usage], int, int]:
        first = await start(mark)
        processes = len(engines(mark))
        second = await start(mark)
        answers = await asyncio.gather(*(engine.generate(QUESTION, GREEDY) for engine in (first, second, first, second)))
        usages = [first.usage, second.usage]
        counts = processes, len(engines(mark))
        await asyncio.gather(closed(first), closed(second))
        return list(answers), usages, *counts

    answers, usages, with_one, with_two = asyncio.run(ask_two())
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].text.startswith("The answer is")
    assert [usage.output_tokens for usage in usages] == [2 * answers[0].output_tokens] * 2
    assert [usage.prompt_tokens for usage in usages] == [2 * answers[0].prompt_tokens] * 2
    assert with_two - with_one == with_one - 1  # one of all processes is the warm one
    assert soon(lambda: len(engines(mark)) == 1)


def test_what_is_wrong_with_a_request_or_a_model_comes_through(mark: str, tmp_path: Path) -> None:
    async def too_long() -> None:
        engine = await start(mark)
        try:
            await engine.generate([Turn(role="user", content="fox " * 5000)], GREEDY)
        finally:
            await closed(engine)

    with pytest.raises(PromptTooLong, match="context of 2048 tokens"):
        asyncio.run(too_long())
    with pytest.raises(ModelError, match="the directory does not exist"):
        asyncio.run(start(mark, ModelConfig(path=str(tmp_path / "nowhere"))))


def test_deterministic_texts_do_not_depend_on_what_runs_beside_them(mark: str) -> None:
    """Real vLLM: the same requests in another order, all at once, and one alone, on engines with other seeds."""
    config = replace(CONFIG.engine, deterministic=True)
    prompts = [[Turn(role="user", content=f"What is the color of the {animal}?")] for animal in ("fox", "ant", "goose", "cat")]

    async def texts(order: Sequence[int], seed: int) -> dict[int, str]:
        engine = await HostedEngine.start(CONFIG.models.seed, config, seed, mark)
        asked = {i: SeededSampling(temperature=1.5, top_p=1.0, max_tokens=24, seed=1000 + i) for i in order}
        answers = await asyncio.gather(*(engine.generate(prompts[i % 4], asked[i]) for i in order))
        await closed(engine)
        return {i: answer.text for i, answer in zip(order, answers, strict=True)}

    every = asyncio.run(texts(range(24), seed=0))
    assert len(set(every.values())) > 12
    assert asyncio.run(texts(range(23, -1, -1), seed=1)) == every
    assert asyncio.run(texts([17], seed=2)) == {17: every[17]}


ACTOR = """
import asyncio, sys
from tests.engine.test_hosted import GREEDY, QUESTION, start

async def main():
    engine = await start(sys.argv[1])
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print((await engine.generate(QUESTION, GREEDY)).text, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def actor(mark: str) -> Iterator[subprocess.Popen[str]]:
    """A process with an engine that is ready, beside the warm process."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", ACTOR, mark], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert soon(lambda: len(engines(mark)) == 3)
    yield process
    process.kill()
    process.communicate()


def test_a_killed_actor_takes_its_engine_with_it(actor: subprocess.Popen[str], mark: str) -> None:
    actor.kill()
    assert soon(lambda: len(engines(mark)) == 1)


def test_an_engine_whose_worker_is_killed_ends_its_actor_which_ray_starts_again(
    actor: subprocess.Popen[str], mark: str
) -> None:
    os.kill(max(engines(mark)), signal.SIGKILL)  # the youngest: vLLM's EngineCore
    assert actor.stdin is not None
    actor.stdin.write("go on\n")
    actor.stdin.flush()
    assert actor.wait(timeout=60) == 1
    assert soon(lambda: len(engines(mark)) == 1)
