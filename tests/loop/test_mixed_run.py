"""A run on synthetic pairs and on pairs of a file, mixed one to two, on the real engines."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stj.loop.mixing import source_of
from stj.rows import TRAINING, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder

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
