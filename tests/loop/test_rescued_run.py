"""A run that rescues pairs: one pass as before, no hint in what is learned, counts, keys, the plan, and what a reader sees."""

import asyncio
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

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
from stj.plan import plan
from stj.plan.context import judge_requests
from stj.prompts import JUDGE_SYSTEM, RESCUE_CHECK, RESCUE_HINT, prompt
from stj.rows import Example, Row, Turn, example_from_dict, row_from_dict
from stj.storage.artifacts import differences, read_artifact
from stj.storage.folder import Folder
from stj.verdict import other
from tests import ray_here
from tests.kill_driver import MINI, train
from tests.loop.test_examples import run_of
from tests.loop.test_mixing import key_of

COUNT = 60
RESCUE = "judge.rescue={samples: 2, checks: 2}"
OUTCOMES = ("right", "rescued", "told", "unconfirmed")


def outcome(number: int) -> str:
    """What becomes of a question's pair. It does not depend on the order of its answers, which is drawn."""
    return OUTCOMES[number // 2 % 4]


def answer(messages: Sequence[Turn], sampling: Sampling) -> str:
    """What the judge says: by the number in the question, and by what it is asked."""
    text = "\n".join(turn.content for turn in messages)
    number = int(re.search(r"Question (\d+):", text)[1])  # type: ignore[index]
    winner = "A" if "Assistant A’s Answer]\nyes" in text else "B"
    reasons = f"Question {number} wants a yes, and one answer is a no."
    if messages[-1].content == prompt(RESCUE_CHECK):
        return f"[[{winner if outcome(number) == 'rescued' else other(winner)}]]"
    if "[[Note to the Judge]]" in text:
        told = "I was told which one it is. " if outcome(number) == "told" else ""
        return f"{told}{reasons} [[{winner}]]"
    return f"{reasons} [[{winner if outcome(number) == 'right' else other(winner)}]]"


async def make_engine(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    await asyncio.sleep(0)
    return ScriptedEngine(answer)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on the same pairs of a file, one that rescues and one that drops. Tests only read them."""
    folder = tmp_path_factory.mktemp("rescued")
    pairs = [
        {"id": f"p{number}", "instruction": f"Question {number}: yes or no?", "chosen": "yes", "rejected": "no"}
        for number in range(COUNT)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    with pytest.MonkeyPatch.context() as patch:
        ray_here.install(patch)
        patch.setattr(spec, "Pass", partial(Pass, make_engine=make_engine))
        patch.setattr(TrainingPhase, "run", train)
        run_all(config_of(folder, "with", RESCUE), [].append)
        run_all(config_of(folder, "without"), [].append)
    return folder


def config_of(folder: Path, name: str, *words: str) -> Config:
    settings = [f"run_root={folder / name}", "heldout.path=null", "iterations=1", "judge.samples=3", "engine.rows_in_flight=8"]
    settings += ["engine.max_replicas=1", "engine.min_replicas=1"]
    settings += [f"preferences=[{{kind: pairs, name: mine, path: {folder / 'pairs.jsonl'}}}]"]
    return load([MINI], [*settings, *words])


def rows_of(run: Path) -> list[Row]:
    return list(map(row_from_dict, read_artifact(Folder.at(run / "pairs")).records()))


def examples_of(run: Path) -> list[Example]:
    return list(map(example_from_dict, read_artifact(Folder.at(run / "iteration_1/examples")).records()))


def phrases(text: str) -> set[tuple[str, ...]]:
    """All seven words in a row."""
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[start : start + 7]) for start in range(len(words) - 6)}


def number_of(row_id: str) -> int:
    return int(row_id.rpartition("p")[2])


@pytest.mark.slow
def test_rescued_pairs_are_learned_and_the_others_are_dropped(root: Path) -> None:
    for row in rows_of(root / "with"):
        expected = outcome(number_of(row.id))
        assert (row.kept is not None) == (expected == "right")
        assert (row.rescued is not None) == (expected == "rescued")
        assert row.dropped == (None if expected in ("right", "rescued") else "no_correct_judgment")
        tries = {"right": [], "rescued": [None], "told": ["says_it_was_told"] * 2, "unconfirmed": ["not_confirmed"] * 2}
        assert [rationale.rejected for rationale in row.rationales] == tries[expected]
    learned = {outcome(number_of(example.id)) for example in examples_of(root / "with")}
    assert learned == {"right", "rescued"}
    assert {outcome(number_of(example.id)) for example in examples_of(root / "without")} == {"right"}


def test_no_training_text_holds_the_hint_and_prompts_are_those_of_any_judgment(root: Path) -> None:
    """Not its words: no seven of them in a row. Without them a rescued example looks as if it had been sampled."""
    examples = examples_of(root / "with")
    assert any(outcome(number_of(example.id)) == "rescued" for example in examples)
    ordinary = {example.id: example for example in examples_of(root / "without")}
    [system] = {example.messages[0].content for example in ordinary.values()}
    for example in examples:
        texts = [*(turn.content for turn in example.messages), example.completion, example.thought, example.rejected or ""]
        learned = phrases(" ".join(texts))
        assert not learned & phrases(prompt(RESCUE_HINT))
        assert not learned & (phrases(prompt(RESCUE_CHECK)) - phrases(prompt(JUDGE_SYSTEM)))  # both name the verdicts alike
        assert [turn.role for turn in example.messages] == ["system", "user"]
        assert example.messages[0].content == system
        assert example.messages[1].content.endswith("[The End of Assistant B’s Answer]")
        assert example.completion.endswith(f"[[{example.winner}]]")
        assert example == ordinary.get(example.id, example)


def test_labels_stay_balanced_and_all_is_counted(root: Path) -> None:
    winners = Counter(example.winner for example in examples_of(root / "with"))
    assert winners["A"] == winners["B"] > 0
    manifest = read_artifact(Folder.at(root / "with/iteration_1/examples")).manifest()
    by_outcome = Counter(outcome(number) for number in range(COUNT))
    rejected = {"says_it_was_told": 2 * by_outcome["told"], "not_confirmed": 2 * by_outcome["unconfirmed"]}
    assert manifest["rescue"] == {
        "tried": COUNT - by_outcome["right"],
        "rescued": by_outcome["rescued"],
        "rationales": by_outcome["rescued"] + sum(rejected.values()),
        "rejected": rejected,
    }
    assert manifest["judged"]["kept"] == by_outcome["right"]  # what is accepted stays comparable with a run without rescue
    assert manifest["judged"]["dropped"] == {"no_correct_judgment": by_outcome["told"] + by_outcome["unconfirmed"]}
    without = read_artifact(Folder.at(root / "without/iteration_1/examples")).manifest()
    assert "rescue" not in without
    assert without["judged"]["kept"] == manifest["judged"]["kept"]


@pytest.mark.slow
def test_report_log_show_and_trace_say_what_was_rescued(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = re.compile(r"rescued 16 of 44\s+pairs without a right judgment \(72\s+rationales")
    report = json.loads((root / "with/report.json").read_text())["iterations"][0]
    assert (report["rescue"]["rescued"], report["rescue"]["tried"]) == (16, 44)
    assert words.search((root / "with/report.html").read_text())
    assert json.loads((root / "without/report.json").read_text())["iterations"][0]["rescue"] is None
    run = Run(config_of(root, "with", RESCUE))
    assert words.search(" ".join(table.note for table in tables(RunSummary.of(run).judges)))
    assert words.search(run.iterations[0].examples.summary())
    assert main(["show", str(root / "with/pairs"), "--limit", str(COUNT)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("RESCUED") == 16
    assert "confirmed by 2 of 2" in shown
    assert "not learned: says_it_was_told" in shown
    assert main(["trace", str(root / "with"), "p2"]) == 0
    traced = capsys.readouterr().out
    assert "RESCUED" in traced
    assert "rescued judgment" in traced
    assert "rescue_hint" in traced
    assert main(["trace", str(root / "with"), "p4"]) == 0
    assert "no_correct_judgment" in capsys.readouterr().out


def test_only_a_run_that_rescues_has_it_in_its_keys_and_its_passes_are_the_same(tmp_path: Path) -> None:
    plain, rescuing = run_of(tmp_path, "iterations=2"), run_of(tmp_path, "iterations=2", RESCUE)
    assert [phase.name for phase in plain.phases] == [phase.name for phase in rescuing.phases]
    keys = [key_of(plain, phase.name) for phase in plain.phases]
    assert "rescue" not in json.dumps(keys)
    assert {"rescue_hint", "rescue_check"} <= key_of(rescuing, "pairs")["prompts"].keys()  # type: ignore[attr-defined]
    for name in ("pairs", "iteration_1/examples", "iteration_2/judged"):
        assert differences(key_of(plain, name), key_of(rescuing, name))
    other_share = run_of(tmp_path, "iterations=2", "judge.rescue={samples: 2, checks: 2, agree: 0.9}")
    assert any("agree" in line for line in differences(key_of(rescuing, "pairs"), key_of(other_share, "pairs")))


def test_preference_training_learns_the_rescued_judgment_over_a_wrong_one(root: Path, tmp_path: Path) -> None:
    pairs = f"preferences=[{{kind: pairs, name: mine, path: {root / 'pairs.jsonl'}}}]"
    run = run_of(tmp_path, "train.objective=dpo", "judge.sampling=first_pair", pairs, RESCUE)
    phase = run.phases[0]
    phase.artifact.begin()
    judged = read_artifact(Folder.at(root / "with/pairs"))
    shutil.copytree(root / "with/pairs", tmp_path / "run/pairs", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.json"))
    phase.artifact.finish([*judged.parts()], pairs=COUNT)
    examples = run.iterations[0].examples
    examples.artifact.begin()
    examples.run()
    made = list(map(example_from_dict, examples.artifact.records()))
    assert {outcome(number_of(example.id)) for example in made} == {"rescued"}
    for example in made:
        assert example.winner is not None
        assert example.completion.endswith(f"[[{example.winner}]]")
        assert example.rejected is not None
        assert example.rejected.endswith(f"[[{other(example.winner)}]]")


def phase_of(*words: str) -> dict[str, Any]:
    config = load([MINI], ["judge.samples=2", *words])
    return {phase.name: phase for phase in plan(config).phases}


def test_the_plan_counts_the_tokens_and_examples_that_a_rescue_adds() -> None:
    plain, rescuing = phase_of(), phase_of("judge.rescue={samples: 1, checks: 3}")
    more = phase_of("judge.rescue={samples: 2, checks: 3}")
    for name in ("judgments 1", "judgments 2+"):
        added = rescuing[name].tokens_in - plain[name].tokens_in, rescuing[name].tokens_out - plain[name].tokens_out
        assert min(added) > 0
        assert more[name].tokens_in - plain[name].tokens_in == pytest.approx(2 * added[0])
        assert more[name].tokens_out - plain[name].tokens_out == pytest.approx(2 * added[1])
    kept = 1 - 0.4**2  # the mini world's share of right judgments is taken to be 0.6
    assert rescuing["fine-tuning"].steps * kept == pytest.approx(plain["fine-tuning"].steps)


def test_the_longest_prompts_of_a_rescue_are_checked_against_the_context() -> None:
    plain, rescuing = load([MINI]), load([MINI], [RESCUE])
    assert [request.what for request in judge_requests(plain)] == ["judgments"]
    longest = {request.what: request for request in judge_requests(rescuing)}
    assert list(longest) == ["judgments", "rationales", "checks of rationales"]
    more = sum(longest["checks of rationales"].texts.values()) - sum(longest["judgments"].texts.values())
    assert more == rescuing.judge.decoding.max_tokens
