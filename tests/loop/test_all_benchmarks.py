"""`source.keep_out=all`: the benchmarks in the hub's cache are kept out, and the others are named."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from stj.cli import main
from stj.config import Config
from stj.config_loader import load
from stj.evals.benchmarks import BENCHMARKS
from stj.findings import Finding
from stj.loop.all_benchmarks import all_benchmarks, not_kept_out
from stj.loop.inputs import input_findings, kept_out
from stj.loop.iterate import run_all
from stj.loop.kinds import TrainingPhase
from stj.loop.phases import Run
from stj.loop.status import read_run_config
from stj.passes import spec
from stj.passes.spec import Pass
from stj.rows import Row, row_from_dict
from stj.sources.overlap import phrases_of
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from tests import ray_here
from tests.kill_driver import MINI, make_engine, train

ANSWER = " ".join(f"word{number}" for number in range(30))
ASKED = "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's client lays it out, with one of the benchmarks, and without network."""
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    put(
        folder,
        "allenai/reward-bench-2",
        {"id": "1", "prompt": ASKED, "chosen": [ANSWER], "rejected": ["no"] * 3, "subset": "Math"},
    )
    return folder


def put(cache: Path, data_set: str, record: dict[str, object], name: str = "test.jsonl") -> Path:
    folder = cache / f"datasets--{data_set.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record))
    return file


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    pool = [{"instruction": f"Question {number}: how much is {number} + 1?"} for number in range(10, 22)]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, [*pool, {"instruction": f"Question 99: {ASKED}"}])))
    pairs = [{"instruction": f"Question {number}: which?", "chosen": "yes", "rejected": "no"} for number in range(50, 62)]
    pairs.append({"instruction": "Question 70: which?", "chosen": f"It is: {ANSWER}", "rejected": "no"})
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    words = [f"run_root={tmp_path / 'run'}", f"source.path={tmp_path / 'pool.jsonl'}", "source.kind=instructions"]
    words += ["source.limit=null", "heldout.path=null", "iterations=1", "judge.samples=4", "engine.max_replicas=1"]
    words += [
        "engine.min_replicas=1",
        "select.limit=null",
        f"preferences=[{{}}, {{kind: pairs, path: {tmp_path / 'pairs.jsonl'}}}]",
    ]
    return lambda *more: load([MINI], [*words, "source.keep_out=all", *more])


def finding(config: Config) -> Finding:
    return next(each for each in input_findings(Run(config).config, hub=False) if "all" in each.words)


def test_a_file_may_say_it_in_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("source:\n  keep_out: all\n")
    assert load([tmp_path / "a.yaml"]).source.keep_out == load([], ["source.keep_out=[all]"]).source.keep_out == ("all",)


def test_every_data_set_is_named_once() -> None:
    names = all_benchmarks()
    assert len({BENCHMARKS[name].hub for name in names}) == len(names)
    assert {BENCHMARKS[name].hub for name in names} == {benchmark.hub for benchmark in BENCHMARKS.values()} - {()}


@pytest.mark.slow
def test_what_is_in_the_cache_is_kept_out_and_the_rest_is_named(cache: Path, config: Callable[..., Config]) -> None:
    run = Run(config())
    [place] = kept_out(run.config)
    assert place.location == f"rewardbench2:{cache}/datasets--allenai--reward-bench-2/snapshots/abc"
    missing = [name for name in all_benchmarks() if name != "rewardbench2"]
    assert not_kept_out(run.config.source) == missing
    assert run.pairs
    assert run.pairs.not_kept_out == missing
    seen = finding(config())
    assert seen.ok
    assert seen.words.startswith(f"all: 1 of {len(missing) + 1} benchmarks; NOT READ, because they are not in the hub's cache")
    assert all(name in seen.words for name in missing)
    assert Run(run.config).config.source == run.config.source


