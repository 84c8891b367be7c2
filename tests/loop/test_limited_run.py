"""A run with `select.limit`: only the pairs read the source, and only as far as they need it."""

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stj import sources
from stj.config import Config
from stj.config_loader import load
from stj.errors import ArtifactError
from stj.loop.iterate import run_all
from stj.loop.kinds import TrainingPhase
from stj.passes import spec
from stj.passes.spec import Pass
from stj.sources.files import scan_files
from stj.sources.records import Fields, Scanned
from tests import ray_here
from tests.kill_driver import MINI, make_engine, train

IN_EACH_FILE = 100
LIMIT = 120
IN_FLIGHT = 16
FIRST_ROWS = 100  # The check before the start reads them.


class CountedReads:
    """Counts the records of each reading of the source."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, files: Sequence[Path], fields: Fields) -> Iterator[Scanned]:
        reading = len(self.counts)
        self.counts.append(0)
        for located in scan_files(files, fields):
            self.counts[reading] += 1
            yield located

    def furthest(self) -> int:
        """Records of the longest reading since the last call."""
        furthest, self.counts = max(self.counts, default=0), []
        return furthest


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CountedReads:
    reads = CountedReads()
    ray_here.install(monkeypatch)
    monkeypatch.setattr(sources, "scan_files", reads)
    monkeypatch.setattr(spec, "Pass", partial(Pass, make_engine=partial(make_engine, log=str(tmp_path / "asked"))))
    monkeypatch.setattr(TrainingPhase, "run", train)
    return reads


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """A directory of three files: compressed, Parquet and CSV."""
    folder = tmp_path / "pool"
    folder.mkdir()
    texts = [{"instruction": f"Question {number}: how much is {number} + 1?"} for number in range(10, 10 + 3 * IN_EACH_FILE)]
    first, second, third = (texts[start : start + IN_EACH_FILE] for start in range(0, len(texts), IN_EACH_FILE))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, first)).encode()))
    pq.write_table(pa.Table.from_pylist(second), folder / "b.parquet")
    with (folder / "c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["instruction"])
        writer.writeheader()
        writer.writerows(third)
    return folder


def config(pool: Path, *overrides: str) -> Config:
    settings = [f"run_root={pool.parent}/run", f"source.path={pool}", "source.kind=instructions", "source.limit=null"]
    settings += [
        "heldout.path=null",
        "iterations=3",
        "judge.samples=4",
        f"engine.rows_in_flight={IN_FLIGHT}",
        "engine.max_replicas=1",
    ]
    return load([MINI], [*settings, "engine.min_replicas=1", f"select.limit={LIMIT}", *overrides])


def manifest(pool: Path, artifact: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((pool.parent / "run" / artifact / "manifest.json").read_text())
    return facts


@pytest.mark.slow
def test_the_source_is_read_once_and_only_as_far_as_the_limit(pool: Path, reads: CountedReads) -> None:
    lines: list[str] = []
    run_all(config(pool, "iterations=1"), lines.append)
    pairs = manifest(pool, "pairs")
    assert pairs["passed_rule"] == LIMIT
    assert LIMIT < pairs["rows"] <= reads.furthest() <= pairs["rows"] + IN_FLIGHT < 3 * IN_EACH_FILE
    run_all(config(pool), lines.append)
    assert reads.furthest() <= FIRST_ROWS
    for number in (2, 3):
        assert manifest(pool, f"iteration_{number}/judged")["rows"] == pairs["pairs"] <= LIMIT


@pytest.mark.slow
def test_another_limit_is_refused_by_name_and_the_same_one_resumes(pool: Path, reads: CountedReads) -> None:
    run_all(config(pool, "iterations=1"), [].append)
    made = manifest(pool, "pairs")
    for finished in (True, False):
        if not finished:
            (pool.parent / "run/pairs/manifest.json").unlink()
        for limit in ("90", "150", "null"):
            reads.furthest()
            with pytest.raises(ArtifactError, match=rf"select\.limit: {LIMIT} -> {limit}"):
                run_all(config(pool, "iterations=1", f"select.limit={limit}"), [].append)
            assert reads.furthest() == 0
    run_all(config(pool, "iterations=1"), [].append)
    assert reads.furthest() <= made["rows"] + IN_FLIGHT
    counts = ("rows", "pairs", "passed_rule", "dropped")
    assert [manifest(pool, "pairs")[name] for name in counts] == [made[name] for name in counts]
