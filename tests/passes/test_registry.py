"""Rows that engines died with: tried alone and quarantined, unless it was a machine that was lost."""

from collections.abc import Sequence
from functools import partial

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.engine.scripted import ScriptedEngine
from stj.generate import Engine, Generate, Sampling
from stj.passes.actor import PassActor
from stj.passes.registry import PassRegistry
from stj.passes.source import SEALED, opened
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


def after(monkeypatch: pytest.MonkeyPatch, machines: Sequence[str], rows: int = 40) -> list[Row]:
    """What becomes of rows that were on engines of these machines, one after the other, when those died."""
    ray_here.install(monkeypatch)
    ward = PassRegistry()
    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={TRAINING: [answer]}, make_engine=scripted)
    actor = PassActor(spec, EngineConfig(device="cpu", rows_in_flight=32), ray_here.Actor(ward))
    asked = [make_row(position) for position in range(rows)]
    for machine in machines:
        ward.note(machine, [row.id for row in asked], [])
    found = [row_from_dict(record) for cell in actor(rows_to_table(asked))[SEALED] for record in opened(cell).to_pylist()]
    assert [row.id for row in found] == [row.id for row in asked]
    return found


@pytest.mark.parametrize("machines", [[], [ray_here.NODE], [ray_here.NODE] * 2, [LOST] * 5, [LOST, ray_here.NODE, LOST]])
def test_a_row_is_tried_again(machines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert {(row.error, row.dropped) for row in after(monkeypatch, machines)} == {(None, "answered")}


@pytest.mark.parametrize("machines", [[ray_here.NODE] * 3, [ray_here.NODE, LOST, ray_here.NODE, ray_here.NODE]])
def test_a_row_that_three_engines_died_with_is_quarantined(machines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (error,) = {row.error for row in after(monkeypatch, machines)}
    assert error == "quarantined: an engine died 3 times with this row on it, the last time alone"


def test_the_ward_forgets_rows_that_ended() -> None:
    ward = PassRegistry()
    ward.note("a", ["x", "y"], [])
    ward.note("b", ["y"], ["x"])
    assert ward.deaths(["x", "y", "z"]) == [[], ["a", "b"], []]
    assert ward.look()[0] == 1


def test_the_ward_counts_the_starts_of_engines_and_those_in_vain() -> None:
    ward = PassRegistry()
    assert [ward.starting("a"), ward.starting("a"), ward.starting("b"), ward.starting("a")] == [(0, 1), (1, 2), (2, 2), (3, 3)]
    ward.started()
    assert [ward.starting("b"), ward.starting("a")] == [(4, 1), (5, 1)]


def test_engines_of_one_pass_draw_from_different_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    ray_here.install(monkeypatch)
    seeds: list[int] = []

    async def made(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
        seeds.append(seed)
        return ScriptedEngine(shout)

    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={}, seed=7, make_engine=made)
    ward = ray_here.Actor(PassRegistry())
    for _ in range(3):
        PassActor(spec, EngineConfig(device="cpu"), ward)
    assert len(set(seeds)) == 3
    assert seeds[0] == 7
