"""The whole loop on the real engines: Ray Data, vLLM, Ray Train and ZeRO-3, from the command line, as a user runs it."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stj.config import ModelConfig
from stj.errors import StjError
from stj.evals.benchmarks.evaluation import read_scores
from stj.loop.benchmarks import BenchmarkPhase
from stj.loop.iterate import run_all
from stj.loop.phases import Run
from stj.loop.status import phase_states, read_run_config
from stj.models.fetch import held_model
from stj.models.locate import loaded_files
from stj.rows import HELDOUT, TRAINING, Row, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.verdict import PAIR, parse
from tests.conftest import engines, running, soon, wait_until

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
STJ = [sys.executable, "-m", "stj.cli"]
SMALL = ["source.limit=160", "heldout.limit=12", "iterations=1", "engine.commit_interval_s=0"]


def command(run_root: Path, *overrides: str, verb: str = "run") -> list[str]:
    return [*STJ, verb, str(ROOT / "conf" / "mini.yaml"), f"run_root={run_root}", *SMALL, *overrides]


def measuring(run_root: Path) -> str:
    """The setting of a small benchmark, a file beside the run."""
    return f"benchmarks=[pairs:{run_root.parent}/benchmark.jsonl]"


def run(run_root: Path, *overrides: str, verb: str = "run") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(run_root, *overrides, verb=verb), capture_output=True, text=True, timeout=3600, check=False)


def listen_to_ctrl_c() -> None:
    """Lets a program react to Ctrl-C again: a shell makes programs in the background ignore it, perhaps these tests too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def rows_of(path: Path) -> list[Row]:
    return [row_from_dict(record) for record in read_artifact(Folder.at(path)).records()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, mark: str) -> Path:
    """A run of one iteration with a benchmark that was killed with -9 in its first pass, and resumed."""
    root = tmp_path_factory.mktemp("loop") / "run"
    pairs = (ROOT / "stj/mini/data/heldout.jsonl").read_text(encoding="utf-8").splitlines()
    (root.parent / "benchmark.jsonl").write_text("\n".join(pairs[-8:]), encoding="utf-8")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with running(command(root, measuring(root)), **silent) as first:
        wait_until(lambda: bool(engines(mark)), first)
        wait_until(lambda: bool(list((root / "pairs/rows").glob("part-*.parquet"))), first)
    state = json.loads(subprocess.run([*STJ, "status", str(root), "--json"], capture_output=True, check=True).stdout)
    assert state[0]["state"] in {"partial", "done"}
    assert soon(lambda: not engines(mark), 120), f"engines that outlived their run: {engines(mark)}"
    second = run(root, measuring(root))
    assert second.returncode == 0, second.stderr
    assert "benchmarks_0/pairs: 8 rows" in second.stdout
    assert second.stdout.count("(in the same pass)") == 2
    return root


def test_a_killed_run_resumes_with_no_row_lost_and_none_twice(finished: Path) -> None:
    rows = rows_of(finished / "pairs")
    assert Counter(row.id for row in rows).most_common(1)[0][1] == 1
    assert sorted(row.position for row in rows if row.task == TRAINING) == list(range(160))
    assert sum(row.task == HELDOUT for row in rows) == 12


def test_every_row_is_judged_or_says_why_not(finished: Path) -> None:
    for row in rows_of(finished / "pairs"):
        assert row.error is None
        if row.task == TRAINING:
            assert (row.kept is not None) != (row.dropped is not None)
        for judgment in row.judgments:
            assert judgment.verdict == (parse(judgment.text, PAIR, "distinct") if judgment.finish_reason == "stop" else None)


def test_examples_are_right_balanced_and_no_held_out_pair_is_among_them(finished: Path) -> None:
    examples = list(read_artifact(Folder.at(finished / "iteration_1" / "examples")).records())
    assert examples
    labels = Counter(example["winner"] for example in examples)
    assert labels["A"] == labels["B"]
    assert all(parse(example["completion"], PAIR, "distinct") == example["winner"] for example in examples)
    assert not [example for example in examples if example["id"].startswith("heldout/")]


