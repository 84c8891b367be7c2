"""A pass whose engines take two logical GPUs each and are slow: a cluster has time to grow under it."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import ray

from stj.config import EngineConfig, ModelConfig
from stj.engine.scripted import ScriptedEngine
from stj.generate import Engine, Generate, Sampling
from stj.passes.run import run_pass
from stj.passes.spec import Pass
from stj.rows import TRAINING, Row, Turn, row_from_dict
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests.passes.test_run import answer, read

GPU = EngineConfig(device="gpu", rows_in_flight=8, commit_interval_s=0)
TWO_GPUS = ModelConfig(path="scripted", tensor_parallel_size=2)


def machines() -> list[str]:
    """The kinds of the living machines beside the head."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return sorted(node["Labels"].get("market-type", "-") for node in alive if node["Resources"].get("GPU"))


async def slow(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    """An engine that loads its model for as many seconds as its path says, and answers a row in 0.1 s."""
    start_s, _, marks = model.path.partition(":")
    await asyncio.sleep(float(start_s))
    if marks:
        (Path(marks) / ray.get_runtime_context().get_node_id()).touch()

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        time.sleep(0.1)
        return messages[-1].content.upper()

    return ScriptedEngine(handler)


async def answer_with_engines(row: Row, generate: Generate, folder: str, engines: int) -> Row:
    """Answers a row once as many engines have started as a test is about, however slowly their machines come."""
    deadline = time.monotonic() + 180
    while len(os.listdir(folder)) < engines:
        if time.monotonic() > deadline:
            return replace(row, error=f"{len(os.listdir(folder))} of {engines} engines started")
        await asyncio.sleep(0.2)
    return await answer(row, generate)


@contextmanager
def every_second(call: Callable[[], object]) -> Iterator[None]:
    """Calls a function every second, beside the block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(1):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


class SlowPass:
    """A pass with engines of two GPUs, whose machines leave their ids in a folder. Its rows wait for that many engines."""

    def __init__(
        self, folder: Path, rows: int, engines: int = 1, start_s: float = 0, deadline_s: float = 60, **engine: object
    ) -> None:
        self._marks = folder / "machines"
        self._marks.mkdir()
        self.artifact = Artifact(Folder.at(folder / "pass"), {"step": "test"})
        self.artifact.begin()
        self.config = replace(GPU, **engine)  # type: ignore[arg-type]
        self.spec = Pass(
            model=replace(TWO_GPUS, path=f"{start_s}:{self._marks}"),
            read=partial(read, rows),
            stages={TRAINING: [partial(answer_with_engines, folder=str(self._marks), engines=engines)]},
            make_engine=slow,
            capacity_deadline_s=deadline_s,
        )

    def run(self) -> list[int]:
        """The positions of the rows that came out."""
        run_pass(self.spec, self.artifact, self.config)
        return sorted(row_from_dict(record).position for record in self.artifact.records())

    @property
    def machines(self) -> list[str]:
        """Ids of the machines that had an engine."""
        return sorted(os.listdir(self._marks))
