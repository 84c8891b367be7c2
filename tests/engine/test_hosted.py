"""Engines in processes of their own: real vLLM, forked from a warm process, and ended with their actor."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stj.config import Config, ModelConfig
from stj.config_loader import load
from stj.engine.host import SetByImports
from stj.engine.hosted import HostedEngine, _new_log
from stj.errors import ConfigError, ModelError, PromptTooLong
from stj.generate import Completion, Sampling, SeededSampling, Usage
from stj.package_files import package_path
from stj.rows import Turn
from stj.storage.private import private_folder
from tests.conftest import engines, running, soon

pytestmark = pytest.mark.engine

CONFIG: Config = load([Path(__file__).parents[2] / "conf" / "mini.yaml"])
SEED = Path(__file__).parents[2] / "stj" / "mini" / "seed_model"
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
    assert all(answer.text.startswith("The answer is") for answer in answers)
    for usage, own in zip(usages, (answers[::2], answers[1::2]), strict=True):
        assert usage.output_tokens == sum(answer.output_tokens for answer in own)
        assert usage.prompt_tokens == sum(answer.prompt_tokens for answer in own)
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


def test_an_adapter_answers_over_its_base_as_the_merged_model_does(mark: str, tmp_path: Path) -> None:
    """The adapter comes from peft, without a tokenizer: the base's is used."""
    adapter, merged = make_adapter(Path(str(package_path(CONFIG.models.seed.path))), tmp_path)
    questions = [[Turn(role="user", content=f"What is the {fact}?")] for fact in ("color of the fox", "food of the owl")]

    async def answers(model: ModelConfig) -> list[str]:
        engine = await start(mark, replace(model, dtype="float32"))
        completions = await asyncio.gather(*(engine.generate(question, GREEDY) for question in questions))
        await closed(engine)
        return [completion.text for completion in completions]

    of_adapter, of_merged, of_base = (
        asyncio.run(answers(replace(CONFIG.models.seed, path=str(path)))) for path in (adapter, merged, CONFIG.models.seed.path)
    )
    assert of_adapter == of_merged != of_base
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"/adapter: vLLM cannot load this adapter: .*incomplete"):
        asyncio.run(start(mark, replace(CONFIG.models.seed, path=str(adapter))))


