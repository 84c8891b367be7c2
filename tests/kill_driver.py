"""Drivers for tests to kill: the loop of stj.loop.iterate with a scripted engine and an instant training. Not a test itself.

It reads orders from stdin, one JSON object a line. It runs a driver for each, and answers how the driver ended. A driver is a
fork of this process, which has already imported everything a driver needs (this takes seconds) and has not touched Ray.

No list names the points where a driver may die. Everything that changes a file of a run goes through `Folder`
(stj/storage/folder.py). Each of its calls makes a point before it and one after it. If a file is renamed into its place, there
is a third point between.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.config_loader import load
from stj.errors import RequestFailed, StjError
from stj.generate import Completion, Engine, Sampling, Usage
from stj.loop import iterate
from stj.loop.kinds import TrainingPhase
from stj.passes import spec
from stj.passes.spec import Pass
from stj.prompts import CATEGORIZE, MODIFIED_INSTRUCTION, prompt
from stj.rows import Turn
from stj.storage import lease
from stj.storage.folder import Folder
from stj.text import LiveLine
from stj.train import check  # noqa: F401 - a driver imports it late, which takes seconds
from tests import ray_here

MINI = Path(__file__).parents[1] / "conf" / "mini.yaml"
REFUSED = 3
"""The question that the engine always refuses."""
FIRST_SUM = 100
"""The first of the questions that have a known answer, which is 7."""
_WEIGHTS = "weights"
_QUESTION = re.compile(r"Question (\d+):")


class Scripted:
    """An engine whose answers depend only on its weights, the prompt and how often it was asked.

    Samples of a prompt are asked for in the order of their numbers, and each start of an engine begins at the first. So the
    i-th sample is always the same, for any caller and any number of samples at once.
    """

    def __init__(self, weights: str, log: str) -> None:
        self._weights = weights
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._asked: Counter[tuple[Any, ...]] = Counter()
        self.usage = Usage()

    async def generate(self, messages: Sequence[Turn], sampling: Sampling) -> Completion:
        key = (*messages, sampling)
        number = self._asked[key]
        self._asked[key] += 1
        text = "\n".join(turn.content for turn in messages)
        question = int(_QUESTION.search(text)[1])  # type: ignore[index]
        os.write(self._log, f"{os.getpid()} {self._weights} {question}\n".encode())
        dice = random.Random(f"{self._weights} {number} {sampling.temperature} {text}")
        words = answer(messages, question, dice).split(" ")
        await asyncio.sleep(random.random() * 0.002 * len(words))
        return Completion(text=" ".join(words), finish_reason="stop", prompt_tokens=len(text), output_tokens=len(words))

    def close(self) -> None:
        """Nothing to release."""


def answer(messages: Sequence[Turn], question: int, dice: random.Random) -> str:
    """What a model says to any of the prompts of the loop; two in five of its judgments are right, half of its sums."""
    asked, thoughts = messages[-1].content, " ".join(f"thought {dice.random()}" for _ in range(dice.randint(1, 9)))
    if messages[0].role == "system":
        return f"{thoughts}. {dice.choice(['[[A]]', '[[B]]', 'I cannot say', '[[A]]', '[[B]]'])}"
    if asked.startswith(prompt(CATEGORIZE).partition("{")[0]):
        category = "Coding" if dice.random() < 0.1 else "Mathematical reasoning"
        return f"Category: {category}\nComplexity: {dice.randint(1, 10)}\nLength: (b)"
    if asked.startswith(prompt(MODIFIED_INSTRUCTION).partition("{")[0]):
        head, end = (f"The {word} of Assistant’s answer to the modified instruction" for word in ("start", "end"))
        return f"User Question Modified\nWhy {thoughts}?\n{head}\nSince {thoughts}.\n{end}"
    if question == REFUSED:
        raise RequestFailed("the engine said no")
    if question >= FIRST_SUM:
        return f"Since {thoughts}. Answer: {dice.choice(['7', '8'])}"
    return thoughts


async def make_engine(model: ModelConfig, config: EngineConfig, seed: int, log: str) -> Engine:
    """An engine whose answers follow from the weights: those of a trained model from its examples."""
    folder = Folder.at(model.path) if model.path.partition("://")[0] != "package" else None
    return Scripted(folder.read(_WEIGHTS).decode() if folder else "seed", log)


def train(phase: TrainingPhase, line: LiveLine | None = None) -> None:
    """Writes weights that differ for each training set."""
    examples = phase.examples.artifact
    content = b"".join(examples.folder.read(name) for name in examples.parts())
    phase.artifact.folder.write(_WEIGHTS, hashlib.sha256(content).hexdigest().encode())
    phase.artifact.finish(steps=1, loss_first=1.0, loss_last=1.0)


class Points:
    """The points that a driver passes; at one of them it sends itself a signal, once."""

    def __init__(self, root: Folder, log: str, deadly: str | None, deadly_signal: int) -> None:
        self._root = root
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._deadly = deadly
        self._signal = deadly_signal
        self._within = threading.local()

    def reach(self, point: str) -> None:
        """Notes a point before it may kill."""
        os.write(self._log, f"{point}\n".encode())
        if point == self._deadly:
            self._deadly = None
            os.kill(os.getpid(), self._signal)

    def watch(self) -> None:
        """Puts points into the calls of Folder that change files, and into the rename within them."""
        for name in ("write", "upload", "delete", "remove"):
            setattr(Folder, name, self._watched(name, getattr(Folder, name)))
        rename = Path.rename

        def renamed(path: Path, target: Path) -> Path:
            if what := getattr(self._within, "what", None):
                self.reach(f"{what}: before its rename")
            return rename(path, target)

        Path.rename = renamed  # type: ignore[method-assign, assignment]

    def _watched(self, verb: str, call: Any) -> Any:
        def watched(folder: Folder, *args: Any) -> Any:
            with self._around(f"{verb} {self._name(folder, *args)}"):
                return call(folder, *args)

        return watched

    @contextmanager
    def _around(self, what: str) -> Any:
        self.reach(f"{what}: before")
        self._within.what = what
        try:
            yield
        finally:
            self._within.what = None
        self.reach(f"{what}: after")

    def _name(self, folder: Folder, name: str | Path = "", *_: Any) -> str:
        place = os.path.relpath(folder.path, self._root.path)
        return re.sub("([0-9a-f]{16}-)?[0-9a-f]{32}", "*", os.path.normpath(f"{place}/{Path(name).name}"))


def drive(order: dict[str, Any]) -> int:
    """Runs one driver, as `stj run` does, and returns its exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it is ignored
    config = load([MINI], order["settings"])
    Points(Folder.at(config.run_root), order["points"], order["deadly"], order["signal"]).watch()
    patch = pytest.MonkeyPatch()
    patch.setattr(lease, "_BEAT_S", 0.1)  # in an object store, the next driver waits for a dead one
    patch.setattr(spec, "Pass", partial(Pass, make_engine=partial(make_engine, log=order["asked"])))
    patch.setattr(TrainingPhase, "run", train)
    if not order["ray"]:
        ray_here.install(patch)
    try:
        iterate.run_all(config, print)
    except StjError as error:
        print(f"{type(error).__name__}: {error}")
        return error.exit_code
    return 0


def fork(order: dict[str, Any]) -> int:
    """A driver in a process of its own, which ends as a shell would see it end."""
    if driver := os.fork():
        return driver
    output = os.open(order["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 70
    try:
        code = drive(order)
    finally:
        sys.stdout.flush()
        os._exit(code)


def watch(driver: int, seconds: float | None) -> int:
    """How a driver ended: its exit code, or a signal as a negative number. It is killed when its time is over."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(driver, os.WNOHANG | os.WUNTRACED)
        if ended and os.WIFSTOPPED(status):
            return -os.WSTOPSIG(status)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if deadline and time.monotonic() > deadline:
            os.kill(driver, signal.SIGKILL)
        time.sleep(0.002)


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """Runs a driver, or resumes one that stopped itself."""
    began = time.monotonic()
    if driver := order.get("wake"):
        os.kill(driver, signal.SIGCONT)
    else:
        driver = fork(order)
    code = watch(driver, order.get("seconds"))
    return {"code": code, "driver": driver, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), file=answers, flush=True)
