"""The mini run with its generator behind an API and its judges on this machine."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.judging.mini_server import mini_server

ROOT = Path(__file__).parents[2]
KEY = "secret-of-the-server"


@pytest.mark.engine
@pytest.mark.long
@pytest.mark.skipif(
    "stj" not in entry_points(group="vllm.endpoint_plugins").names,
    reason="this environment's stj was installed before it had an endpoint: make install",
)
def test_pairs_from_an_api_train_a_judge_here(tmp_path: Path) -> None:
    with mini_server(tmp_path / "log", KEY) as address:
        (tmp_path / "api.yaml").write_text(
            f"models:\n  generator:\n    endpoint: {address}/v1\n    name: package://mini/seed_model\n"
            "    key_variable: STJ_TEST_KEY\n    requests_per_minute: 30000\n"
            "    dollars_per_million_prompt_tokens: 1\n    dollars_per_million_output_tokens: 2\n"
        )
        words = ["run", "conf/mini.yaml", str(tmp_path / "api.yaml"), f"run_root={tmp_path / 'run'}"]
        words += ["iterations=1", "source.limit=200", "heldout.limit=20", "engine.max_replicas=1", "engine.min_replicas=1"]
        done = subprocess.run(
            [sys.executable, "-m", "stj.cli", *words],
            cwd=ROOT,
            env=os.environ | {"STJ_TEST_KEY": KEY},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    pairs = json.loads((tmp_path / "run" / "pairs" / "manifest.json").read_text())
    assert pairs["pairs"] > 50
    ledger = pairs["ledger"]
    assert ledger["dollars"] == pytest.approx((ledger["prompt_tokens"] + 2 * ledger["output_tokens"]) / 1e6, abs=1e-4)
    for done_phase in ("judged", "examples", "model"):
        assert (tmp_path / "run" / "iteration_1" / done_phase / "manifest.json").exists()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr
