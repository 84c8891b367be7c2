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
from tests.conftest import soon

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NO_GPU = not Path("/dev/nvidiactl").exists()
DRIVER = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gpu
assert not {"torch", "vllm", "ray", "stj"} & sys.modules.keys()
gpu.LEAST_S = gpu.TEARDOWN_S = 1
out, codes, boxes, limit = Path(sys.argv[2]), *map(json.loads, sys.argv[3:6])
scratch = out / "scratch"
scratch.mkdir()
result = gpu.Result(out / "gpu.json", {"card": "none"}, tiny=True)
if limit["hard"]:
    gpu.end_at_last(scratch, limit["hard"])
gpu.run_parts(boxes, lambda part: [sys.executable, "-c", codes[part]], scratch, result, time.monotonic() + limit["soft"])
"""
FIGURES = "import os, sys, time\ndef put(text): os.write(int(sys.argv[-1]), text.encode())\n"
GRANDCHILD = """
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writing, b"%d" % os.getpid())
        time.sleep(600)
    os._exit(0)
put('{"grandchild": %d}\\n' % int(os.read(reading, 32)))
"""
STACK = "import faulthandler, signal\nfaulthandler.register(signal.SIGUSR1)\n"
HANG_S = 5
"""A box in which Python begins and writes its figures even on a busy machine."""


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def gpu(benchmarks: None) -> ModuleType:
    return importlib.import_module("gpu")


def driven(
    out: Path, codes: dict[str, str], boxes: dict[str, float], soft: float = 600, hard: float = 0
) -> "subprocess.CompletedProcess[str]":
    """Parts that run this code, below a process whose children may all be killed."""
    limits = {"soft": soft, "hard": hard}
    words = [sys.executable, "-c", DRIVER, str(BENCHMARKS), str(out), *map(json.dumps, (codes, boxes, limits))]
    return subprocess.run(words, capture_output=True, text=True)


def result_of(out: Path, codes: dict[str, str], boxes: dict[str, float], **limits: float) -> dict[str, Any]:
    """gpu.json after such parts."""
    run = driven(out, codes, boxes, **limits)
    assert run.returncode == 0, run.stderr
    return dict(json.loads((out / "gpu.json").read_text()))


def alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.mark.slow
def test_a_part_that_hangs_or_fails_keeps_its_figures_and_harms_no_other(tmp_path: Path) -> None:
    codes = {
        "full_8b": FIGURES + GRANDCHILD + STACK + 'put(\'{"a": 1}\\n{"b": 2}\\n{"cut\'); time.sleep(600)',
        "bare": FIGURES + "put('{\"tokens_per_s\": [4.0]}\\n'); raise SystemExit('no such kernel')",
        "attention": "import no_such_package",
        "logits": FIGURES + "os.kill(os.getpid(), 9)",
        "engine": FIGURES + "put('{\"tokens_per_s\": [3.0]}\\n'); put('{\"tokens_per_s\": [3.0, 5.0]}\\n')",
    }
    result = result_of(tmp_path, codes, {**dict.fromkeys(codes, 600), "full_8b": HANG_S})
    raw, parts = result["raw"], result["parts"]
    assert (raw["full_8b"]["a"], raw["full_8b"]["b"]) == (1, 2)
    assert not alive(raw["full_8b"]["grandchild"])
    assert {name: (part["outcome"], part.get("exit")) for name, part in parts.items()} == {
        "full_8b": ("out of time", None),
        "bare": ("failed", 1),
        "attention": ("failed", 1),
        "logits": ("failed", -9),
        "engine": ("done", None),
    }
    assert parts["bare"]["log"] == ["no such kernel"]
    assert "most recent call first" in parts["full_8b"]["log"][0]  # where it hung
    assert "no_such_package" in parts["attention"]["log"][-1]
    assert result["pass_over_bare_vllm"] == 1.0
    assert result["mfu_full_recompute"] is None


def test_what_a_part_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """It holds the part's pipe open."""
    result = result_of(tmp_path, {"load": FIGURES + GRANDCHILD}, {"load": 600})
    assert result["parts"]["load"]["outcome"] == "done"
    assert not alive(result["raw"]["load"]["grandchild"])


@pytest.mark.slow
def test_parts_are_left_out_if_the_first_ones_took_all_the_time(tmp_path: Path) -> None:
    codes = {"engine": FIGURES + "time.sleep(600)", "load": FIGURES + "put('{\"a\": 1}\\n')"}
    result = result_of(tmp_path, codes, dict.fromkeys(codes, 600), soft=3)
    assert [part["outcome"] for part in result["parts"].values()] == ["out of time", "no time left"]
    assert "load" not in result["raw"]


