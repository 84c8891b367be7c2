"""A run with a panel, from pairs to the report: who is asked in which pass, what the opinions choose, and what is learned."""

import asyncio
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from stj.cli import main
from stj.config import Config, EngineConfig, ModelConfig
from stj.config_loader import load
from stj.engine.scripted import ScriptedEngine
from stj.generate import Engine, Sampling
from stj.loop.iterate import run_all
from stj.loop.kinds import TrainingPhase
from stj.loop.phases import Run
from stj.loop.report_tables import tables
from stj.loop.summary import RunSummary
from stj.passes import spec
from stj.passes.spec import Pass
from stj.rows import Example, Row, Turn, example_from_dict, row_from_dict
from stj.storage.artifacts import read_artifact
from stj.storage.folder import Folder
from stj.verdict import Label, other
from tests import ray_here
from tests.kill_driver import MINI, train

pytestmark = pytest.mark.slow
COUNT = 48
OTHER = "model: {path: package://mini/grading_seed, max_model_len: 1024}"
PANEL = f"judge.panel=[{{name: hot, temperature: 1.5}}, {{name: feedback, prompt: prometheus}}, {{name: second, {OTHER}}}]"
STARTS: list[str] = []
"""The models whose engines were started, in order."""


def says(number: int, who: str) -> bool:
    """Whether the judge, or a member of the panel, finds the label of a question's pair: in turns of 2, 3, 4 and 6 pairs."""
    turns = {"judge": 2, "hot": 3, "feedback": 4, "second": 6}
    return number % turns[who] > 0


def answer(who: str, messages: Sequence[Turn], sampling: Sampling) -> str:
    """What the weights say: by the question, the prompt and the temperature."""
    text = "\n".join(turn.content for turn in messages)
    number = int(re.search(r"Question (\d+):", text)[1])  # type: ignore[index]
    winner: Label = "A" if text.index("yes, of course") < text.index("never, by no means") else "B"
    if "[RESULT]" in text:
        return f"Opinion of feedback. [RESULT] {winner if says(number, 'feedback') else other(winner)}"
    who = "hot" if who == "judge" and sampling.temperature == 1.5 else who
    return f"Opinion of {who}. [[{winner if says(number, who) else other(winner)}]]"


def ignore(line: object) -> None:
    """Takes what a run says."""