def test_the_trained_model_is_another_one_and_judged_the_held_out_pairs(finished: Path) -> None:
    model = finished / "iteration_1" / "model"
    weights = (model / "model.safetensors").read_bytes()
    assert weights != (ROOT / "stj" / "mini" / "seed_model" / "model.safetensors").read_bytes()
    judged = rows_of(finished / "heldout_1")
    assert len(judged) == 12
    assert all(len(row.judgments) == 8 for row in judged)


def test_the_report_says_what_the_raw_judgments_say(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert [iteration["judge"] for iteration in report["iterations"]] == ["M_0", "M_1"]
    for iteration, folder in zip(report["iterations"], ("pairs", "heldout_1"), strict=True):
        sampled = [
            j for row in rows_of(finished / folder) if row.task == HELDOUT for j in row.judgments if j.purpose == "sampled"
        ]
        assert iteration["heldout"]["accuracy"] == pytest.approx(sum(j.correct for j in sampled) / len(sampled))
        assert iteration["heldout"]["ci95"][0] <= iteration["heldout"]["accuracy"] <= iteration["heldout"]["ci95"][1]
    assert report["iterations"][0]["examples"] == len(
        list(read_artifact(Folder.at(finished / "iteration_1/examples")).records())
    )
    assert "<svg" in (finished / "report.html").read_text()


def test_each_judge_judged_the_benchmark_and_m_1_is_compared_with_m_0(finished: Path) -> None:
    for folder in ("benchmarks_0/pairs", "benchmarks_1/pairs"):
        judged = rows_of(finished / folder)
        assert sorted(row.position for row in judged) == list(range(8))
        assert all(len(row.judgments) == 2 for row in judged)
    _, last = json.loads((finished / "report.json").read_text())["iterations"]
    [compared] = last["benchmarks"]["pairs"]["comparisons"]
    words = [*STJ, "compare", str(finished / "benchmarks_0/pairs"), str(finished / "benchmarks_1/pairs"), "--json"]
    [by_hand] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert compared.pop("against") == "M_0"
    assert compared.pop("conclusion")
    assert compared == {name: by_hand[name] for name in compared}


def test_a_finished_run_is_reused_and_another_config_refused_by_name(finished: Path) -> None:
    again = run(finished)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done already, reused") == 4  # Benchmarks may come and go.
    other = run(finished, "judge.samples=3")
    assert other.returncode == 1
    assert "judge.samples: 15 -> 3" in other.stderr
    assert "Traceback" not in other.stderr
    assert read_artifact(Folder.at(finished / "pairs")).state() == ("done", [])


def files(root: Path) -> list[tuple[object, ...]]:
    """All files below a directory, with what changes whenever one is written."""
    states = ((path, path.stat()) for path in sorted(root.rglob("*")))
    return [(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for path, state in states]


def test_a_rerun_of_a_finished_run_writes_nothing_and_loads_no_torch(finished: Path) -> None:
    assert run(finished).returncode == 0  # the report of this config, without the benchmark
    before = files(finished)
    words = [sys.executable, "-X", "importtime", *command(finished)[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "Lift M_0 -> M_1" in done.stdout
    assert files(finished) == before
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "stj.loop.iterate" in loaded
    assert not loaded & {"torch", "transformers", "vllm"}


def test_a_finished_run_on_a_read_only_disk_shows_its_table(finished: Path, tmp_path: Path) -> None:
    """Also if its report is of an older version, which cannot be written anew."""
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    assert run(root).returncode == 0
    report = root / "report.html"
    newest = report.read_bytes()
    for content in (newest, b"an older one"):
        report.write_bytes(content)
        before = files(root)
        mounted = f"mount --bind {root} {root} && mount -o remount,ro,bind {root} || exit 77; exec {shlex.join(command(root))}"
        shown = subprocess.run(["unshare", "--mount", "bash", "-c", mounted], capture_output=True, text=True, check=False)
        if shown.returncode == 77:
            pytest.skip("no right to mount")
        assert shown.returncode == 0, shown.stderr
        assert "Lift M_0 -> M_1" in shown.stdout
        assert ("not brought up to date" in shown.stderr) == (content == b"an older one")
        assert "Traceback" not in shown.stderr
        assert files(root) == before
    assert run(root).returncode == 0
    assert report.read_bytes() == newest


def test_a_source_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """Of .json, the whole file is read before the start. A torn line of .jsonl is a row that is dropped with its reason."""
    source = tmp_path / "broken.json"
    source.write_text('[{"instruction": "Why?"}, {"instru', encoding="utf-8")
    broken = run(tmp_path / "run", f"source.path={source}")
    assert broken.returncode == 2
    assert "broken.json" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert len([line for line in broken.stderr.splitlines() if line.startswith("stj:")]) == 1


def test_show_is_readable(finished: Path) -> None:
    for path in ("pairs", "iteration_1/examples", "iteration_1/model", "heldout_1"):
        shown = subprocess.run([*STJ, "show", str(finished / path), "--limit", "3"], capture_output=True, text=True, check=True)
        assert shown.stdout.strip()


@pytest.mark.long
def test_a_pass_that_gets_sigterm_says_so_and_can_be_resumed(tmp_path: Path) -> None:
    with running(command(tmp_path / "run"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_until((tmp_path / "run" / "pairs" / "started.json").exists, process)
        time.sleep(2)  # its engine starts
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 143
    assert "stj: stopped by SIGTERM; run the same command again" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "run" / "pairs" / "started.json").exists()


@pytest.mark.long
def test_an_engine_that_is_killed_is_one_line_on_the_terminal(tmp_path: Path, mark: str) -> None:
    """A killed engine, not its actor, in the middle of a pass."""
    root, log = tmp_path / "run", tmp_path / "stderr"
    before = set(engines(mark))
    with log.open("w") as errors, running(command(root), stderr=errors, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(list((root / "pairs/rows").glob("part-*.parquet"))), process)
        os.kill(max(set(engines(mark)) - before), signal.SIGKILL)
        wait_until(lambda: "an engine died" in log.read_text(), process)
        process.terminate()
        assert process.wait(600) == 143
    (line,) = [line for line in log.read_text().splitlines() if "engine died" in line or "did not start" in line]
    assert line.endswith(
        "pairs: an engine died and starts again, with its rows (attempt 1 of 3 follows): "
        "its process was killed; is memory short?"
    )


@pytest.mark.long
def test_overwrite_makes_only_what_changed_again_and_training_can_be_interrupted(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    pairs = (root / "pairs" / "manifest.json").stat().st_mtime_ns
    other = ("train.lr=1e-4", "train.checkpoint_every_steps=1")
    words, streams = [*command(root, *other), "--overwrite"], {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    with running(words, **streams, preexec_fn=listen_to_ctrl_c) as process:
        wait_until(lambda: bool(list((root / "iteration_1" / "checkpoints").glob("*/manifest.json"))), process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert "stj: interrupted; run the same command again" in errors
    assert "Traceback" not in errors
    states = json.loads(subprocess.run([*STJ, "status", str(root), "--json"], capture_output=True, check=True).stdout)
    done = [state["name"] for state in states if state["state"] == "done"]
    assert done[:2] == ["pairs", "iteration_1/examples"]  # On a slow machine the interrupt may come behind the training.
    again = run(root, *other, "--overwrite")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done already, reused") == len(done)
    assert (root / "pairs" / "manifest.json").stat().st_mtime_ns == pairs
    new, old = ((place / "iteration_1/model/model.safetensors").read_bytes() for place in (root, finished))
    assert new != old


@pytest.mark.long
@pytest.mark.parametrize("rate", [pytest.param(1e-12, id="no weight changes"), pytest.param(0.05, id="weights change")])
def test_the_first_of_the_best_checkpoints_is_the_model_and_training_stops_early(tmp_path: Path, rate: float) -> None:
    """Texts are deterministic, so equal weights score alike. With other weights, the assertions hold for any scores."""
    selection = ["path=package://mini/data/dev.jsonl", "limit=12", "patience=1"]
    overrides = [f"train.selection.{setting}" for setting in selection]
    overrides += [f"train.lr={rate}", "train.checkpoint_every_steps=2", "heldout.path=null", "heldout.samples=1"]
    overrides += ["engine.deterministic=true"]
    root = tmp_path / "run"
    selected = run(root, *overrides)
    assert selected.returncode == 0, selected.stderr
    iteration = root / "iteration_1"
    manifest = json.loads((iteration / "model/manifest.json").read_text())
    checkpoints, planned = manifest["selection"]["checkpoints"], manifest["planned_steps"]
    best = max(checkpoints, key=lambda checkpoint: (checkpoint["score"], -checkpoint["checkpoint"]))
    assert manifest["selection"]["checkpoint"] == best["checkpoint"]
    assert manifest["steps"] == best["steps"] == min(2 * best["checkpoint"], planned)
    ended = checkpoints[-1]["steps"] == planned
    assert ended or len(checkpoints) == best["checkpoint"] + 1
    assert ("training stopped early, with no better one in the next 1" in selected.stdout) != ended
    if rate < 1e-6:
        assert [checkpoint["steps"] for checkpoint in checkpoints] == [2, 4]
        assert planned > 4, "it was to stop early"
    for checkpoint in checkpoints:
        rows = rows_of(iteration / f"candidates/checkpoint_{checkpoint['checkpoint']}/judged")
        right = [judgment.correct for row in rows for judgment in row.judgments]
        assert (len(rows), checkpoint["accuracy"]) == (12, pytest.approx(sum(right) / len(right)))
    assert len((iteration / "metrics.jsonl").read_text().splitlines()) == checkpoints[-1]["steps"]
    assert [path.parent.parent.name for path in iteration.rglob("*.safetensors")] == ["iteration_1"]
    assert not (iteration / "checkpoints").exists()
    states = json.loads(subprocess.run([*STJ, "status", str(root), "--json"], capture_output=True, check=True).stdout)
    assert {state["state"] for state in states} == {"done"}


@pytest.mark.long
def test_a_source_where_no_row_passes_the_rule_is_one_line_with_the_counts(tmp_path: Path) -> None:
    nothing = run(tmp_path / "run", "select.languages=[Klingon]")
    assert nothing.returncode == 1
    assert "none of 160 instructions became a pair; 0 passed the rule (dropped: " in nothing.stderr
    assert " language" in nothing.stderr
    assert "Traceback" not in nothing.stderr


def seen_by_a_user(root: Path, *, with_tables: bool = True) -> Any:
    """All that the commands read of a run: states, rows, manifests, scores, the files of its models, and its tables."""
    run = Run(read_run_config(Folder.at(root)))
    shown: list[str] = []
    states = phase_states(run.phases)
    rows = [list(phase.artifact.records()) for phase in run.phases]
    scores = [read_scores(phase.artifact.folder) for phase in run.phases if isinstance(phase, BenchmarkPhase)]
    models = [held_model(ModelConfig(path=str(path.parent))) for path in sorted(root.glob("*/model/manifest.json"))]
    files = [(model / name).read_bytes() for model in models for name in loaded_files(Folder.at(model))]
    facts = [phase.artifact.manifest() for phase in run.phases]
    if with_tables:
        run_all(run.config, lambda item: shown.append(str(item)))
        shown.append((root / "report.json").read_text(encoding="utf-8"))
    return states, rows, scores, files, facts, shown


REMEDY = re.compile(
    r"run the same command again|delete |copy it again|copy or make the model again|bring back |give the run's config file"
)


def seen_or_refused(root: Path, *, with_tables: bool) -> Any:
    try:
        return seen_by_a_user(root, with_tables=with_tables)
    except StjError as error:
        return str(error)


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.long)])
def test_no_flipped_bit_and_no_cut_is_taken_for_data(finished: Path, rounds: int) -> None:
    """In each file of the run. The report may be made anew; it and the tables are looked at where no rows can have changed."""
    expected = seen_by_a_user(finished)
    chance = random.Random(rounds)
    files = [path for path in sorted(finished.rglob("*")) if path.is_file() and path.stat().st_size]
    noticed = 0
    for file in files * rounds:
        whole = file.read_bytes()
        place, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        flipped = whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
        file.write_bytes(whole[:place] if chance.random() < 0.2 else flipped)
        with_tables = file.suffix in (".json", ".html") and chance.random() < 0.3
        found = seen_or_refused(finished, with_tables=with_tables)
        if found != (expected if with_tables else (*expected[:-1], [])):
            assert isinstance(found, str), f"{file}, byte {place}, bit {bit}: other data"
            assert "\n" not in found
            assert str(file) in found or f"{file.parent}: " in found
            assert REMEDY.search(found), found
            noticed += 1
        if not file.name.startswith("report"):
            file.write_bytes(whole)
    assert noticed > rounds * len(files) / 3
    assert seen_by_a_user(finished) == expected
