"""The parts of gpu.py that need vLLM: our engine and its stages, bare vLLM, and an engine on an exported model."""

import asyncio
import itertools
import json
import math
import os
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import Any

import psutil
from generation import BareVllm, ask, read_rows, token_ids
from gpu_sizes import Sizes

from stj.config import EngineConfig, JudgeConfig, ModelConfig
from stj.engine.hosted import HostedEngine
from stj.engine.load import EngineLoad
from stj.generate import Completion, Generate, Sampling
from stj.randomness import uniform
from stj.rows import Pair, Row, Turn
from stj.stages.judge import judge, label_of_winner
from stj.stages.runner import Stage, run_stages

Figures = dict[str, Any]
_SAMPLES = 15
_WARM_UP_SHARE = 8  # The trial before the first one has an eighth of its prompts.


def engine(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """Our engine and our stages, as one of a pass's engines runs them; Ray only brings and takes the rows there."""
    model, config = _model(sizes, scratch), sizes.engine()
    yield {"vllm_is_compiled": _is_compiled("vllm")}
    with asyncio.Runner() as runner:
        seconds, hosted = _started(runner, model, config)
        yield {"cold_start_s": seconds, "log": _log_of_engine(scratch)}
        yield from _throughput(sizes, runner, hosted, config, model.path)
        rule = {name: runner.run(_judged(sizes, hosted, config, name)) for name in ("first_correct", "all")}
        yield {"rule": rule, "first_correct_over_all": round(rule["first_correct"]["seconds"] / rule["all"]["seconds"], 4)}
        _close(runner, hosted)
        seconds, hosted = _started(runner, model, config)
        yield {"warm_start_s": seconds, "warm_log": _log_of_engine(scratch)}
        _close(runner, hosted)


def bare(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """The same prompts by vllm.LLM with the same settings."""
    model = _model(sizes, scratch)
    started = time.monotonic()
    answer = BareVllm(model, sizes.engine())
    sys.stdout.flush()
    yield {
        "start_s": round(time.monotonic() - started, 1),
        "log": log_figures(Path("/proc/self/fd/1").read_text("utf-8", "replace")),
    }
    rates: list[float] = []
    for trial, prompts in enumerate(_trials(sizes, model.path)):
        done = answer(token_ids(model.path, prompts), sizes.output_tokens)
        assert done["tokens"] == len(prompts) * sizes.output_tokens
        if trial:
            rates.append(round(done["tokens"] / done["seconds"], 1))
            yield {"tokens_per_s": rates}


_LOGGED = {
    "batch_tokens": r"max_num_batched_tokens=(\d+)",
    "kv_cache_tokens": r"KV cache size: ([\d,]+) tokens",
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "compile_s": r"torch.compile took ([\d.]+) s",
    "graphs_s": r"Graph capturing finished in (\d+) secs",
    "graphs_gib": r"Graph capturing finished in \d+ secs, took ([\d.]+) GiB",
    "init_s": r"init engine .* took ([\d.]+) s",
}
"""What vLLM logs at its start, in the words of 0.25 and of 0.32."""


def log_figures(log: str) -> Figures:
    """Figures from vLLM's log; None for what it does not say."""
    matches = {name: re.search(words, log) for name, words in _LOGGED.items()}
    return {name: float(match[1].replace(",", "")) if match else None for name, match in matches.items()}


def _log_of_engine(scratch: Path) -> Figures:
    """From the log of the only engine that runs now."""
    (log,) = scratch.glob("stj-*/engine-*.log")
    return log_figures(log.read_text("utf-8", "replace"))


def load(sizes: Sizes, scratch: Path) -> Iterator[Figures]:
    """An engine that loads the exported model; if the training has written none, a random one of two layers."""
    from random_llama import write_endless, write_weights

    path, exported = scratch / "exported", (scratch / "exported" / "config.json").exists()
    if not exported:
        write_weights(write_endless(path, replace(sizes.small, layers=2)))
    weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    yield {"exported_by_training": exported, "weights_gb": round(weights / 1e9, 3)}
    with asyncio.Runner() as runner:
        config = sizes.engine(eager=True)
        seconds, hosted = _started(runner, ModelConfig(path=str(path), max_model_len=sizes.model_len), config)
        yield {"start_s": seconds}
        answer = runner.run(hosted.generate([Turn(role="user", content="fox")], Sampling(temperature=0.0, max_tokens=4)))
        yield {"answered_tokens": answer.output_tokens}
        _close(runner, hosted)


def _model(sizes: Sizes, scratch: Path) -> ModelConfig:
    from random_llama import write_endless

    path = write_endless(scratch / "endless", sizes.small)
    return ModelConfig(path=str(path), max_model_len=sizes.model_len, load_format="dummy")


def _is_compiled(package: str) -> bool:
    """Whether Python has a package's bytecode; if not, a cold start takes some seconds more."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None and Path(cache_from_source(spec.origin)).exists()


def _started(runner: asyncio.Runner, model: ModelConfig, config: EngineConfig) -> tuple[float, HostedEngine]:
    started = time.monotonic()
    hosted = runner.run(HostedEngine.start(model, config, 0, scope=None))
    return round(time.monotonic() - started, 1), hosted


def _close(runner: asyncio.Runner, hosted: HostedEngine) -> None:
    """Closes an engine, and waits until its processes have given the card back."""
    hosted.close()
    runner.run(asyncio.sleep(0.1))
    while _hosts():
        time.sleep(0.1)


def _hosts() -> list[int]:
    """Processes of engines, which this process's warm process has forked; their command names their owner."""
    owned = [
        process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if (process.info["cmdline"] or [])[2:3] == ["stj.engine.host"] and process.info["cmdline"][4] == str(os.getpid())
    ]
    numbers = {process.pid for process in owned}
    return [process.pid for process in owned if process.info["ppid"] in numbers]


def _trials(sizes: Sizes, path: str) -> Iterator[list[list[Turn]]]:
    """The prompts of each trial, all of one length, and new in each trial: an engine knows none from its cache.

    The first trial warms up, with fewer prompts.
    """
    words = random.Random(0)
    known = _words(path)
    outside = len(token_ids(path, [[Turn(role="user", content="")]])[0])
    for trial in range(sizes.trials + 1):
        count = sizes.prompts if trial else -(-sizes.prompts // _WARM_UP_SHARE)
        texts = ("".join(words.choices(known, k=sizes.prompt_tokens - outside)) for _ in range(count))
        prompts = [[Turn(role="user", content=text)] for text in texts]
        lengths = {len(ids) for ids in token_ids(path, prompts)}
        assert lengths == {sizes.prompt_tokens}, f"prompts of {lengths} tokens"
        yield prompts


def _words(path: str) -> list[str]:
    """Words with the blank before them that are one token each."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    vocabulary = sorted(token for token in tokenizer.get_vocab() if token.startswith("\u0120") and token[1:].isalpha())
    return [word for word in (f" {token[1:]}" for token in vocabulary) if len(tokenizer.tokenize(word)) == 1]


async def _rows_through(
    hosted: HostedEngine, config: EngineConfig, rows: Sequence[Row], stages: Sequence[Stage]
) -> tuple[float, list[Row]]:
    """Seconds from the first request to the last row, and the rows, as PassActor runs them."""
    load = EngineLoad(hosted, config.slots)
    watching = asyncio.create_task(load.watch())
    slots = asyncio.Semaphore(config.rows_in_flight)

    async def run(row: Row) -> Row:
        async with slots:
            return await run_stages(row, stages, load.ask, load.room)

    started = time.monotonic()
    done = await asyncio.gather(*map(run, rows))
    seconds = time.monotonic() - started
    watching.cancel()
    failed = [row.error for row in done if row.error]
    assert not failed, failed[0]
    return seconds, done


def _throughput(
    sizes: Sizes, runner: asyncio.Runner, hosted: HostedEngine, config: EngineConfig, path: str
) -> Iterator[Figures]:
    """Output tokens a second, one sample a prompt."""
    stages = [partial(ask, samples=1, lengths=(sizes.output_tokens,))]
    rates: list[float] = []
    for trial, prompts in enumerate(_trials(sizes, path)):
        seconds, rows = runner.run(_rows_through(hosted, config, list(read_rows(prompts)), stages))
        written = sum(json.loads(row.detail or "")[1] for row in rows)
        assert written == len(prompts) * sizes.output_tokens
        if trial:
            rates.append(round(written / seconds, 1))
            yield {"tokens_per_s": rates, "prompts": len(prompts), "prompt_tokens": sizes.prompt_tokens}


async def _judged(sizes: Sizes, hosted: HostedEngine, config: EngineConfig, sampling: str) -> Figures:
    """Pairs judged under a rule: seconds, and what was drawn."""
    chain = [partial(_judge_by_coin, config=JudgeConfig(sampling=sampling, samples=_SAMPLES), median=sizes.judgment_tokens)]
    words = "Which color does the fox like best of all the colors that there are?"
    pairs = [
        Row(
            id=f"{sampling}-{number}",
            position=number,
            turns=(Turn(role="user", content=f"{sampling} {number}: {words}"),),  # no prompt is in the other rule's cache
            pair=Pair(method="modified_instruction", chosen=f"{number}: red", rejected=f"{number}: blue"),
        )
        for number in range(sizes.pairs)
    ]
    before = hosted.usage
    seconds, rows = await _rows_through(hosted, config, pairs, chain)
    return {
        "seconds": round(seconds, 2),
        "pairs": len(rows),
        "kept": sum(row.kept is not None for row in rows),
        "draws": sum(len(row.judgments) for row in rows),
        "aborted": sum(row.aborted for row in rows),
        "output_tokens": hosted.usage.output_tokens - before.output_tokens,
    }


async def _judge_by_coin(row: Row, generate: Generate, config: JudgeConfig, median: int) -> Row:
    return await judge(row, _WithVerdicts(row, generate, median), config, seed=0)


class _WithVerdicts:
    """A model whose answers get lengths and verdicts by chance; it asks the real one for as many tokens.

    Both are functions of the pair's number and of the sample's, so both rules meet the same judgments.
    """

    def __init__(self, row: Row, generate: Generate, median: int) -> None:
        self._row = row
        self._generate = generate
        self._median = median
        self._numbers = itertools.count()
        self.room = generate.room

    async def __call__(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        """An answer of the drawn length with the drawn verdict."""
        pair, number = f"pair {self._row.position}", next(self._numbers)
        chance = random.Random(f"{pair} {number}")
        length = min(max(1, round(chance.lognormvariate(math.log(self._median), 0.5))), 8 * self._median)
        right = chance.random() < uniform(0, pair, "share of right judgments")
        winner = label_of_winner(0, self._row.id)
        verdict = winner if right else "B" if winner == "A" else "A"
        completion = await self._generate(messages, replace(sampling, max_tokens=length))
        return replace(completion, text=f"[[{verdict}]]", finish_reason="stop")