def make_adapter(base: Path, folder: Path) -> tuple[Path, Path]:
    """A random adapter of a rank that vLLM has no room of, and the base with it merged in."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=12, lora_alpha=24, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    adapted.save_pretrained(folder / "adapter")
    adapted.merge_and_unload().save_pretrained(folder / "merged")
    AutoTokenizer.from_pretrained(base).save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


@pytest.fixture
def broken(tmp_path: Path) -> ModelConfig:
    """The mini seed without one weight of a layer, which vLLM itself would not miss."""
    shutil.copytree(SEED, tmp_path / "broken 数据")
    weights = load_file(SEED / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, tmp_path / "broken 数据" / "model.safetensors", {"format": "pt"})
    return replace(CONFIG.models.seed, path=str(tmp_path / "broken 数据"))


def test_a_start_that_fails_says_why_in_one_line(mark: str, broken: ModelConfig, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"lack the weights model\.layers\.1\.mlp\.down_proj\.weight"):
        asyncio.run(start(mark, broken))
    small = replace(CONFIG.engine, kv_cache_gib=0.001)
    for model in (CONFIG.models.seed, replace(CONFIG.models.seed, tensor_parallel_size=2)):
        with pytest.raises(ConfigError, match=r"engine\.kv_cache_gib=0\.0[12] or more") as caught:
            asyncio.run(HostedEngine.start(model, small, 0, mark))
        log = re.search(r"\(log: (\S+) on ", str(caught.value))
        assert log is not None
        assert "Traceback" in Path(log[1]).read_text()
    assert "".join(capfd.readouterr()) == ""


def test_a_command_whose_engine_cannot_start_ends_with_one_line_after_one_start(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"instruction": "2 + 2?", "response_a": "4", "response_b": "5"}\n')
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a short path: it holds sockets
        words = ["judge", str(pairs), f"model={SEED}", f"run_root={tmp_path / 'run'}", "engine.kv_cache_gib=0.001"]
        words += ["model.max_model_len=2048", "engine.device=cpu", "engine.enforce_eager=true"]
        done = subprocess.run(
            [sys.executable, "-m", "stj.cli", *words],
            capture_output=True,
            text=True,
            env=os.environ | {"TMPDIR": folder},
            cwd=Path(__file__).parents[2],
        )
        logs = list(Path(folder).glob("stj-*/engine-*.log"))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "engine.kv_cache_gib=0.02 or more" in done.stderr.splitlines()[-1]
    assert str(logs[0]) in done.stderr.splitlines()[-1]
    assert len(logs) == 1


def test_deterministic_texts_do_not_depend_on_what_runs_beside_them(mark: str) -> None:
    """Real vLLM: the same requests in another order, all at once, and one alone, on engines with other seeds."""
    config = replace(CONFIG.engine, deterministic=True)
    prompts = [[Turn(role="user", content=f"What is the color of the {animal}?")] for animal in ("fox", "ant", "goose", "cat")]

    async def texts(order: Sequence[int], seed: int) -> dict[int, str]:
        engine = await HostedEngine.start(CONFIG.models.seed, config, seed, mark)
        asked = {i: SeededSampling(temperature=2.0, top_p=1.0, max_tokens=24, seed=1000 + i) for i in order}
        answers = await asyncio.gather(*(engine.generate(prompts[i % 4], asked[i]) for i in order))
        await closed(engine)
        return {i: answer.text for i, answer in zip(order, answers, strict=True)}

    every = asyncio.run(texts(range(24), seed=0))
    assert len(set(every.values())) > 8
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
    with running([sys.executable, "-c", ACTOR, mark], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert soon(lambda: len(engines(mark)) == 3)
        yield process


def test_a_killed_actor_takes_its_engine_with_it(actor: subprocess.Popen[str], mark: str) -> None:
    actor.kill()
    assert soon(lambda: len(engines(mark)) == 1)


def test_an_engine_whose_worker_is_killed_ends_its_actor_which_ray_starts_again(
    actor: subprocess.Popen[str], mark: str
) -> None:
    os.kill(engines(mark)[-1], signal.SIGKILL)  # the youngest: vLLM's EngineCore
    assert actor.stdin is not None
    actor.stdin.write("go on\n")
    actor.stdin.flush()
    assert actor.wait(timeout=600) == 1
    assert soon(lambda: len(engines(mark)) == 1)


def test_what_imports_set_is_added_unless_an_engine_sets_it_itself() -> None:
    imports = SetByImports(before={"KEPT": "1", "PATHS": "a"}, after={"KEPT": "1", "PATHS": "b:a", "CHECK": "1", "CACHE": "1"})
    assert imports.added_to({"KEPT": "2", "PATHS": "a", "CACHE": "0"}) == {
        "KEPT": "2",
        "PATHS": "b:a",
        "CHECK": "1",
        "CACHE": "0",
    }
    assert imports.added_to({"PATHS": "c"}) == {"PATHS": "c", "CHECK": "1", "CACHE": "1"}


def test_logs_and_sockets_of_a_week_ago_are_removed_but_not_those_that_a_process_listens_on(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    short = tempfile.TemporaryDirectory(prefix="stj", dir="/tmp")  # a socket's path has at most 107 characters
    request.addfinalizer(short.cleanup)
    monkeypatch.setattr(tempfile, "tempdir", short.name)
    folder = private_folder()
    listening, left = (folder / str(uuid.uuid4()) for _ in range(2))
    old_log, young_log = folder / "engine-old.log", folder / "engine-young.log"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as ended:
        listener.bind(str(listening))
        listener.listen()
        ended.bind(str(left))
        ended.close()
        for file in (old_log, young_log):
            file.touch()
        for file in (listening, left, old_log):
            os.utime(file, (0, 0))
        _new_log()
    assert {file.name for file in folder.iterdir()} == {listening.name, young_log.name}
