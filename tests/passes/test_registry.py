"""Rows that engines died with: tried alone and then quarantined, unless their machine was lost."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import CheckFailed
from stj.generate import Engine, Generate, Sampling, Usage
from stj.machine.packages import expected_packages
from stj.passes.actor import PassActor
from stj.passes.ledger import Ledger
from stj.passes.registry import PassRegistry
from stj.passes.source import SEALED, seal, unseal
from stj.passes.spec import Pass
from stj.rows import TRAINING, Row, Turn, row_from_dict, rows_to_table
from tests import ray_here
from tests.conftest import make_row

LOST = "cd" * 28


def shout(messages: Sequence[Turn], sampling: Sampling) -> str:
    return messages[-1].content.upper()


async def scripted(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    return ScriptedEngine(shout)


async def answer(row: Row, generate: Generate) -> Row:
    return row.drop("answered", (await generate(row.turns, Sampling(max_tokens=10))).text)


def after(
    monkeypatch: pytest.MonkeyPatch, machines: Sequence[str], count: int = 40, registry: PassRegistry | None = None
) -> list[Row]:
    """The rows after a pass in which engines on these machines, one after the other, died with all of them."""
    ray_here.install(monkeypatch)
    registry = registry or PassRegistry()
    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={TRAINING: [answer]}, make_engine=scripted)
    actor = PassActor(spec, EngineConfig(device="cpu", rows_in_flight=32), ray_here.Actor(registry))
    rows_in = [make_row(position) for position in range(count)]
    for machine in machines:
        registry.record_rows(machine, [row.id for row in rows_in], [])
    (cell,) = actor(seal([rows_to_table(rows_in)]))[SEALED]
    rows_out = [row_from_dict(record) for record in unseal(cell).to_pylist()]
    assert [row.id for row in rows_out] == [row.id for row in rows_in]
    ray_here.end(actor)
    return rows_out


@pytest.mark.slow
def test_an_engine_on_another_machine_with_other_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_here.install(monkeypatch)
    registry = PassRegistry(driver_node=LOST)
    assert registry.packages_for(LOST) is None
    assert registry.packages_for(ray_here.NODE) == expected_packages()
    older = replace(expected_packages(), named={"torch": "2.12.0"})
    monkeypatch.setattr(registry, "packages_for", lambda node: older)
    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={TRAINING: [answer]}, make_engine=scripted)
    actor = PassActor(spec, EngineConfig(device="cpu"), ray_here.Actor(registry))
    with pytest.raises(CheckFailed, match=r"^machine [\d.]+: it has torch \S+, where the run needs torch 2\.12\.0: install"):
        actor(seal([rows_to_table([make_row()])]))
    ray_here.end(actor)


@pytest.mark.parametrize("machines", [[], [ray_here.NODE], [ray_here.NODE] * 2, [LOST] * 5, [LOST, ray_here.NODE, LOST]])
def test_a_row_is_tried_again(machines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert {(row.error, row.dropped) for row in after(monkeypatch, machines)} == {(None, "answered")}


@pytest.mark.parametrize("machines", [[ray_here.NODE] * 3, [ray_here.NODE, LOST, ray_here.NODE, ray_here.NODE]])
def test_a_row_that_three_engines_died_with_is_quarantined(machines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    registry = PassRegistry()
    (error,) = {row.error for row in after(monkeypatch, machines, registry=registry)}
    assert registry.snapshot()[0] == 0
    assert error == "quarantined: an engine died 3 times with this row on it, the last time alone"


def test_the_registry_forgets_rows_that_ended() -> None:
    registry = PassRegistry()
    registry.record_rows("a", ["x", "y"], [])
    registry.record_rows("b", ["y"], ["x"])
    assert registry.snapshot()[0] == 1
    assert registry.engine_deaths(["x", "y", "z"]) == [[], ["a", "b"], []]
    assert registry.snapshot()[0] == 0, "a row that is asked for again is on no engine"


def test_an_older_report_of_an_engine_s_cost_that_arrives_late_changes_nothing() -> None:
    registry = PassRegistry()
    for engine, seconds in (("a", 1.0), ("a", 3.0), ("b", 1.0), ("a", 2.0)):
        registry.record_spending(engine, Ledger(engine_seconds=seconds, usage=Usage(output_tokens=int(seconds) * 10)))
    spent = registry.snapshot()[1]
    assert (spent.engine_seconds, spent.usage.output_tokens) == (4.0, 40)


class Slow(ray_here.Actor):
    """Carries out a call some time after it was made, as an actor in a busy process does."""

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        return SimpleNamespace(remote=lambda *args: Answer(lambda: time.sleep(0.05) or method.remote(*args).value))


class Answer:
    """The answer to a call that is carried out meanwhile."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._answer: Future[Any] = Future()
        self._answer.set_running_or_notify_cancel()  # a caller that leaves does not cancel the call
        threading.Thread(target=lambda: self._answer.set_result(call()), daemon=True).start()

    @property
    def value(self) -> Any:
        return self._answer.result()

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self._answer).__await__()


