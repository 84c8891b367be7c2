"""The watch of a pass: finished rows are never on the disk without their cost."""

from functools import partial
from pathlib import Path

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.generate import Usage
from stj.passes import watch
from stj.passes.engine_waits import EngineWaits
from stj.passes.ledger import Ledger, read_ledger
from stj.passes.registry import PassRegistry
from stj.passes.routes import StreamCommitter
from stj.passes.spec import Pass
from stj.rows import rows_to_table
from stj.storage.artifacts import Artifact
from stj.storage.folder import Folder
from stj.text import LiveLine
from tests import ray_here
from tests.conftest import make_row
from tests.passes.test_waiting import ENGINES


@pytest.mark.parametrize("interval_s", [0.0, 3600.0], ids=["committed as they come", "committed at the end"])
def test_rows_are_committed_with_their_cost(interval_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows a row's cost before the row comes; the last look at the registry may be a second old."""
    ray_here.install(monkeypatch)
    monkeypatch.setattr(watch, "_UPDATE_INTERVAL_S", 3600)
    registry = ray_here.Actor(PassRegistry())
    artifact = Artifact(Folder.at(tmp_path), {"step": "test"})
    artifact.begin()
    committer = StreamCommitter(artifact, {}, EngineConfig(commit_interval_s=interval_s), None, None)
    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={})
    pass_watch = watch.PassWatch(spec, committer, registry, LiveLine(), 0, EngineWaits(ENGINES, registry))
    for count in (1, 2):
        registry.record_spending.remote("engine", Ledger(engine_seconds=count, usage=Usage(output_tokens=7 * count)))
        pass_watch.add(rows_to_table([make_row(count, output_tokens=7)]))
        if not interval_s:
            assert read_ledger(artifact.folder).usage.output_tokens == 7 * count
    pass_watch.close()
    committer.commit()
    assert read_ledger(artifact.folder).usage.output_tokens == sum(row["output_tokens"] for row in artifact.records()) == 14
