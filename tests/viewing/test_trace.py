"""`stj trace`: from a training row back to its source, and from a source row to what came of it."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.cli import main
from stj.config import JudgeConfig
from stj.config_loader import load
from stj.errors import NoArtifact, StjError
from stj.loop.iterate import run_all
from stj.loop.kinds import TrainingPhase
from stj.passes import spec
from stj.passes.spec import Pass
from stj.rows import TRAINING, Row, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.viewing.not_learned import LEFT_OUT, NOT_FINISHED, not_learned, rules_of
from stj.viewing.trace import RowTrace, trace
from stj.viewing.trace_text import passages, plain
from tests import ray_here
from tests.kill_driver import MINI, make_engine, train
from tests.loop.test_examples import judged

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe \u2028 ok"


def question(number: int, words: str = "") -> dict[str, Any]:
    return {"instruction": f"Question {number}: how much is {number} + 1{words}?"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two iterations on instructions and on pairs of a file. Tests only read it."""
    folder = tmp_path_factory.mktemp("traced")
    lines = [question(number, f" {HOSTILE}" if number == 10 else "") for number in range(10, 40)]
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, [*lines[:4], lines[3], *lines[4:]])) + '\n{"instruction": "Qu')
    pairs = [{"id": f"p{number}", "chosen": "yes", "rejected": "no", **question(number)} for number in range(50, 70)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, [{**pairs[0], "id": "same", "rejected": "yes"}, *pairs])))
    with pytest.MonkeyPatch.context() as patch:
        ray_here.install(patch)
        patch.setattr(spec, "Pass", partial(Pass, make_engine=partial(make_engine, log=str(folder / "asked"))))
        patch.setattr(TrainingPhase, "run", train)
        words = [f"run_root={folder / 'run'}", f"source.path={folder / 'pool.jsonl'}", "source.kind=instructions"]
        words += ["source.limit=null", "heldout.limit=4", "iterations=2", "judge.samples=4", "source.near_duplicates=1"]
        words += ["engine.rows_in_flight=8", "engine.max_replicas=1", "engine.min_replicas=1", "select.limit=null"]
        words += [f"preferences=[{{}}, {{kind: pairs, name: mine, path: {folder / 'pairs.jsonl'}, human: true, weight: 3}}]"]
        words += ["examples.mixing=up"]
        heldout = [{"id": f"h{number}", "chosen": "yes", "rejected": "no", **question(number)} for number in range(80, 84)]
        (folder / "heldout.jsonl").write_text("\n".join(map(json.dumps, heldout)))
        run_all(load([MINI], [*words, f"heldout.path={folder / 'heldout.jsonl'}"]), [].append)
    return folder / "run"


def rows_of(run: Path, name: str = "pairs") -> list[Row]:
    return list(map(row_from_dict, read_artifact(Folder.at(run / name)).records()))


def traced(run: Path, word: str) -> RowTrace:
    [row] = trace(str(run), word).rows
    return row


def text_of(run: Path, word: str) -> str:
    return "\n".join(map(str, passages(trace(str(run), word))))


@pytest.mark.slow
def test_a_line_of_the_source_leads_to_what_each_judge_said_and_to_the_models(run: Path) -> None:
    for row in (row for row in rows_of(run) if row.task == TRAINING and row.origin is None and row.pair):
        found = traced(run, row.id)
        line = int(str(found.place.place).rpartition(" ")[2])
        written = (run.parent / "pool.jsonl").read_text().splitlines()[line - 1]
        assert json.loads(written)["instruction"] == row.instruction
        assert trace(str(run), f"{run.parent / 'pool.jsonl'}:{line}").rows == [found]
        assert trace(str(run), f"pool.jsonl:{line}").rows == [found]
        assert (found.place.source, found.place.labelled_by) == ("synthetic", "construction")
        assert [step.name for step in found.steps] == ["pairs", "iteration_2/judged"]
        assert found.steps[0].row == row
        assert [step.weights.name for step in found.steps] == ["models.generator", "M_1"]
        assert found.steps[1].weights.path == str(run / "iteration_1" / "model")
        assert {"categorize", "judge_system"} <= found.steps[0].prompts.keys()


