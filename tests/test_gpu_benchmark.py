"""benchmarks/gpu.py: its parts keep to their time and do not harm each other, and all of it runs here in tiny shapes."""

import asyncio
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.engine.scripted import ScriptedEngine

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NO_GPU = not Path("/dev/nvidiactl").exists()
DRIVER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gpu
assert not {"torch", "vllm", "ray", "stj"} & sys.modules.keys()
gpu.LEAST_S = 1
out, codes, boxes, limit = Path(sys.argv[2]), *map(json.loads, sys.argv[3:6])
result = gpu.Result(out / "gpu.json", tiny=True)
gpu.run_parts(boxes, lambda part: [sys.executable, "-c", codes[part]], out, result, limit)
"""
FIGURES = "import os, sys, time\ndef put(text): os.write(int(sys.argv[-1]), text.encode())\n"
GRANDCHILD = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        put('{"grandchild": %d}\\n' % os.getpid())
        time.sleep(60)
    os._exit(0)
time.sleep(0.3)  # two writers
"""


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def gpu(benchmarks: None) -> ModuleType:
    return importlib.import_module("gpu")


def result_of(out: Path, codes: dict[str, str], boxes: dict[str, float], limit: float = 60) -> dict[str, Any]:
    """gpu.json after parts that run this code, in a process whose children may all be killed."""
    words = [sys.executable, "-c", DRIVER, str(BENCHMARKS), str(out), *map(json.dumps, (codes, boxes, limit))]
    subprocess.run(words, check=True, timeout=60)
    return dict(json.loads((out / "gpu.json").read_text()))


def alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_a_part_that_hangs_or_fails_keeps_its_figures_and_harms_no_other(tmp_path: Path) -> None:
    codes = {
        "full_8b": FIGURES + GRANDCHILD + 'put(\'{"a": 1}\\n{"b": 2}\\n{"cut\'); time.sleep(60)',
        "bare": FIGURES + "put('{\"tokens_per_s\": [4.0]}\\n'); raise SystemExit('no such kernel')",
        "engine": FIGURES + "put('{\"tokens_per_s\": [3.0]}\\n'); put('{\"tokens_per_s\": [3.0, 5.0]}\\n')",
    }
    result = result_of(tmp_path, codes, {"full_8b": 1.5, "bare": 20, "engine": 20})
    raw, parts = result["raw"], result["parts"]
    assert (raw["full_8b"]["a"], raw["full_8b"]["b"]) == (1, 2)
    assert not alive(raw["full_8b"]["grandchild"])
    assert {name: part["outcome"] for name, part in parts.items()} == {
        "full_8b": "out of time", "bare": "failed", "engine": "done"
    }  # fmt: skip
    assert parts["full_8b"]["seconds"] < 6
    assert parts["bare"]["log"] == ["no such kernel"]
    assert result["pass_over_bare_vllm"] == 1.0
    assert result["mfu_full_recompute"] is None


def test_what_a_part_leaves_running_ends_with_it(tmp_path: Path) -> None:
    code = FIGURES + GRANDCHILD
    result = result_of(tmp_path, {"load": code}, {"load": 30})
    assert result["parts"]["load"]["outcome"] == "done"
    assert result["parts"]["load"]["seconds"] < 15
    assert not alive(result["raw"]["load"]["grandchild"])


def test_parts_are_left_out_if_the_first_ones_took_all_the_time(tmp_path: Path) -> None:
    codes = {"engine": FIGURES + "time.sleep(60)", "load": FIGURES + "put('{\"a\": 1}\\n')"}
    result = result_of(tmp_path, codes, {"engine": 50, "load": 50}, limit=2)
    assert [part["outcome"] for part in result["parts"].values()] == ["out of time", "no time left"]
    assert "load" not in result["raw"]


@pytest.mark.skipif(not NO_GPU, reason="a GPU is here")
def test_a_machine_without_a_gpu_is_refused_at_once(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, BENCHMARKS / "gpu.py", "--out", tmp_path / "out"], capture_output=True, text=True)
    assert (run.returncode, run.stderr.splitlines()[-1]) == (
        2, "gpu.py: error: this machine has no NVIDIA GPU: --tiny runs everything on a CPU"
    )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_without_figures_all_ratios_are_null(gpu: ModuleType) -> None:
    assert gpu.headline({}) == {
        "pass_over_bare_vllm": None,
        "mfu_full_recompute": None,
        "mfu_selective_recompute": None,
        "peak_memory_over_plan": None,
    }


RATIO = st.floats(0.01, 3)


