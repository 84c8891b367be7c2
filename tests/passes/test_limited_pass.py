"""A whole pass with a limit, without Ray's processes: what it reads, what it keeps, and what a second start reads."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stj.config import EngineConfig, ModelConfig, SelectConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import RequestFailed
from stj.generate import Engine, Generate, Sampling
from stj.passes import window
from stj.passes.gate import RayGate
from stj.passes.run import run_pass
from stj.passes.spec import Pass
from stj.rows import HELDOUT, TRAINING, Category, Row, Turn, row_from_dict
from stj.stages.select import screen, select
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from tests import ray_here
from tests.conftest import make_row

CONFIG = EngineConfig(device="cpu", rows_in_flight=16, commit_interval_s=0)
ROWS, LIMIT = 2000, 12
PASSING = {position for position in range(ROWS) if random.Random(f"passes {position}").random() < 0.3}
CUT = sorted(PASSING)[LIMIT - 1]
MEASURED = 7


@pytest.fixture(scope="module", autouse=True)
def no_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        ray_here.install(patch)
        patch.setattr(window, "_POLL_S", 0.002)
        yield


async def scripted(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        if messages[-1].content in model.path.split(","):
            raise RequestFailed("the engine refused")
        return "words"

    return ScriptedEngine(handler)


async def categorize(row: Row, generate: Generate) -> Row:
    await asyncio.sleep(random.random() / 500)
    await generate(row.turns, Sampling(max_tokens=10))
    return replace(row, category=Category(name="Other" if row.position in PASSING else "Coding", complexity=1, length="a"))


async def misreport(row: Row, generate: Generate, gate: RayGate, positions: Sequence[int]) -> Row:
    """Reports rows that do not pass, as an engine does that dies before they end, if they do not pass the second time."""
    if row.position in positions:
        await gate.passed(row.position)
    return row


async def generate_pair(row: Row, generate: Generate) -> Row:
    await asyncio.sleep(random.random() / 200)
    await generate(row.turns, Sampling(max_tokens=10))
    return row.drop("answer_empty")


class LimitedPass:
    """A limited pass whose source counts its reads."""

    def __init__(self, folder: Path) -> None:
        self.artifact = Artifact(Folder.at(folder), {"step": "test"})
        self.reads: list[int] = []

    def read(self) -> Iterator[Row]:
        for position in range(ROWS):
            self.reads.append(position)
            yield make_row(position, f"instruction {position}")

    def run(self, *, misreported: Sequence[int] = (), refused: Sequence[int] = (), kill_after: int | None = None) -> int:
        """Runs it, until a row from which the driver is killed. Returns how many rows were read."""
        self.artifact.begin()
        gate, before, left = RayGate(LIMIT, self.artifact), len(self.reads), [kill_after or 0]
        rule = SelectConfig(categories=("Other",))
        stages = [partial(misreport, gate=gate, positions=misreported), partial(screen, rule=rule, gate=gate)]
        stages += [categorize, partial(select, rule=rule, gate=gate), generate_pair]
        held_out = [make_row(position, id=f"held-{position}", task=HELDOUT) for position in range(MEASURED)]
        spec = Pass(
            model=ModelConfig(path=",".join(f"instruction {position}" for position in ("none", *refused))),
            read=self.read,
            read_after=partial(iter, held_out),
            stages={TRAINING: stages, HELDOUT: [generate_pair]},
            make_engine=scripted,
            limit=LIMIT,
            gate=gate,
        )

        def count(row: Row) -> None:
            left[0] -= 1
            if not left[0]:
                raise BrokenPipeError

        run_pass(spec, self.artifact, replace(CONFIG, max_failed_fraction=0.9), count)
        return len(self.reads) - before

    def rows(self, task: str = TRAINING) -> list[Row]:
        return sorted(
            (row for row in map(row_from_dict, self.artifact.records()) if row.task == task), key=lambda row: row.position
        )

    def require_whole(self, cut: int = CUT) -> None:
        assert [row.position for row in self.rows()] == list(range(cut + 1))
        assert [row.dropped == "answer_empty" for row in self.rows()] == [row.position in PASSING for row in self.rows()]
        assert len(self.rows(HELDOUT)) == MEASURED
        manifest = self.artifact.manifest()
        assert (manifest["rows"], manifest["passed_rule"]) == (cut + 1 + MEASURED, LIMIT)
        assert manifest["dropped"].keys() == {"answer_empty", "category"}


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(2))
def test_a_pass_reads_and_keeps_the_rows_up_to_the_limit(tmp_path: Path, attempt: int) -> None:
    limited = LimitedPass(tmp_path)
    assert CUT < limited.run() <= CUT + 1 + CONFIG.rows_in_flight
    limited.require_whole()
    assert limited.artifact.begin() is False


@pytest.mark.slow
def test_a_killed_pass_reads_no_further_the_next_time(tmp_path: Path) -> None:
    limited = LimitedPass(tmp_path)
    for kill_after in (5, 20):
        with pytest.raises(BrokenPipeError):
            limited.run(kill_after=kill_after)
    assert limited.run() <= CUT + 1 + CONFIG.rows_in_flight
    limited.require_whole()


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [range(0, CUT, 3), range(CUT - 5, CUT), range(30)])
def test_rows_that_were_wrongly_reported_to_pass_cost_no_row(tmp_path: Path, wrong: Sequence[int]) -> None:
    """The first stream stops too early or leaves rows out; what is on disk shows it, and another stream reads on."""
    limited = LimitedPass(tmp_path)
    limited.run(misreported=[position for position in wrong if position not in PASSING])
    limited.require_whole()


@pytest.mark.slow
def test_failed_rows_within_the_limit_do_not_hold_reading_up(tmp_path: Path) -> None:
    """More rows fail than may be read ahead of those that are known to end."""
    limited, refused = LimitedPass(tmp_path), [position for position in range(CUT) if position not in PASSING]
    assert len(refused) > CONFIG.rows_in_flight
    limited.run(refused=refused)
    assert limited.artifact.manifest()["failed"] == len(refused)
    assert [row.position for row in limited.rows()] == list(range(CUT + 1))
