"""Engines of several workers, forked as on GPUs: real vLLM with a model that is split by tensors, by layers, or both."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stj.config import Config, ModelConfig
from stj.config_loader import load
from stj.engine.hosted import HostedEngine
from stj.generate import Completion, Generate, Sampling, TracedSampling
from stj.passes.run import run_pass
from stj.passes.spec import Pass
from stj.rows import TRAINING, Row, Turn, row_from_dict
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.conftest import engines, make_row, soon

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
CONFIG: Config = load([ROOT / "conf" / "mini.yaml"])
ANIMALS = ("fox", "ant", "goose", "cat", "owl")
QUESTIONS = [
    [Turn(role="user", content=f"What is the {fact} of the {animal}?")] for fact in ("color", "food") for animal in ANIMALS
]
NOTING = """
import os
from pathlib import Path

def note():
    Path(os.environ["STJ_TEST_NOTES"], str(os.getpid())).write_text(os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK", "lost"))

os.register_at_fork(after_in_child=note)
"""


def split(tensors: int, layers: int = 1) -> ModelConfig:
    """The mini seed on several workers, in a precision in which rounding changes no text."""
    return replace(CONFIG.models.seed, tensor_parallel_size=tensors, pipeline_parallel_size=layers, dtype="float32")


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which each forked process of an engine notes what it has of a variable that vLLM sets when it is imported."""
    code, notes = tmp_path_factory.mktemp("code"), tmp_path_factory.mktemp("notes")
    (code / "sitecustomize.py").write_text(NOTING)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STJ_TEST_NOTES", str(notes))
        environment.setenv("PYTHONPATH", str(code))
        environment.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)
        yield notes


def workers(mark: str) -> list[int]:
    """The processes of engines that have no children, if all have been forked."""
    running, parents = engines(mark), set()
    for process in running:
        with suppress(OSError):  # it has ended
            parents.add(int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]))
    return sorted(set(running) - parents)


def shared_memory(processes: Iterable[int]) -> list[str]:
    """The lines of the memory that workers exchange tensors in, among those of all memory of these processes."""
    return [
        line for process in processes for line in Path(f"/proc/{process}/maps").read_text().splitlines() if "cpushm" in line
    ]


async def traced(model: ModelConfig, mark: str) -> tuple[list[Completion], set[int]]:
    """The answers of an engine that is closed then, and the processes that ran beside it.

    Nothing that ends its workers can leave shared memory, because no name leads to it.
    """
    engine = await HostedEngine.start(model, CONFIG.engine, 0, mark)
    asked = TracedSampling(temperature=0.0, max_tokens=32, choices=5)
    try:
        answers = await asyncio.gather(*(engine.generate(question, asked) for question in QUESTIONS))
        processes = set(engines(mark))
        shared = shared_memory(processes)
        assert bool(shared) == (model.gpus > 1)
        assert all(line.endswith(" (deleted)") for line in shared)
    finally:
        engine.close()
        await asyncio.sleep(0.1)
    return list(answers), processes


def chances(answer: Completion) -> list[float]:
    return [chance for token in answer.tokens for _, chance in token.choices]


@pytest.fixture(scope="module")
def alone(mark: str, notes: Path) -> list[Completion]:
    """The answers of an engine of one worker."""
    return asyncio.run(traced(split(1), mark))[0]


@pytest.mark.parametrize(("tensors", "layers"), [(2, 1), (1, 2), (2, 2)])
def test_several_workers_answer_as_one_does_and_end(
    mark: str, notes: Path, alone: list[Completion], tensors: int, layers: int
) -> None:
    """Also: no worker lacks what importing vLLM has set, which only the warm process does."""
    assert soon(lambda: len(workers(mark)) == len(engines(mark)))  # warm processes only
    before = set(engines(mark))
    answers, processes = asyncio.run(traced(split(tensors, layers), mark))
    assert soon(lambda: set(engines(mark)) == before)
    assert len(processes - before) == 2 + tensors * layers  # the host and vLLM's EngineCore are two
    assert [answer.text for answer in answers] == [answer.text for answer in alone]
    assert len({answer.text for answer in answers}) > 5
    for answer, reference in zip(answers, alone, strict=True):
        assert chances(answer) == pytest.approx(chances(reference), abs=1e-4)
    assert {(notes / str(process)).read_text() for process in processes - before} == {"1"}


async def ask_two_workers() -> None:
    """A user's process: asks for much at once, and prints the errors with their counts."""
    engine = await HostedEngine.start(split(2), CONFIG.engine, 0, None)
    sampling = Sampling(temperature=2.0, max_tokens=1000)
    requests = [asyncio.create_task(engine.generate(QUESTIONS[0], sampling)) for _ in range(2000)]
    await asyncio.sleep(0.5)
    print("asked", flush=True)
    results = await asyncio.gather(*requests, return_exceptions=True)
    print(json.dumps(Counter(f"{type(result).__name__}: {result}" for result in results if isinstance(result, Exception))))
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)


USER = "import asyncio; from tests.engine.test_hosted_parallel import ask_two_workers; asyncio.run(ask_two_workers())"


def test_a_killed_worker_ends_all_requests_with_one_error_and_leaves_nothing(mark: str) -> None:
    """The other worker waits for it inside vLLM's C++, where only SIGKILL ends it: vLLM takes nine seconds to send that."""
    before = set(engines(mark))
    user = subprocess.Popen(
        [sys.executable, "-c", USER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert user.stdout is not None
        assert user.stdout.readline() == "asked\n"
        os.kill(max(set(workers(mark)) - before), signal.SIGKILL)
        errors: dict[str, Any] = json.loads(user.stdout.readline())
        assert len(errors) == 1
        assert next(iter(errors)).startswith("EngineDied: the engine's process has ended, and its requests with it; start the")
        assert sum(errors.values()) > 100
        assert soon(lambda: len(set(engines(mark)) - before) == 1)  # the user's warm process
        _, printed = user.communicate("go on\n")
        assert (user.returncode, printed) == (0, "")
        assert soon(lambda: set(engines(mark)) == before)
    finally:
        user.kill()
        user.communicate()


async def answer(row: Row, generate: Generate) -> Row:
    return row.drop("answered", (await generate(row.turns, Sampling(temperature=0.0, max_tokens=32))).text)


def read() -> Iterator[Row]:
    return (make_row(i, QUESTIONS[i % 10][0].content) for i in range(200))


@pytest.mark.long
def test_a_pass_goes_on_after_a_worker_of_its_engine_is_killed(
    mark: str, alone: list[Completion], ray_local: None, tmp_path: Path
) -> None:
    """Ray starts after the mark is set, so that its actors and their engines hold the mark too."""
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    before, arrived = set(engines(mark)), []

    def kill_once(row: Row) -> None:
        arrived.append(row)
        if len(arrived) == 40:
            os.kill(max(set(workers(mark)) - before), signal.SIGKILL)

    engine = replace(CONFIG.engine, min_replicas=1, max_replicas=1, rows_in_flight=16, commit_interval_s=0)
    run_pass(Pass(model=split(2), read=read, stages={TRAINING: [answer]}), artifact, engine, kill_once)
    rows = sorted(map(row_from_dict, artifact.records()), key=lambda row: row.position)
    assert [row.position for row in rows] == list(range(200))
    assert not [row.error for row in rows if row.error]
    assert [row.detail for row in rows] == [alone[i % 10].text for i in range(200)]
    assert soon(lambda: len(set(engines(mark)) - before) == 1)  # the warm process of this Ray
