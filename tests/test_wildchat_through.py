"""Real WildChat rows through the sources, all stages and the mini model, which writes nonsense: no crash, no row lost."""

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stj.config import Config, HeldoutConfig, SelectConfig, SourceConfig
from stj.config_loader import load
from stj.errors import PassFailed
from stj.generate import Generate
from stj.loop.phases import Run
from stj.passes.run import run_pass
from stj.passes.spec import Pass
from stj.rows import TRAINING, Category, Pair, Row, row_from_dict
from stj.sources import read_rows
from stj.stages.categorize import categorize
from stj.stages.judge import judge
from stj.stages.pairs import make_pair
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("ray_local")]

MINI = Path(__file__).parents[1] / "conf" / "mini.yaml"


def test_real_conversations(test_data: Path, tmp_path: Path) -> None:
    source = SourceConfig(path=str(test_data / "wildchat_a" / "wildchat.jsonl"), limit=100)
    config = replace(
        load([MINI], [f"run_root={tmp_path}/run"]),
        source=source,
        select=SelectConfig(categories=None, toxic=True, redacted=True, limit=20),
        heldout=HeldoutConfig(),
    )
    run = Run(config)
    phase = run.phases[0]
    phase.artifact.begin()
    with contextlib.suppress(PassFailed):  # raised at the end if no row became a pair: nonsense rarely makes one
        phase.run()
    assert phase.artifact.state()[0] == "done"
    rows = [row_from_dict(record) for record in Artifact(phase.artifact.folder, phase.artifact.key).records()]
    assert sorted(row.position for row in rows) == list(range(100))
    assert not [row.error for row in rows if row.error]
    assert all(row.dropped or row.kept is not None for row in rows)
    assert sum(row.category is not None and not row.dropped for row in rows) <= 20


async def categorized(row: Row, generate: Generate, config: Config) -> Row:
    """Puts the row into a category, regardless of what the mini model answers."""
    row = await categorize(row, generate, config.categorize)
    return replace(row, dropped=None, detail=None, category=Category(name="Other", complexity=1, length="a"))


async def paired(row: Row, generate: Generate, config: Config) -> Row:
    """Gives the row a pair, if necessary from its own words."""
    row = await make_pair(row, generate, config.pairs)
    words = row.turns[-1].content.split()
    pair = row.pair or Pair(method="given", chosen=" ".join(words), rejected=" ".join(reversed(words)))
    return replace(row, dropped=None, pair=pair)


def test_real_instructions_reach_every_stage(test_data: Path, tmp_path: Path) -> None:
    config = load([MINI], ["judge.samples=2"])
    read = partial(read_rows, SourceConfig(path=str(test_data / "wildchat_a" / "wildchat.jsonl"), limit=100))
    stages = (partial(categorized, config=config), partial(paired, config=config), partial(judge, config=config.judge, seed=0))
    artifact = Artifact(Folder.at(tmp_path / "pass"), {"step": "test"})
    artifact.begin()
    run_pass(Pass(model=config.models.seed, read=read, stages={TRAINING: stages}), artifact, config.engine)
    rows = [row_from_dict(record) for record in artifact.records()]
    assert sorted(row.position for row in rows) == list(range(100))
    assert not [row.error for row in rows if row.error]
    judged = [row for row in rows if row.dropped != "prompt_too_long"]
    assert len(judged) > 20  # the rest does not fit into 2,048 tokens: the mini tokenizer makes many
    assert all(row.judgments for row in judged)
    assert any(len(row.turns) > 1 for row in judged)