@pytest.mark.slow
def test_at_last_it_ends_with_all_that_it_has_measured(tmp_path: Path) -> None:
    """Even if ending a part takes longer than it should."""
    codes = {"engine": FIGURES + "put('{\"a\": 1}\\n')", "load": FIGURES + GRANDCHILD + "time.sleep(600)"}
    run = driven(tmp_path, codes, dict.fromkeys(codes, 600), hard=HANG_S)
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert run.returncode == 1
    assert {name: part["outcome"] for name, part in result["parts"].items()} == {
        "engine": "done", "load": "cut with the whole run"
    }  # fmt: skip
    assert soon(lambda: not alive(result["raw"]["load"]["grandchild"]) and not (tmp_path / "scratch").exists())


def test_processes_that_do_not_die_hold_up_nothing(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a driver."""

    class Stuck:
        pid = 7

        def kill(self) -> None: ...

        def children(self, *, recursive: bool) -> list["Stuck"]:
            return [self]

    monkeypatch.setattr(gpu.psutil, "Process", Stuck)
    monkeypatch.setattr(gpu.psutil, "wait_procs", lambda processes, timeout: None)
    assert gpu.end_children(0.01) == [7]


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


@pytest.mark.parametrize(
    ("ours", "bare", "equal"),
    [
        ((16384, 411_520), (16384, 411_520), True),
        ((16384, 411_520), (16384, 408_000), True),
        ((16384, 411_520), (16384, 400_000), False),
        ((2048, 411_520), (16384, 411_520), False),
        ((16384, None), (16384, 411_520), None),
        (None, (16384, 411_520), None),
    ],
)
def test_a_ratio_of_unequal_engines_meets_no_goal(
    gpu: ModuleType, tmp_path: Path, ours: Any, bare: Any, equal: bool | None
) -> None:
    result = gpu.Result(tmp_path / "gpu.json", {}, tiny=False)
    for part, sizes in (("engine", ours), ("bare", bare)):
        log = {} if sizes is None else {"log": dict(zip(("batch_tokens", "kv_cache_tokens"), sizes, strict=True))}
        result.add(part, {"tokens_per_s": [5.0], **log})
    top = json.loads((tmp_path / "gpu.json").read_text())
    assert (top["pass_over_bare_vllm"], top["equal_engines"]) == (1.0, equal)
    assert top["goals"]["pass_over_bare_vllm"]["met"] is (equal is not False)


@pytest.mark.parametrize(
    ("ratio", "reached"),
    [
        *[(("pass_over_bare_vllm", value), value >= 0.97) for value in (0.9699, 0.97, 1.2)],
        *[(("mfu_full_recompute", value), value >= 0.5) for value in (0.4999, 0.5)],
        *[(("mfu_selective_recompute", value), value >= 0.58) for value in (0.5799, 0.58)],
        *[(("peak_memory_over_plan", value), 0.9 <= value <= 1.1) for value in (0.89, 0.91, 1.09, 1.11)],
    ],
)
def test_goals_stand_beside_the_ratios_of_a_gpu(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: tuple[str, float], reached: bool
) -> None:
    monkeypatch.setattr(gpu, "headline", lambda raw: {**dict.fromkeys(gpu.GOALS), ratio[0]: ratio[1]})
    for tiny in (False, True):
        goals = gpu.Result(tmp_path / "gpu.json", {}, tiny=tiny).top()["goals"]
        assert goals.pop(ratio[0])["met"] is (None if tiny else reached)
        assert [goal["met"] for goal in goals.values()] == [None] * 3


def test_named_parts_are_added_to_what_the_same_machine_has_measured(gpu: ModuleType, tmp_path: Path) -> None:
    def measured(part: str, here: dict[str, Any], **options: bool) -> list[str]:
        result = gpu.Result(tmp_path / "gpu.json", here, **options)
        result.begin(part)
        result.add(part, {"a": part})
        result.end(part, {"outcome": "done"})
        return list(json.loads((tmp_path / "gpu.json").read_text())["raw"])

    here = {"card": "H100", "versions": {"torch": "2.11"}}
    assert measured("engine", here, tiny=False) == ["engine"]
    assert measured("bare", here, tiny=False) == ["engine", "bare"]
    assert measured("load", here, tiny=False, whole=True) == ["load"]
    assert measured("bare", {**here, "card": "H200"}, tiny=False) == ["bare"]
    assert measured("load", {**here, "card": "H200", "versions": {}}, tiny=False) == ["load"]
    assert measured("bare", {**here, "card": "H200", "versions": {}}, tiny=True) == ["bare"]
    (tmp_path / "gpu.json").write_text("{")
    assert measured("bare", here, tiny=False) == ["bare"]


WHOLE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
import gpu
def run_parts(boxes, command, scratch, result):
    for part in boxes:
        result.begin(part)
        result.end(part, {"outcome": "done"})
gpu.run_parts, gpu.RESULT, gpu.DRIVER = run_parts, Path(sys.argv.pop(1)), Path("/dev/null")
gpu.DISK_GB = int(sys.argv.pop(1))
gpu.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "written"), [([], True), (["--tiny"], False), (["bare"], False), (["--tiny", "bare"], False)]
)
def test_only_a_run_of_all_parts_on_a_gpu_is_kept_with_the_other_results(
    tmp_path: Path, words: list[str], written: bool
) -> None:
    kept, out = tmp_path / "kept.json", tmp_path / "out"
    subprocess.run([sys.executable, "-c", WHOLE, BENCHMARKS, kept, "0", "--out", out, *words], check=True, capture_output=True)
    assert kept.exists() == written
    assert not written or kept.read_text() == (out / "gpu.json").read_text()


def test_a_checkout_that_cannot_be_written_loses_no_result(tmp_path: Path) -> None:
    kept, out = tmp_path / "missing" / "kept.json", tmp_path / "out"
    run = subprocess.run(
        [sys.executable, "-c", WHOLE, BENCHMARKS, kept, "0", "--out", out], check=True, capture_output=True, text=True
    )
    assert run.stderr == f"{kept} is not written (No such file or directory): copy {out}/gpu.json there\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "refused"), [([], True), (["bare", "full_8b"], True), (["bare"], False), (["--tiny"], False)]
)
def test_trainings_on_a_small_disk_are_refused_at_once(tmp_path: Path, words: list[str], refused: bool) -> None:
    much = 10**9
    command = [sys.executable, "-c", WHOLE, BENCHMARKS, tmp_path / "kept.json", str(much), "--out", tmp_path / "out", *words]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert run.returncode == (2 if refused else 0)
    assert f"error: TMPDIR={tmp_path} has " in run.stderr.splitlines()[-1] if refused else not run.stderr, run.stderr


@pytest.mark.parametrize(
    ("visible", "handle"),
    [
        (None, 0),
        ("5", 5),
        ("3,1", 3),
        ("GPU-4f00-b", 4),
        ("GPU-2f00,GPU-1f00", 2),
        ("MIG-7", "MIG-7"),
        ("", None),
        ("9", None),
    ],
)
def test_the_card_of_the_parts_is_asked(
    benchmarks: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, handle: int | str | None
) -> None:
    class Nvml(ModuleType):
        nvmlInit = nvmlDeviceGetName = staticmethod(lambda *handle: handle[0] if handle else None)
        nvmlDeviceGetCount = staticmethod(lambda: 8)
        nvmlDeviceGetHandleByIndex = staticmethod(list(range(8)).__getitem__)
        nvmlDeviceGetUUID = staticmethod(lambda handle: f"GPU-{handle}f00-b{handle}".encode())
        nvmlDeviceGetHandleByUUID = staticmethod({"MIG-7": "MIG-7"}.__getitem__)

    monkeypatch.setitem(sys.modules, "pynvml", Nvml("pynvml"))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert importlib.import_module("gpu_machine").card("nvmlDeviceGetName") == handle


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
        return max(plan.rank_gb for plan in plans) <= 0.85 * min(memory_gb, 86)

    for shape in (sizes.small, sizes.large):
        fitted = training.layers_that_fit(sizes, shape, memory_gb, 0.85)
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


@pytest.mark.slow
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


@pytest.mark.long
def test_two_ways_of_attention_are_compared(benchmarks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU the kernel's function computes text by text, so there is hardly a difference."""
    row, sizes = importlib.import_module("gpu_row"), importlib.import_module("gpu_sizes").sizes(tiny=True)
    names = iter(["stj_varlen", "stj_per_text"])
    monkeypatch.setattr("stj.train.attention.implementation", lambda device: next(names))
    (figures,) = row.attention(sizes, tmp_path)
    assert figures["best"] == "stj_varlen"
    assert figures["best_over_per_text"] == pytest.approx(figures["best_s"] / figures["per_text_s"], abs=1e-4)
    assert list(figures["difference"]) == ["output", "query", "key", "value"]
    assert all(difference < 0.01 for difference in figures["difference"].values())
    assert sum(figures["lengths"]) <= sizes.row_tokens


class Replaced(Exception):
    """In place of this process, another one begins."""


@pytest.mark.slow
def test_a_training_that_runs_out_of_memory_begins_again_with_fewer_layers(
    benchmarks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a new process, because DeepSpeed holds the memory of the first one."""
    import torch

    training, sizes = importlib.import_module("gpu_training"), importlib.import_module("gpu_sizes").sizes(tiny=False)
    fits, wrong = 0, None

    class Training:
        def __init__(self, sizes: Any, shape: Any, seed: Path, every: int) -> None:
            if wrong:
                raise wrong
            if shape.layers > fits:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words")

        def steps(self, tflops: float) -> dict[str, float]:
            return {"mfu": 0.5}

    def replaced(file: str, words: list[str]) -> None:
        assert (file, words) == (sys.executable, [sys.executable, *sys.orig_argv[1:]])
        raise Replaced

    def figures() -> dict[str, Any]:
        lines: dict[str, Any] = {}
        try:
            for line in training.selective_8b(sizes, tmp_path):
                lines |= line
        except Replaced:
            lines["again"] = True
        return lines

    simple = {"join_alone": None, "matrix_tflops": 700.0, "card_gb": 85.0, "_write_seed": 1.0}
    for name, value in simple.items():
        monkeypatch.setattr(training, name, lambda *_, value=value: value)
    monkeypatch.setattr(training, "_Training", Training)
    monkeypatch.setattr(training.os, "execv", replaced)
    first = figures()
    layers = first["shape"]["layers"]
    assert first[f"out_of_memory_with_{layers}_layers"] == "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert first["again"]
    fits = layers - 1
    second = figures()
    assert 1 <= second["shape"]["layers"] < layers
    assert (second["mfu"], "again" in second) == (0.5, False)
    fits = 0
    assert figures()["again"]
    wrong = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    with pytest.raises(RuntimeError, match="no kernel image"):
        figures()
    wrong = None
    with pytest.raises(SystemExit, match="memory is short even with 55% of the card by the plan"):
        figures()


@pytest.mark.parametrize(
    "log",
    [
        "INFO Chunked prefill is enabled with max_num_batched_tokens=16384.\n"
        "INFO Model loading took 14.96 GiB and 3.1 seconds\n"
        "INFO torch.compile took 31.07 s in total\nINFO GPU KV cache size: 411,520 tokens\n"
        "INFO Graph capturing finished in 12 secs, took 0.55 GiB\n"
        "INFO init engine (profile, create kv cache, warmup model) took 52.1 s",
        "INFO Chunked prefill is enabled with max_num_batched_tokens=16384.\n"
        "INFO Model loading took 14.96 GiB memory and 3.1 seconds\nINFO torch.compile took 31.07 s in total\n"
        "INFO GPU KV cache size: 411,520 tokens, Maximum concurrency for 4,096 tokens per request: 100.47x\n"
        "INFO Graph capturing finished in 12 secs, took 0.55 GiB\n"
        "INFO init engine (profile, create kv cache, warmup model) took 52.1 s (compilation: 31.07 s)",
    ],
)
def test_sizes_and_times_are_read_from_the_logs_of_both_versions_of_vllm(benchmarks: None, log: str) -> None:
    assert importlib.import_module("gpu_engine").log_figures(log) == {
        "batch_tokens": 16384,
        "kv_cache_tokens": 411_520,
        "weights_gib": 14.96,
        "compile_s": 31.07,
        "graphs_s": 12,
        "graphs_gib": 0.55,
        "init_s": 52.1,
    }


def tiny(out: Path, *parts: str) -> dict[str, Any]:
    """gpu.json of a run in tiny shapes in which every part has ended well."""
    words = [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--out", out, *parts]
    run = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    result = json.loads((out / "gpu.json").read_text())
    assert run.returncode == 0, result["parts"]
    return dict(result)


@pytest.mark.long
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
    assert result["equal_engines"] is True
    assert {goal["met"] for goal in result["goals"].values()} == {None}
    engine = result["raw"]["engine"]
    rule = engine["rule"]
    assert rule["all"]["draws"] == 15 * rule["all"]["pairs"]
    assert rule["first_correct"]["draws"] < rule["all"]["draws"]
    assert rule["first_correct"]["kept"] == rule["all"]["kept"] > 0
    assert engine["warm_start_s"] < engine["cold_start_s"]
