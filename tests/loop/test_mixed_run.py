"""A run on synthetic pairs and on pairs of a file, mixed one to two, on the real engines."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stj.loop.mixing import source_of
from stj.rows import TRAINING, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from tests.conftest import running, wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.engine
@pytest.mark.long
def test_the_judge_judges_both_sources_and_learns_them_in_proportion(tmp_path: Path) -> None:
    root = tmp_path / "run"
    words = [
        *("iterations=1", "source.limit=40", "heldout.limit=8", f"run_root={root}"),
        "preferences=[{}, {kind: pairs, name: mine, path: package://mini/data/dev.jsonl, weight: 2, limit: 120}]",
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "stj.cli", "run", str(ROOT / "conf" / "mini.yaml"), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = list(map(row_from_dict, read_artifact(Folder.at(root / "pairs")).records()))
    training = [row for row in rows if row.task == TRAINING]
    given = [row for row in training if row.origin is not None]
    assert sorted(row.position for row in training) == list(range(160))
    assert sorted(row.position for row in given) == list(range(120))
    assert all(row.judgments and row.category is None for row in given)
    assert all(row.category is not None for row in training if row.origin is None and row.pair is not None)
    examples = list(read_artifact(Folder.at(root / "iteration_1" / "examples")).records())
    by_id = {row.id: row for row in rows}
    learned = Counter("mine" if by_id[example["id"]].origin else "synthetic" for example in examples)
    assert learned["mine"] == pytest.approx(2 * learned["synthetic"], abs=2)
    sources = json.loads((root / "report.json").read_text())["iterations"][0]["sources"]
    assert {title: counts["learned"] for title, counts in sources.items()} == dict(learned)
    assert source_of(given[0], ()) == "mine"
    assert "pairs for the next judge by source" in ran.stdout


@pytest.mark.engine
@pytest.mark.long
def test_a_killed_run_keeps_what_both_sources_had_committed_and_makes_the_rest(tmp_path: Path) -> None:
    root = tmp_path / "run"
    command = [sys.executable, "-m", "stj.cli", "run", str(ROOT / "conf" / "mini.yaml"), f"run_root={root}"]
    command += ["iterations=1", "source.limit=24", "heldout.path=null", "engine.rows_in_flight=8", "engine.commit_interval_s=1"]
    command += ["engine.max_replicas=1", "engine.min_replicas=1"]
    command += ["preferences=[{}, {kind: pairs, name: mine, path: package://mini/data/dev.jsonl, limit: 40}]"]
    with (tmp_path / "log").open("w") as log, running(command, stdout=log, stderr=log) as first:
        wait_until(lambda: len(list((root / "pairs").glob("part-*"))) >= 2, first)
        os.kill(first.pid, signal.SIGKILL)
    committed = {record["id"]: record for record in read_artifact(Folder.at(root / "pairs")).records()}
    assert 0 < len(committed) < 64
    assert not (root / "pairs" / "manifest.json").exists()
    resumed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    rows = {record["id"]: record for record in read_artifact(Folder.at(root / "pairs")).records()}
    assert sorted(record["position"] for record in rows.values()) == list(range(64))
    assert {row_id: rows[row_id] for row_id in committed} == committed
    assert Counter(record["origin"]["source"] if record["origin"] else "synthetic" for record in rows.values()) == {
        "mine": 40,
        "synthetic": 24,
    }
    sources = json.loads((root / "report.json").read_text())["iterations"][0]["sources"]
    assert sources["mine"]["learned"] == sources["synthetic"]["learned"] > 0
