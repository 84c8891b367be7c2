"""Generation against named peers in one run: bare vLLM, ray.data.llm, and our pass with other settings.

    python benchmarks/generation.py                        everything, on an otherwise idle machine
    python benchmarks/generation.py throughput rule        named parts: throughput, fanout, rule, starved

All peers run real vLLM with the mini world's seed model on one CPU core, with the same token ids and engine settings. Trials
are interleaved, and figures are medians. For fixed lengths the model is a copy without an end-of-turn token, so all
peers write the maximum number of tokens. Time runs from the first request to the last row that is back in the driver. Starts
of engines are not counted. Writes benchmarks/results/generation.json; memory.py adds the memory of a million rows.

throughput  (a) our pass over vllm.LLM.generate; (b) our pass over ray.data.llm, one sample a prompt
fanout      (b) our pass with 15 samples a row over ray.data.llm with 15 rows for each
rule        (c) judging with first_correct against all: wall time, draws against theory, prompt tokens against their bound
starved     (d) share of the time with fewer than half of an engine's slots busy while rows wait, at lognormal lengths; and
            the lag of the actor's event loop while nobody takes its rows
"""

import asyncio
import itertools
import json
import logging
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "generation.json"
MINI = ROOT / "conf" / "mini.yaml"
REPEATS = 5
ROWS, TOKENS, SAMPLES = 1152, 64, 15
FANOUT_ROWS = 64
RULE_ROWS = 96
STARVED_ROWS = 900
SLOTS = 64

# One engine on one core, with the settings of a pass of the mini run. Imports are inside functions, because vLLM's are slow.


def engine_config(**fields: Any) -> Any:
    """Settings of an engine on one core."""
    from stj.config import EngineConfig

    values = {"device": "cpu", "kv_cache_gib": 0.5, "enforce_eager": True, "commit_interval_s": 1000, "max_failed_fraction": 0}
    return EngineConfig(**{**values, **fields})