@pytest.mark.slow
def test_what_is_learned_is_what_the_training_sets_hold(run: Path) -> None:
    row_trace = cache(partial(traced, run))
    for iteration, judging in ((1, "pairs"), (2, "iteration_2/judged")):
        name = f"iteration_{iteration}/examples"
        learned = {record["id"]: record for record in read_artifact(Folder.at(run / name)).records()}
        reasons, repeated = set(), False
        for row in rows_of(run, judging):
            if row.task != TRAINING:
                continue
            found = next(each for each in row_trace(row.id).learned if each.name == name)
            ids = {each for each in learned if re.sub(r"^repeat/\d+/", "", each) == row.id}
            assert {example.id: example.completion for example in found.examples} == {
                each: learned[each]["completion"] for each in ids
            }
            if len(ids) > 1 and not repeated:  # one row is enough: each trace reads all artifacts
                assert all(row_trace(each) == row_trace(row.id) for each in ids)
            repeated |= len(ids) > 1
            assert (found.reason is None) == (row.id in learned)
            assert found.rules == (("the balance of labels, sources and kinds",) if found.reason == LEFT_OUT else ())
            assert found.reason is None or found.reason == (row.dropped or ("failed" if row.error else LEFT_OUT))
            assert (found.judged, found.model, found.state, found.steps) == (judging, f"iteration_{iteration}/model", "done", 1)
            reasons.add(found.reason)
        assert {None, "no_correct_judgment", LEFT_OUT} <= reasons
        assert repeated


@pytest.mark.parametrize(
    ("disagreement", "outcome", "earlier", "reason"),
    [
        ({"low": 0.5}, "+---", [], "too_hard"),
        ({"high": 0.5}, "+++-", [], "too_easy"),
        ({"high": 0.9}, "+---", ["++++"], LEFT_OUT),
        ({"high": 0.9, "draws": "last"}, "+---", ["----", "++++", ""], "too_easy"),
        ({"high": 0.9, "draws": "last"}, "++++", [], LEFT_OUT),
        (None, "+---", ["++++"], LEFT_OUT),
        (None, "----", [], "no_correct_judgment"),
        (None, "", [], "not_judged"),
    ],
)
def test_a_pair_far_from_the_boundary_is_named_by_the_samples_that_chose(
    disagreement: dict[str, Any] | None, outcome: str, earlier: list[str], reason: str
) -> None:
    key = {"objective": "sft", "seed": 0, "label_noise": 0.9, **({"disagreement": disagreement} if disagreement else {})}
    row = judged(0, outcome) if outcome else replace(judged(0, ""), dropped=None)
    assert not_learned(row, [judged(0, each) for each in earlier], [], key, JudgeConfig()) == reason
    assert list(rules_of(key)) == ["curate.label_noise", "the balance of labels, sources and kinds"]


def test_a_given_pair_is_found_by_its_id_its_id_in_the_file_and_its_line(run: Path) -> None:
    by_id = trace(str(run), "preferences/mine/p53").rows
    assert by_id == trace(str(run), "p53").rows == trace(str(run), f"{run.parent}/pairs.jsonl:5").rows
    [found] = by_id
    assert (found.place.source, found.place.labelled_by) == ("mine", "human")
    assert found.place.place == f"{run.parent / 'pairs.jsonl'}, line 5"
    assert found.steps[0].row.pair is not None
    tombstone = traced(run, "same")
    assert [learned.reason for learned in tombstone.learned] == ["same_answers"]
    assert tombstone.steps[0].cost is None or tombstone.steps[0].cost.share == 0


@pytest.mark.slow
def test_the_cost_of_all_rows_is_that_of_the_pass_but_for_its_waste(run: Path, tmp_path: Path) -> None:
    costly = broken_off(run, tmp_path / "run")
    rows = [row for row in rows_of(run) if row.task == TRAINING]
    needed = sum(row.output_tokens for row in rows_of(run))
    spent = {"engine_seconds": 50.0, "output_tokens": 2 * needed, "dollars": 8.0}
    read_artifact(Folder.at(costly / "pairs")).finish(ledger=spent)
    costs = [cost for row in rows if (cost := traced(costly, row.id).steps[0].cost)]
    measured = [cost for row in rows_of(run) if row.task != TRAINING and (cost := traced(costly, row.id).steps[0].cost)]
    assert sum(cost.share for cost in costs + measured) == pytest.approx(0.5)
    assert sum(cost.engine_seconds for cost in costs + measured) == pytest.approx(25)
    assert sum(cost.dollars or 0 for cost in costs + measured) == pytest.approx(4)