async def make_engine(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    await asyncio.sleep(0)
    STARTS.append(model.path.rpartition("/")[2])
    return ScriptedEngine(partial(answer, "second" if "grading_seed" in model.path else "judge"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a panel on pairs of a file. Tests only read it."""
    folder = tmp_path_factory.mktemp("panel")
    pairs = [
        {
            "id": f"p{number}",
            "instruction": f"Question {number}: will it?",
            "chosen": "yes, of course",
            "rejected": "never, by no means",
        }
        for number in range(COUNT)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    with pytest.MonkeyPatch.context() as patch:
        ray_here.install(patch)
        patch.setattr(spec, "Pass", partial(Pass, make_engine=make_engine))
        patch.setattr(TrainingPhase, "run", train)
        run_all(config_of(folder, PANEL, "select.disagreement={draws: panel, low: 0.5, high: 0.8}"), ignore)
    return folder


def config_of(folder: Path, *words: str) -> Config:
    settings = [f"run_root={folder / 'run'}", "heldout.path=null", "iterations=1", "judge.samples=2", "engine.rows_in_flight=8"]
    settings += ["engine.max_replicas=1", "engine.min_replicas=1", "curate.label_noise=1"]
    settings += [f"preferences=[{{kind: pairs, name: mine, path: {folder / 'pairs.jsonl'}}}]"]
    return load([MINI], [*settings, *words])


def rows_at(folder: Path) -> list[Row]:
    return list(map(row_from_dict, read_artifact(Folder.at(folder)).records()))


def examples_at(folder: Path) -> list[Example]:
    return list(map(example_from_dict, read_artifact(Folder.at(folder)).records()))


def number_of(row_id: str) -> int:
    return int(row_id.rpartition("p")[2])


def share(number: int) -> float:
    """The share of the judge and the panel that finds the label; only the judge's first verdict counts."""
    return sum(says(number, who) for who in ("judge", "hot", "feedback", "second")) / 4


def test_members_judge_every_pair_in_the_pass_of_their_weights(root: Path) -> None:
    assert STARTS == ["seed_model", "grading_seed"]
    for place, members in (("pairs", ["hot", "feedback"]), ("opinions/second", ["second"])):
        rows = rows_at(root / "run" / place)
        assert len(rows) == COUNT
        for row in rows:
            assert [opinion.member for opinion in row.opinions] == members
            for opinion in row.opinions:
                assert opinion.judgment.correct == says(number_of(row.id), opinion.member)
                assert f"Opinion of {opinion.member}." in opinion.judgment.text
    orders = [
        {row.id: row.opinions[0].judgment.winner for row in rows_at(root / "run" / place)}
        for place in ("pairs", "opinions/second")
    ]
    assert orders[0] == orders[1]
    assert set(orders[0].values()) == {"A", "B"}


def test_pairs_are_chosen_by_all_opinions(root: Path) -> None:
    learned = {number_of(example.id) for example in examples_at(root / "run/iteration_1/examples")}
    assert learned
    assert learned <= {number for number in range(COUNT) if 0.5 <= share(number) <= 0.8 and says(number, "judge")}
    dropped = read_artifact(Folder.at(root / "run/iteration_1/examples")).manifest()["judged"]["dropped"]
    easy = sum(share(number) == 1 for number in range(COUNT))
    assert dropped["too_easy"] == easy > 0


def test_no_opinion_becomes_training_text(root: Path) -> None:
    for example in examples_at(root / "run/iteration_1/examples"):
        text = json.dumps([example.completion, example.rejected, [turn.content for turn in example.messages]])
        assert "Opinion of judge." in text
        assert not re.search(r"Opinion of (hot|feedback|second)|RESULT", text)


def test_labels_are_doubted_in_the_first_iteration_by_each_prompt_and_weights(root: Path) -> None:
    """The hot member is the judge at another temperature: no judge of its own."""
    noise = read_artifact(Folder.at(root / "run/iteration_1/examples")).manifest()["label_noise"]
    assert (noise["judges"], noise["pairs"], len(noise["accuracy"])) == (3, COUNT, 3)
    assert noise["accuracy"][0] == max(noise["accuracy"])  # other weights come first


def test_the_report_has_each_member_against_the_labels_and_each_two(root: Path) -> None:
    report = json.loads((root / "run/report.json").read_text())["iterations"][0]["panel"]
    accuracy = {member["name"]: (member["pairs"], member["accuracy"]) for member in report["members"]}
    for who, shown in (("judge", ""), ("hot", "hot"), ("feedback", "feedback"), ("second", "second")):
        assert accuracy[shown] == (COUNT, sum(says(number, who) for number in range(COUNT)) / COUNT)
    assert len(report["twos"]) == 6
    two = next(two for two in report["twos"] if (two["first"], two["second"]) == ("hot", "feedback"))
    same = sum(says(number, "hot") == says(number, "feedback") for number in range(COUNT)) / COUNT
    assert (two["pairs"], two["agree"]) == (COUNT, pytest.approx(same))
    assert -1 < two["kappa"] < same
    counted = Counter(share(number) for number in range(COUNT))
    all_right, all_wrong = counted[1.0], counted[0.0]
    assert (report["all_right"], report["all_wrong"], report["split"]) == (all_right, all_wrong, COUNT - all_right - all_wrong)
    summary = RunSummary.of(Run(config_of(root, PANEL, "select.disagreement={draws: panel, low: 0.5, high: 0.8}")))
    shown = "\n".join(map(str, tables(summary.judges)))
    assert f"all find the label of {all_right}" in " ".join(shown.split())
    assert "feedback" in (root / "run/report.html").read_text()


def test_a_member_that_comes_later_asks_for_its_opinions_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pairs and their judgments stay; what the opinions choose is chosen anew, and learned."""
    shutil.copytree(root, tmp_path / "later")
    ray_here.install(monkeypatch)
    monkeypatch.setattr(spec, "Pass", partial(Pass, make_engine=make_engine))
    monkeypatch.setattr(TrainingPhase, "run", train)
    before = STARTS.copy()
    cool = PANEL.replace("[", "[{name: cool, temperature: 0.2, samples: 2}, ")
    data = f"preferences=[{{kind: pairs, name: mine, path: {root / 'pairs.jsonl'}}}]"
    config = config_of(tmp_path / "later", cool, "select.disagreement={draws: panel, low: 0.5, high: 0.85}", data)
    run_all(config, ignore, overwrite=True)
    assert STARTS[len(before) :] == ["seed_model"]
    for place in ("pairs", "opinions/second"):
        assert (tmp_path / "later/run" / place / "manifest.json").read_text() == (
            root / "run" / place / "manifest.json"
        ).read_text()
    rows = rows_at(tmp_path / "later/run/opinions/cool")
    assert {len(row.opinions) for row in rows} == {2}
    assert not any(row.judgments for row in rows)
    learned = {number_of(example.id) for example in examples_at(tmp_path / "later/run/iteration_1/examples")}
    with_cool = {number: (4 * share(number) + says(number, "judge")) / 5 for number in range(COUNT)}  # the judge's words
    assert learned
    assert learned <= {number for number, right in with_cool.items() if 0.5 <= right <= 0.85 and says(number, "judge")}
    report = json.loads((tmp_path / "later/run/report.json").read_text())["iterations"][0]["panel"]
    assert [member["name"] for member in report["members"]] == ["", "cool", "hot", "feedback", "second"]
    easy = next(row.id for row in rows if with_cool[number_of(row.id)] == 1)
    assert main(["trace", str(tmp_path / "later/run"), easy]) == 0
    traced = capsys.readouterr().out
    assert "too_easy" in traced
    assert re.search(r"models.first_judge.*\n", traced)


def test_trace_and_show_say_who_said_what(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row_id = next(row.id for row in rows_at(root / "run/pairs") if number_of(row.id) == 12)  # nobody finds this label
    assert main(["trace", str(root / "run"), row_id]) == 0
    traced = capsys.readouterr().out
    for who in ("hot", "feedback", "second"):
        assert re.search(rf"opinion +{who}: 0, sampled, chosen as [AB]: verdict [AB], wrong", traced)
    assert "judge.panel[second].model" in traced
    assert traced.index("opinions/second (finished)") > traced.index("pairs (finished)")
    assert main(["show", str(root / "run/pairs"), "--where", f"id={row_id}"]) == 0
    assert "opinion 0 of feedback, chosen shown as" in capsys.readouterr().out
    easy = next(row.id for row in rows_at(root / "run/pairs") if share(number_of(row.id)) == 1)
    assert main(["trace", str(root / "run"), easy]) == 0
    assert "too_easy" in capsys.readouterr().out
