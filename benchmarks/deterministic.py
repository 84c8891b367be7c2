"""What a seed fixes of the texts that a model samples, and the cost of `engine.deterministic`: the mini seed on a CPU.

    python benchmarks/deterministic.py

The same requests are sent twice to one new engine each, the second time in another order and with another size of batch:

default        vLLM's own generator serves all requests in flight
seeds alone    each request has its seed, and requests are batched
deterministic  each request has its seed, and is computed as if it were alone

Prints the requests a second of the first run, and the share of texts that both runs have in common.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stj.config import EngineConfig, ModelConfig
from stj.engine.hosted import HostedEngine
from stj.generate import Sampling
from stj.rows import Turn
from stj.stages.runner import RequestSeeds

POOL = Path(__file__).parents[1] / "stj" / "mini" / "data" / "instructions.jsonl"
MODEL = ModelConfig(path="package://mini/seed_model", max_model_len=512)
ENGINE = EngineConfig(device="cpu", kv_cache_gib=0.3, enforce_eager=True, max_num_seqs=64)
PROMPTS, SAMPLES = 100, 3
SAMPLING = Sampling(temperature=2.0, top_p=1.0, max_tokens=48)  # hot: the small model is sure of most of its words


async def texts(config: EngineConfig, prompts: Sequence[str], *, seeded: bool, order: int) -> tuple[list[str], float]:
    """The texts of all requests by prompt and sample, and the requests a second; `order` shuffles the arrivals."""
    engine = await HostedEngine.start(MODEL, config, seed=order, scope=None)
    requests = []
    for number, prompt in enumerate(prompts):
        seeds, messages = RequestSeeds(0, str(number)), [Turn(role="user", content=prompt)]
        requests += [(messages, seeds.seeded(messages, SAMPLING) if seeded else SAMPLING) for _ in range(SAMPLES)]
    places = list(range(len(requests)))
    random.Random(order).shuffle(places)
    started = time.monotonic()
    answers = await asyncio.gather(*(engine.generate(*requests[place]) for place in places))
    seconds = time.monotonic() - started
    engine.close()
    return [answer.text for _, answer in sorted(zip(places, answers, strict=True), key=lambda pair: pair[0])], len(
        requests
    ) / seconds


async def compare(name: str, config: EngineConfig, prompts: Sequence[str], *, seeded: bool) -> None:
    """Prints the line of one way to sample."""
    first, pace = await texts(config, prompts, seeded=seeded, order=0)
    second, _ = await texts(replace(config, max_num_seqs=24), prompts, seeded=seeded, order=1)
    same = sum(a == b for a, b in zip(first, second, strict=True))
    print(f"{name:<15}{pace:7.1f} requests/s   {same / len(first):7.2%} of {len(first)} texts are the same")


async def main() -> None:
    """Compares the three ways."""
    with POOL.open(encoding="utf-8") as lines:
        prompts = [json.loads(line)["conversation"][0]["content"] for line, _ in zip(lines, range(PROMPTS), strict=False)]
    await compare("default", ENGINE, prompts, seeded=False)
    await compare("seeds alone", ENGINE, prompts, seeded=True)
    await compare("deterministic", replace(ENGINE, deterministic=True), prompts, seeded=True)


if __name__ == "__main__":
    asyncio.run(main())