def endless_model(folder: Path) -> str:
    """A copy of the mini seed that never ends a turn: nothing names an end token. vLLM refuses one beyond the vocabulary."""
    import shutil

    shutil.copytree(ROOT / "stj" / "mini" / "seed_model", folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": None, "eos_token": None}))
    return str(folder)


def judge_prompts(count: int) -> list[Any]:
    """Distinct messages of Figure 8 for pairs of the mini world's held-out files."""
    from stj.config import HeldoutConfig
    from stj.sources.heldout import read_pairs
    from stj.stages.judge import judge_messages

    pairs = [
        row
        for name in ("heldout", "dev")
        for row in read_pairs(HeldoutConfig(path=str(ROOT / "stj" / "mini" / "data" / f"{name}.jsonl")))
    ]
    asked = [judge_messages(row.instruction, row.pair, winner) for row in pairs for winner in ("A", "B") if row.pair]
    return asked[:count]


def token_ids(model: str, prompts: Sequence[Any]) -> list[list[int]]:
    """The token ids that our engine sends for these messages."""
    from transformers import AutoTokenizer

    from stj.models.chat import encode_chat
    from stj.package_files import package_path

    tokenizer = AutoTokenizer.from_pretrained(package_path(model))
    return [encode_chat(tokenizer, messages) for messages in prompts]


def read_rows(prompts: Sequence[Any]) -> Iterator[Any]:
    """Rows with whole prompts as turns."""
    from stj.rows import Row

    return (Row(id=f"row-{i}", position=i, turns=tuple(turns)) for i, turns in enumerate(prompts))


async def ask(row: Any, generate: Any, samples: int, lengths: Sequence[int]) -> Any:
    """Asks a row `samples` times at once, as the rule `all` does; the row keeps its start time and its output tokens."""
    from stj.generate import Sampling

    began = time.time()
    sampling = Sampling(max_tokens=lengths[row.position % len(lengths)])
    done = await asyncio.gather(*(generate(row.turns, sampling) for _ in range(samples)))
    return row.drop("asked", json.dumps([began, sum(completion.output_tokens for completion in done)]))


def our_pass(
    model: str,
    prompts: Sequence[Any],
    samples: int = 1,
    lengths: Sequence[int] = (TOKENS,),
    make_engine: Any = None,
    stall: Callable[[], None] = lambda: None,
    **engine: Any,
) -> dict[str, float]:
    """Our pass over the prompts: seconds and output tokens."""
    from stj.config import ModelConfig
    from stj.passes.run import run_pass
    from stj.passes.spec import Pass
    from stj.storage.artifacts import Artifact
    from stj.storage.folder import Folder

    times: list[float] = []
    tokens = 0

    def collect(row: Any) -> None:
        nonlocal tokens
        began, written = json.loads(row.detail)
        tokens += written
        times.extend((began, time.time()))
        stall()

    with tempfile.TemporaryDirectory(prefix="stj-generation-") as scratch:
        artifact = Artifact(Folder.at(f"{scratch}/pass"), {"step": "benchmark"})
        artifact.begin()
        spec = Pass(
            model=ModelConfig(path=model, max_model_len=2048, tensor_parallel_size=1),
            read=partial(read_rows, prompts),
            stages={"training": [partial(ask, samples=samples, lengths=lengths)]},
            make_engine=make_engine,
        )
        run_pass(spec, artifact, engine_config(**engine), collect)
        ledger = artifact.manifest()["ledger"]
    assert ledger["output_tokens"] == tokens
    return {"seconds": max(times) - min(times), "tokens": tokens}


class BareVllm:
    """vllm.LLM with the settings and the environment of our engine."""

    def __init__(self, model: Any, config: Any) -> None:
        """Starts it; `model` is a ModelConfig and `config` an EngineConfig, as for our engine."""
        from stj.engine.hosted import engine_environment
        from stj.engine.settings import engine_settings

        before = dict(os.environ)
        os.environ.update(engine_environment(model, config))
        import torch
        from vllm import LLM

        if config.device == "cpu":
            torch.set_num_threads(1)  # The variable is too late for a process that has imported torch.

        self._llm = LLM(**engine_settings(model.path, model, config, seed=0), disable_log_stats=True)
        os.environ.clear()
        os.environ.update(before)  # Ray's workers must not inherit it.

    def __call__(self, ids: Sequence[list[int]], output_tokens: int = TOKENS) -> dict[str, float]:
        """Answers every prompt once."""
        from vllm import SamplingParams, TokensPrompt

        self._llm.reset_prefix_cache()
        parameters = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=output_tokens, ignore_eos=True)
        started, before = time.time(), time.process_time()
        outputs = self._llm.generate([TokensPrompt(prompt_token_ids=prompt) for prompt in ids], parameters, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        return {"seconds": time.time() - started, "cpu_seconds": time.process_time() - before, "tokens": tokens}


def ray_data_llm(model: str, ids: Sequence[list[int]]) -> dict[str, float]:
    """Ray's processor on the same ids; its time starts at its first request, computed from its rows."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from stj.config import ModelConfig
    from stj.engine.hosted import engine_environment
    from stj.engine.settings import engine_settings

    config, named = engine_config(), ModelConfig(path=model, max_model_len=2048, tensor_parallel_size=1)
    settings = {key: value for key, value in engine_settings(model, named, config, seed=0).items() if value is not None}
    del settings["model"]
    ours = engine_environment(named, config)
    environment = {key: value for key, value in ours.items() if os.environ.get(key) != value and key != "PYTHONPATH"}
    processor = build_processor(
        vLLMEngineProcessorConfig(
            model_source=model,
            engine_kwargs=settings,
            runtime_env={"env_vars": environment},
            concurrency=1,
            batch_size=32,
            max_concurrent_batches=16,
            chat_template_stage={"enabled": False},
            tokenize_stage={"enabled": False},
            detokenize_stage={"enabled": False},
            placement_group_config={"bundles": [{"CPU": 1}]},
            log_engine_metrics=False,
        ),
        preprocess=_request_of_ray,
        postprocess=_result_of_ray,
    )
    dataset = ray.data.from_items([{"ids": prompt} for prompt in ids])
    ended, began, tokens = 0.0, math.inf, 0
    for row in processor(dataset).iter_rows():
        ended = time.time()
        began = min(began, row["ended"] - row["took"])
        tokens += row["tokens"]
    return {"seconds": ended - began, "tokens": tokens}


def _request_of_ray(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": "",
        "tokenized_prompt": row["ids"],
        "sampling_params": {"temperature": 0.7, "top_p": 0.9, "max_tokens": TOKENS, "ignore_eos": True},
    }


def _result_of_ray(row: dict[str, Any]) -> dict[str, Any]:
    return {"ended": time.time(), "took": row["time_taken_llm"], "tokens": row["num_generated_tokens"]}


def rates(trials: Sequence[dict[str, float]]) -> list[float]:
    """Output tokens a second of each trial."""
    return [round(trial["tokens"] / trial["seconds"], 1) for trial in trials]


def throughput(model: str) -> dict[str, Any]:
    """One sample a prompt, at fixed lengths."""
    from stj.config import ModelConfig

    prompts = judge_prompts(ROWS)
    ids = token_ids(model, prompts)
    bare = BareVllm(ModelConfig(path=model, max_model_len=2048, tensor_parallel_size=1), engine_config())
    trials_by_way: dict[str, list[dict[str, float]]] = {"pass": [], "bare_vllm": [], "ray_data_llm": []}
    for _ in range(REPEATS):
        trials_by_way["bare_vllm"].append(bare(ids))
        trials_by_way["pass"].append(our_pass(model, prompts))
        trials_by_way["ray_data_llm"].append(ray_data_llm(model, ids))
        print({name: rates(trials) for name, trials in trials_by_way.items()}, file=sys.stderr)
    median = {name: statistics.median(rates(trials)) for name, trials in trials_by_way.items()}
    return {
        "pass_over_bare_vllm": round(median["pass"] / median["bare_vllm"], 4),
        "over_ray_data_llm_n1": round(median["pass"] / median["ray_data_llm"], 4),
        "raw": {"tokens_per_s": {name: rates(trials) for name, trials in trials_by_way.items()}, "trials": trials_by_way},
    }


def fanout(model: str) -> dict[str, Any]:
    """Fifteen samples a prompt."""
    prompts = judge_prompts(FANOUT_ROWS)
    ids = [prompt for prompt in token_ids(model, prompts) for _ in range(SAMPLES)]
    trials_by_way: dict[str, list[dict[str, float]]] = {"pass": [], "ray_data_llm": []}
    for _ in range(REPEATS):
        trials_by_way["pass"].append(our_pass(model, prompts, SAMPLES))
        trials_by_way["ray_data_llm"].append(ray_data_llm(model, ids))
        print({name: rates(trials) for name, trials in trials_by_way.items()}, file=sys.stderr)
    median = {name: statistics.median(rates(trials)) for name, trials in trials_by_way.items()}
    return {
        "over_ray_data_llm_15": round(median["pass"] / median["ray_data_llm"], 4),
        "raw": {"tokens_per_s": {name: rates(trials) for name, trials in trials_by_way.items()}, "trials": trials_by_way},
    }


def rule(model: str) -> dict[str, Any]:
    """Judging the mini world's pairs with the real seed: first_correct against all 15."""
    trials_by_way: dict[str, list[dict[str, Any]]] = {"first_correct": [], "all": []}
    for repeat in range(REPEATS):
        for name, trials in trials_by_way.items():
            trials.append(_judged(name, repeat))
        print(
            {name: [round(trial["seconds"], 1) for trial in trials] for name, trials in trials_by_way.items()}, file=sys.stderr
        )
    median = {name: statistics.median(trial["seconds"] for trial in trials) for name, trials in trials_by_way.items()}
    # If c of 15 judgments in random order are right, the first right one is expected at 16 / (c + 1).
    theory = statistics.mean(
        statistics.mean((SAMPLES + 1) / (c + 1) if c else SAMPLES for c in trial["correct"]) for trial in trials_by_way["all"]
    )
    draws = statistics.mean(trial["draws"] / RULE_ROWS for trial in trials_by_way["first_correct"])
    bounds = [trial["computed_tokens"] / trial["bound"] for trials in trials_by_way.values() for trial in trials]
    for trial in itertools.chain(*trials_by_way.values()):
        del trial["correct"]  # One number a pair: too many to keep.
    return {
        "draws_over_theory": round(draws / theory, 4),
        "prompt_tokens_over_bound": round(max(bounds), 4),
        "first_correct_over_all_wall": round(median["first_correct"] / median["all"], 4),
        "raw": {"block_tokens": _block_tokens(), "draws_a_pair": draws, "theory_a_pair": theory, "trials": trials_by_way},
    }


def _block_tokens() -> int:
    from stj.config_loader import load
    from stj.engine.settings import engine_settings

    config = load([MINI], [])
    return int(engine_settings("", config.models.seed, config.engine, 0)["block_size"])


def _judged(sampling: str, seed: int) -> dict[str, Any]:
    """One pass of judging: time, draws, right judgments of each pair, and tokens."""
    from stj.config import HeldoutConfig
    from stj.config_loader import load
    from stj.passes.run import run_pass
    from stj.passes.spec import Pass
    from stj.rows import row_from_dict
    from stj.sources.heldout import read_pairs
    from stj.stages.judge import judge, judge_messages
    from stj.storage.artifacts import Artifact
    from stj.storage.folder import Folder

    config = load([MINI], [f"judge.sampling={sampling}"])
    pairs = [
        replace(row, task="training")
        for row in read_pairs(HeldoutConfig(path=str(ROOT / "stj" / "mini" / "data" / "heldout.jsonl"), limit=RULE_ROWS))
    ]
    unique = [
        len(ids) for ids in token_ids(config.models.seed.path, [judge_messages(r.instruction, r.pair, "A") for r in pairs])
    ]
    with tempfile.TemporaryDirectory(prefix="stj-generation-") as scratch:
        artifact = Artifact(Folder.at(f"{scratch}/pass"), {"step": "benchmark"})
        artifact.begin()
        chain = [_begun, partial(judge, config=config.judge, seed=0), _ended]
        spec = Pass(model=config.models.seed, read=partial(iter, pairs), stages={"training": chain}, seed=seed)
        run_pass(spec, artifact, engine_config())
        rows = [row_from_dict(record) for record in artifact.records()]
        ledger = artifact.manifest()["ledger"]
    times = [float(word) for row in rows for word in (row.language or "").split()]
    draws = sum(len(row.judgments) for row in rows)
    asked = sum(len(row.judgments) + row.aborted for row in rows)
    # The bound: each pair's prompt is computed whole once. It is loose, because pairs share the system prompt and more.
    bound = sum(unique) + (asked - len(rows)) * _block_tokens()
    return {
        "seconds": max(times) - min(times),
        "kept": sum(row.kept is not None for row in rows),
        "draws": draws,
        "aborted": asked - draws,
        "correct": [sum(judgment.correct for judgment in row.judgments) for row in rows],
        "bound": bound,
        **{name: ledger[name] for name in ("prompt_tokens", "computed_tokens", "output_tokens", "wasted_tokens")},
    }


async def _begun(row: Any, generate: Any) -> Any:
    return replace(row, language=f"{time.time()}")


async def _ended(row: Any, generate: Any) -> Any:
    return replace(row, language=f"{row.language} {time.time()}")


class Watched:
    """An engine that records every 20 ms its open requests, its started requests, and the lag of the event loop."""

    def __init__(self, engine: Any, path: str) -> None:
        self._engine = engine
        self._path = path
        self._busy = self._begun = 0
        self._samples: list[tuple[float, int, int, float]] = []
        self._watching = asyncio.ensure_future(self._watch())

    async def generate(self, messages: Any, sampling: Any) -> Any:
        """Like the engine's method."""
        self._busy += 1
        self._begun += 1
        try:
            return await self._engine.generate(messages, sampling)
        finally:
            self._busy -= 1
            if self._begun == STARVED_ROWS and not self._busy:
                Path(self._path).write_text(json.dumps(self._samples))

    @property
    def usage(self) -> Any:
        """Like the engine's property."""
        return self._engine.usage

    async def _watch(self) -> None:
        while True:
            asked = time.monotonic()
            await asyncio.sleep(0.02)
            now = time.monotonic()
            self._samples.append((now, self._busy, self._begun, now - asked - 0.02))

    def close(self) -> None:
        """Like the engine's method."""
        self._watching.cancel()
        self._engine.close()


async def watched_engine(model: Any, config: Any, seed: int, path: str) -> Any:
    """Our engine in a `Watched`."""
    from stj.engine.hosted import HostedEngine

    return Watched(await HostedEngine.start(model, config, seed, scope=f"benchmark {os.getppid()}"), path)


def starved(model: str) -> dict[str, Any]:
    """Lognormal lengths (median 40 tokens, sigma 1), 64 slots, one request a row, and twice as many rows in flight as slots."""
    rng = random.Random(0)
    lengths = [max(1, min(1500, round(rng.lognormvariate(math.log(40), 1.0)))) for _ in range(STARVED_ROWS)]
    shares, drains, lags = [], [], []
    prompts = judge_prompts(STARVED_ROWS)
    prompts = [prompts[i % len(prompts)] for i in range(STARVED_ROWS)]
    with tempfile.TemporaryDirectory(prefix="stj-generation-") as scratch:
        for repeat in range(REPEATS):
            for stalled in (False, True) if repeat == 0 else (False,):
                path = f"{scratch}/{repeat}{stalled}.json"
                make = partial(watched_engine, path=path)
                stall = partial(time.sleep, 0.02) if stalled else lambda: None
                our_pass(model, prompts, 1, lengths, make, stall, max_num_seqs=SLOTS, rows_in_flight=2 * SLOTS)
                samples = json.loads(Path(path).read_text())
                first = next(i for i, sample in enumerate(samples) if sample[2] > 0)
                last = next(i for i, sample in enumerate(samples) if sample[2] == STARVED_ROWS)
                if stalled:
                    lags = sorted(sample[3] for sample in samples[first:])
                    continue
                waiting, whole = samples[first:last], samples[first:]
                shares.append(sum(sample[1] < SLOTS / 2 for sample in waiting) / len(waiting))
                drains.append(sum(sample[1] < SLOTS / 2 for sample in whole) / len(whole))
                print(shares, drains, file=sys.stderr)
    return {
        "starved_share": round(statistics.median(shares), 4),
        "loop_lag_p99_ms_stalled": round(1000 * lags[int(0.99 * len(lags))], 2),
        "raw": {
            "while_rows_wait": shares,
            "with_the_last_rows": drains,
            "slots": SLOTS,
            "rows": STARVED_ROWS,
            "mean_length": statistics.mean(lengths),
            "longest": max(lengths),
        },
    }


PARTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "throughput": throughput,
    "fanout": fanout,
    "rule": rule,
    "starved": starved,
}


def main() -> None:
    """Runs the named parts, or all, and adds their figures to the results."""
    from stj.cluster_config import RayConfig
    from stj.passes.session import engine_demand, ray_session

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="stj-generation-") as scratch:
        model = endless_model(Path(scratch) / "endless")
        for name in sys.argv[1:] or PARTS:
            with ray_session(RayConfig(address="local"), [engine_demand(engine_config(), [])]):
                figures = PARTS[name](model)
            raw = {**figures.pop("raw"), "load_average": os.getloadavg(), "cores": os.cpu_count(), "repeats": REPEATS}
            result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            result |= figures
            result.setdefault("raw", {})[name] = raw
            RESULT.write_text(json.dumps(dict(sorted(result.items(), key=lambda item: item[0] == "raw")), indent=1) + "\n")
            print(json.dumps({name: figures}))


if __name__ == "__main__":
    main()