def test_the_cost_and_the_end_of_rows_are_known_before_the_driver_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_here.install(monkeypatch)
    registry = PassRegistry()
    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={TRAINING: [answer]}, make_engine=scripted)
    actor = PassActor(spec, EngineConfig(device="cpu", rows_in_flight=32), Slow(registry))
    for count in range(1, 4):
        actor(seal([rows_to_table([make_row(count, "one two")])]))
        on_engines, spent = registry.snapshot()
        assert (on_engines, spent.usage.output_tokens) == (0, 2 * count)
    ray_here.end(actor)


def test_the_registry_counts_the_starts_of_engines_and_those_that_failed() -> None:
    registry = PassRegistry()
    assert [
        registry.record_start_attempt("a"),
        registry.record_start_attempt("a"),
        registry.record_start_attempt("b"),
        registry.record_start_attempt("a"),
    ] == [(0, 1), (1, 2), (2, 2), (3, 3)]
    registry.record_start()
    assert [registry.record_start_attempt("b"), registry.record_start_attempt("a")] == [(4, 1), (5, 1)]


def test_engines_of_one_pass_draw_from_different_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_here.install(monkeypatch)
    seeds: list[int] = []

    async def recorded(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
        seeds.append(seed)
        return ScriptedEngine(shout)

    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={}, seed=7, make_engine=recorded)
    registry = ray_here.Actor(PassRegistry())
    for _ in range(3):
        ray_here.end(PassActor(spec, EngineConfig(device="cpu"), registry))
    assert len(set(seeds)) == 3
    assert seeds[0] == 7


def test_what_missing_engines_wait_for_is_kept() -> None:
    registry = PassRegistry()
    assert (registry.engines(), registry.waits()) == ((0, 0), "")
    registry.record_engines(2, 3)
    registry.record_waits("waiting for 2 of 3 engines")
    assert (registry.engines(), registry.waits()) == ((2, 3), "waiting for 2 of 3 engines")


def test_each_engine_that_starts_again_is_one_line_with_its_cause() -> None:
    registry = PassRegistry()
    for machine in ("here", "here", LOST, "here"):
        registry.record_start_attempt("a", machine, 3)
        registry.record_start()
    registry.record_death("a", "CUDA error: out of memory")
    registry.record_start_attempt("a", "here", 3)
    registry.record_failed_start("no room for the KV cache", 3)
    lines = [restart.line({"here"}) for restart in registry.restarts(0)]
    follows = "an engine died and starts again, with its rows (attempt 1 of 3 follows): "
    assert lines == [
        f"{follows}its process was killed or crashed; is memory short?",
        f"{follows}its process was killed or crashed; is memory short?",
        f"{follows}its machine is lost",
        f"{follows}CUDA error: out of memory",
        "an engine did not start (attempt 2 of 3 follows): no room for the KV cache",
    ]
    assert registry.restarts(5) == []
    registry.record_failed_start("again", 3)
    registry.record_failed_start("the last attempt is the error of the pass", 3)
    assert [restart.attempt for restart in registry.restarts(5)] == [3]