@given(st.lists(st.tuples(RATIO, RATIO, RATIO, RATIO), min_size=1, max_size=2))
def test_the_ratios_are_the_worst_of_all_cases(gpu: ModuleType, shapes: list[tuple[float, ...]]) -> None:
    raw: dict[str, Any] = {}
    for size, (full, selective, first, second) in zip(("8b", "70b"), shapes, strict=False):
        raw[f"full_{size}"] = {"recomputed_every": 1, "mfu": full, "peak_over_plan": first}
        raw[f"selective_{size}"] = {"recomputed_every": 2, "mfu": selective, "peak_over_plan": second}
    top = gpu.headline(raw)
    assert top["mfu_full_recompute"] == min(shape[0] for shape in shapes)
    assert top["mfu_selective_recompute"] == min(shape[1] for shape in shapes)
    distances = [abs(ratio - 1) for shape in shapes for ratio in shape[2:]]
    assert abs(top["peak_memory_over_plan"] - 1) == max(distances)


@pytest.mark.parametrize("memory_gb", [42.3, 85.0, 150.8])
def test_as_many_layers_are_trained_as_fit_by_the_plan(benchmarks: None, memory_gb: float) -> None:
    from dataclasses import replace

    from stj.plan.training import training_plan

    training, sizes = importlib.import_module("gpu_training"), importlib.import_module("gpu_sizes").sizes(tiny=False)

    def fits(shape: Any) -> bool:
        plans = [training_plan(shape, sizes.plan_config(memory_gb, every=every)) for every in (1, 2)]
        return max(plan.rank_gb for plan in plans) <= 0.85 * memory_gb

    for shape in (sizes.small, sizes.large):
        fitted = training.layers_that_fit(sizes, shape, memory_gb)
        assert fits(fitted)
        assert fitted.layers == shape.layers or not fits(replace(fitted, layers=fitted.layers + 1))


def test_steps_are_of_full_rows_and_no_example_is_twice_in_them(benchmarks: None) -> None:
    training, sizes = importlib.import_module("gpu_training"), importlib.import_module("gpu_sizes").sizes(tiny=False)
    tokens, steps = training.packed_steps(sizes, 1000)
    rows = [row for step in steps for row in step.micro_batches]
    assert len(rows) == sizes.steps * sizes.accumulation
    assert all(0.97 * 8192 <= sum(tokens[index].length for index in row) <= 8192 for row in rows)
    chosen = [index for row in rows for index in row]
    assert len(set(chosen)) == len(chosen)


def test_both_rules_meet_the_same_judgments(benchmarks: None) -> None:
    engine, sizes = importlib.import_module("gpu_engine"), importlib.import_module("gpu_sizes").sizes(tiny=False)

    async def judged(rule: str) -> dict[str, int]:
        scripted = ScriptedEngine(lambda messages, sampling: "word " * 10_000)
        return dict(await engine._judged(sizes, scripted, sizes.engine(), rule))

    first, every = (asyncio.run(judged(rule)) for rule in ("first_correct", "all"))
    assert every["draws"] == 15 * every["pairs"]
    assert first["kept"] == every["kept"] > 0.8 * every["pairs"]  # one pair of sixteen has no right judgment
    assert first["draws"] == pytest.approx(3.3 * first["pairs"], rel=0.3)  # sum of 1/n for n up to 15
    assert first["output_tokens"] < 0.4 * every["output_tokens"]


def tiny(out: Path, *parts: str) -> dict[str, Any]:
    """gpu.json of a run in tiny shapes in which every part has ended well."""
    words = [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--out", out, *parts]
    run = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    result = json.loads((out / "gpu.json").read_text())
    assert run.returncode == 0, result["parts"]
    return dict(result)


@pytest.mark.engine
def test_a_tiny_training_is_measured_and_an_engine_loads_what_it_exports(tmp_path: Path) -> None:
    raw = tiny(tmp_path, "full_8b", "load")["raw"]
    assert raw["full_8b"]["mfu"] > 0
    assert raw["full_8b"]["export"]["files"] > 1
    assert raw["load"]["exported_by_training"] is True
    assert raw["load"]["answered_tokens"] > 0


@pytest.mark.long
@pytest.mark.engine
def test_all_of_it_runs_in_tiny_shapes(tmp_path: Path) -> None:
    result = tiny(tmp_path)
    ratios = ("pass_over_bare_vllm", "mfu_full_recompute", "mfu_selective_recompute", "peak_memory_over_plan")
    assert all(result[name] > 0 for name in ratios)
    assert result["versions"]["torch"] == importlib.metadata.version("torch")
    engine = result["raw"]["engine"]
    rule = engine["rule"]
    assert rule["all"]["draws"] == 15 * rule["all"]["pairs"]
    assert rule["first_correct"]["draws"] < rule["all"]["draws"]
    assert rule["first_correct"]["kept"] == rule["all"]["kept"] > 0
    assert engine["warm_start_s"] < engine["cold_start_s"]