@pytest.mark.slow
def test_a_held_out_pair_has_every_judge_and_no_training_set(run: Path) -> None:
    found = traced(run, "h81")
    assert [step.name for step in found.steps] == ["pairs", "iteration_2/judged", "heldout_2"]
    assert [step.weights.name for step in found.steps] == ["models.generator", "M_1", "M_2"]
    assert not found.learned
    assert not found.absent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("p5", r"p5: no row of \S+ has this id; some that hold it: preferences/mine/p5\d, "),
        ("nobody", r"nobody: no row of \S+ has this id\. An id looks like \S+; FILE:LINE names a row"),
        ("", r"An id looks like"),
        ("(.*", r"An id looks like"),
        ("other.jsonl:3", r"An id looks like"),
        ("pairs.jsonl:" + "9" * 5000, r"An id looks like"),
        (
            "{}/pool.jsonl:99",
            r"this place gives no row of the run; it reads \S+pool.jsonl, \S+pairs.jsonl, and lines count from 1",
        ),
        ("{}/pool.jsonl:0", r"this place gives no row"),
        ("{}/asked:1", r"this place gives no row"),
    ],
)
def test_a_word_that_names_nothing_is_one_line_with_a_remedy(
    run: Path, word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NoArtifact, match=message):
        trace(str(run), word.format(run.parent))
    assert main(["trace", str(run), word.format(run.parent)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=st.text())
def test_no_word_is_too_odd(run: Path, word: str) -> None:
    with suppress(StjError):
        trace(str(run), word)


@pytest.mark.parametrize("place", ["nowhere", "pairs"])
def test_a_folder_without_a_run_is_refused(run: Path, place: str) -> None:
    with pytest.raises(NoArtifact, match="no run here"):
        trace(str(run / place), "p53")


def broken_off(run: Path, to: Path, *gone: str) -> Path:
    """A copy of a run without some of its files, as a kill leaves it."""
    shutil.copytree(run, to)
    for name in gone:
        for path in to.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return to


@pytest.mark.slow
def test_an_unfinished_run_shows_what_is_committed(run: Path, tmp_path: Path) -> None:
    part = broken_off(run, tmp_path / "part", "pairs/manifest.json", "iteration_1", "iteration_2", "heldout_2", "report.*")
    parts = sorted((part / "pairs/rows").glob("*.parquet"))
    for path in parts[1:]:
        path.unlink()
    committed = {row.id for row in rows_of(part)}
    for row in rows_of(run):
        if row.id in committed:
            found = traced(part, row.id)
            assert [(step.name, step.state) for step in found.steps] == [("pairs", "partial")]
            assert not found.learned
    missing = next(row for row in rows_of(run) if row.origin and row.id not in committed)
    assert missing.origin
    [found] = trace(str(part), missing.origin.place.replace(", line ", ":")).rows
    assert (found.id, found.steps) == (missing.id, [])
    assert "is not finished; the same `stj run` resumes it" in str(found.absent)
    assert "NOT THERE" in text_of(part, missing.origin.place.replace(", line ", ":"))
    with pytest.raises(NoArtifact, match="An id looks like"):
        trace(str(part), "nobody")


def test_a_training_set_that_is_not_finished_says_so(run: Path, tmp_path: Path) -> None:
    part = broken_off(run, tmp_path / "part", "iteration_2/examples/*", "iteration_2/model")
    started = json.loads((run / "iteration_2/examples/started.json").read_text())
    (part / "iteration_2/examples/started.json").write_text(json.dumps(started))
    shutil.copy(run / "iteration_2/examples/started.json", part / "iteration_2/examples/started.json")
    assert traced(part, "p53").learned[1].reason == NOT_FINISHED


def test_no_pass_and_no_source_is_needed(run: Path, tmp_path: Path) -> None:
    moved = broken_off(run, tmp_path / "moved" / "run")
    synthetic = next(row for row in rows_of(run) if row.origin is None and row.pair and row.task == TRAINING)
    config = json.loads((run / "config.json").read_text())
    (run.parent / "pool.jsonl").rename(tmp_path / "pool.jsonl")
    try:
        found = traced(moved, synthetic.id)
    finally:
        (tmp_path / "pool.jsonl").rename(run.parent / "pool.jsonl")
    assert found.place.place is None
    assert "no such file" in str(found.place.note)
    assert found.steps[1].weights.path == str(moved / "iteration_1" / "model")
    assert config["config"]["run_root"] == str(run)


def test_nothing_is_written(run: Path) -> None:
    def files() -> list[tuple[str, int, int]]:
        return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*"))

    before = files()
    os.chmod(run, 0o500)
    try:
        trace(str(run), "p53")
    finally:
        os.chmod(run, 0o700)
    assert files() == before


def words_of(run: Path) -> Sequence[str]:
    return [row.id for row in rows_of(run)]


@pytest.mark.slow
def test_the_text_fits_80_columns_and_steers_no_terminal(run: Path) -> None:
    long = {str(run), str(run.parent), "file"}
    for word in words_of(run):
        text = text_of(run, word)
        assert not {"\x1b", "\u202e", "\u2028"} & {*text}
        assert all(len(line) <= 80 or any(path in line for path in long) for line in text.splitlines())


def test_json_has_every_text_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(row for row in rows_of(run) if row.judgments and row.origin)
    assert main(["trace", str(run), row.id, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads(json.dumps(plain(trace(str(run), row.id))))
    [found] = record["rows"]
    assert row_from_dict(found["steps"][0]["row"]) == row
    assert found["source"]["place"] == f"{run.parent / 'pairs.jsonl'}, line {int(row.id.rpartition('p')[2]) - 48}"
