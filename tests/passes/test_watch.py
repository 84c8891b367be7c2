"""The watch of a pass: finished rows are never on the disk without their cost."""

from functools import partial
from pathlib import Path

import pytest
from ray.exceptions import GetTimeoutError

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


def watched(folder: Path, interval_s: float, registry: object) -> tuple[watch.PassWatch, StreamCommitter, Artifact]:
    artifact = Artifact(Folder.at(folder), {"step": "test"})
    artifact.begin()
    committer = StreamCommitter(artifact, {}, EngineConfig(commit_interval_s=interval_s), None, None)
    spec = Pass(model=ModelConfig(path="scripted"), read=partial(iter, ()), stages={})
    return watch.PassWatch(spec, committer, registry, LiveLine(), 0, EngineWaits(ENGINES, registry)), committer, artifact


@pytest.mark.parametrize("interval_s", [0.0, 3600.0], ids=["committed as they come", "committed at the end"])
def test_rows_are_committed_with_their_cost(interval_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows a row's cost before the row comes; the last look at the registry may be a second old."""
    ray_here.install(monkeypatch)
    monkeypatch.setattr(watch, "_UPDATE_INTERVAL_S", 3600)
    registry = ray_here.Actor(PassRegistry())
    pass_watch, committer, artifact = watched(tmp_path, interval_s, registry)
    for count in (1, 2):
        registry.record_spending.remote("engine", Ledger(engine_seconds=count, usage=Usage(output_tokens=7 * count)))
        pass_watch.add(rows_to_table([make_row(count, output_tokens=7)]))
        if not interval_s:
            assert read_ledger(artifact.folder).usage.output_tokens == 7 * count
    pass_watch.close()
    committer.commit()
    assert read_ledger(artifact.folder).usage.output_tokens == sum(row["output_tokens"] for row in artifact.records()) == 14


class Late(PassRegistry):
    """A registry that does not answer in time."""

    def snapshot(self) -> tuple[int, Ledger]:
        raise GetTimeoutError("30 s")


def test_a_registry_that_answers_late_costs_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_here.install(monkeypatch)
    monkeypatch.setattr(watch, "_UPDATE_INTERVAL_S", 3600)
    pass_watch, _, artifact = watched(tmp_path, 0.0, ray_here.Actor(Late()))
    pass_watch.add(rows_to_table([make_row(1)]))
    pass_watch.update()
    pass_watch.close()
    assert [row["position"] for row in artifact.records()] == [1]