@pytest.mark.slow
def test_the_doctor_looks_into_the_cache(
    cache: Path, config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = config()
    raw = [each for each in input_findings(given, hub=False) if each.subject == "source.keep_out"]
    assert raw == [each for each in input_findings(Run(given).config, hub=False) if each.subject == "source.keep_out"]
    words = [f"run_root={tmp_path / 'r'}", f"source.path={tmp_path / 'pool.jsonl'}", "source.kind=instructions"]
    main(["doctor", str(MINI), *words, "source.keep_out=all"])
    said = capsys.readouterr().out
    assert "ok     source.keep_out: all: 1 of" in said
    assert "NOT READ" in said


def test_a_named_place_stands_for_its_benchmark(cache: Path, config: Callable[..., Config], tmp_path: Path) -> None:
    file = put(cache, "allenai/reward-bench", {"id": 1, "prompt": "a", "chosen": "b", "rejected": "c", "subset": "hep-go"})
    shutil.move(file, tmp_path / "mine.jsonl")
    named = Run(config(f"source.keep_out=[all, rewardbench:{tmp_path}/mine.jsonl]")).config
    assert [place.location.partition(":")[0] for place in kept_out(named)] == ["rewardbench", "rewardbench2"]
    assert "rewardbench" not in not_kept_out(named.source)
    assert "rewardbench" in not_kept_out(Run(config()).config.source), "a copy without files is not in the cache"


def test_a_damaged_copy_is_refused(cache: Path, config: Callable[..., Config]) -> None:
    put(cache, "allenai/reward-bench-2", {}).write_text('{"id": oops')
    findings = input_findings(Run(config()).config, hub=False)
    [refused] = [each for each in findings if not each.ok]
    assert "test.jsonl, line 1, column 8: not JSON" in refused.words


@pytest.mark.slow
def test_an_empty_cache_is_refused(
    cache: Path, config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(cache)
    seen = finding(config())
    assert not seen.ok
    assert "benchmarks is in this machine's cache: fetch them with `hf download --repo-type dataset ID`" in seen.words
    words = [f"{key}={value}" for key, value in {"run_root": tmp_path / "r", "source.path": tmp_path / "pool.jsonl"}.items()]
    words += ["source.kind=instructions", "source.keep_out=all", "--dry-run"]
    assert main(["run", str(MINI), *words]) == 2
    assert capsys.readouterr().err.startswith("stj: source.keep_out=all: none of the")


@pytest.mark.slow
def test_keys_of_other_runs_are_as_they_were(cache: Path, config: Callable[..., Config]) -> None:
    plain, every = Run(config("source.keep_out=[]")), Run(config())
    for before, after in zip(plain.phases[:2], every.phases[:2], strict=True):
        assert not {"all_benchmarks", "answers_keep_out"} & {*before.artifact.key, *before.artifact.key.get("source", {})}
        assert before.artifact.key != after.artifact.key


@pytest.mark.slow
def test_a_run_drops_instructions_and_answers_and_says_what_it_did_not_read(
    cache: Path, config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray_here.install(monkeypatch)
    monkeypatch.setattr(spec, "Pass", partial(Pass, make_engine=partial(make_engine, log=str(tmp_path / "asked"))))
    monkeypatch.setattr(TrainingPhase, "run", train)
    said: list[object] = []
    run_all(config(), said.append)
    rows: list[Row] = list(map(row_from_dict, read_artifact(Folder.at(tmp_path / "run" / "pairs")).records()))
    dropped = {row.instruction.split(":")[0]: str(row.detail) for row in rows if row.dropped == "benchmark_overlap"}
    assert dropped.keys() == {"Question 99", "Question 70"}
    assert dropped["Question 99"].endswith(f": {ASKED}")
    assert f"in an answer: {' '.join(ANSWER.split()[:20])}" in dropped["Question 70"]
    line = next(str(line) for line in said if str(line).startswith("pairs: "))
    assert "2 benchmark_overlap" in line
    assert "NOT READ, because they are not in the hub's cache on this machine: helpsteer2, hhh, judgebench" in line
    facts = json.loads((tmp_path / "run" / "report.json").read_text())["run"]
    assert facts["benchmarks kept out"].startswith("rewardbench2; NOT READ")
    assert "NOT READ" in (tmp_path / "run" / "report.html").read_text()
    assert read_run_config(Folder.at(tmp_path / "run")).source.keep_out[0] == "all"


@pytest.mark.slow
def test_an_answer_that_a_model_took_from_a_benchmark_is_not_learned(
    cache: Path, config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray_here.install(monkeypatch)
    monkeypatch.setattr(spec, "Pass", partial(Pass, make_engine=partial(make_engine, log=str(tmp_path / "asked"))))
    monkeypatch.setattr(TrainingPhase, "run", train)
    run_all(config("source.keep_out=[]"), [].append)
    examples = list(read_artifact(Folder.at(tmp_path / "run" / "iteration_1" / "examples")).records())
    by_id = {row.id: row for row in map(row_from_dict, read_artifact(Folder.at(tmp_path / "run" / "pairs")).records())}
    learned = [by_id[example["id"]] for example in examples]
    synthetic = [row.pair.rejected for row in learned if row.pair and row.origin is None]
    answers = [answer for answer in synthetic if phrases_of(answer, 20)]
    assert answers, "the scripted model writes some long answers"
    record = {"id": "1", "prompt": "a", "chosen": [answers[0]], "rejected": ["no"] * 3, "subset": "Math"}
    put(cache, "allenai/reward-bench-2", record)
    shutil.rmtree(tmp_path / "run")
    run_all(config(), [].append)
    manifest = json.loads((tmp_path / "run" / "iteration_1" / "examples" / "manifest.json").read_text())
    assert manifest["judged"]["dropped"]["benchmark_overlap"] >= 1
    again = list(read_artifact(Folder.at(tmp_path / "run" / "iteration_1" / "examples")).records())
    taken = next(row for row in learned if row.pair and row.pair.rejected == answers[0])
    assert taken.id not in {example["id"] for example in again}
