"""`stj calibrate`, and then a judge that abstains: from the shell, from Python and over HTTP, on scripted engines."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from stj import Judge
from stj.cli import main
from stj.config import EngineConfig, ModelConfig
from stj.config_loader import load_use
from stj.engine.scripted import ScriptedEngine
from stj.errors import ConfigError
from stj.generate import Engine, Sampling
from stj.judging import serve as server
from stj.judging.calibration import Calibration, Outcome, Outcomes
from stj.judging.calibration_file import calibration_text, read_abstention, read_calibration
from stj.judging.identity import judge_facts, model_facts
from stj.rows import Turn
from stj.use_config import VoteConfig
from tests.judging.mini_server import mini_server
from tests.judging.test_judge_file import SEED_MODEL, here, lines, pair, write
from tests.judging.test_serve import ROOT, app_of, ask, get, installed

__all__ = ["here"]


def labelled(*, right: int, wrong: int, unlabelled: int = 0, fail: int = 0) -> list[dict[str, Any]]:
    """Pairs on which `likes_long` is right, wrong, cannot be checked, or fails."""
    rows = [pair(f"right {i}", "xx", "x", winner="A") for i in range(right)]
    rows += [pair(f"wrong {i}", "xx", "x", winner="B") for i in range(wrong)]
    rows += [pair(f"open {i}", "x", "xx") for i in range(unlabelled)]
    return [*rows, *(pair(f"LONG {i}", "x", "xx", winner="B") for i in range(fail))]


@pytest.fixture
def calibrated(here: Path) -> Path:
    """The calibration of a judge that is right on 95 of 100 pairs."""
    facts = judge_facts(model_facts(ModelConfig(path=SEED_MODEL)), VoteConfig())
    outcomes = Outcomes({Outcome("A", "A", 1.0): 50, Outcome("B", "B", 1.0): 45, Outcome("B", "A", 1.0): 5})
    (here / "c.json").write_text(calibration_text(Calibration(model=SEED_MODEL, judge=facts, outcomes=outcomes)))
    return here / "c.json"


def test_a_judge_is_calibrated_on_the_pairs_with_a_label(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "labelled.jsonl", *labelled(right=9, wrong=1, unlabelled=3, fail=2))
    assert main(["calibrate", SEED_MODEL, file, "--out", "c.json"]) == 0
    printed = capsys.readouterr()
    assert "right 90.0% of the pairs with a verdict" in printed.out
    assert "stj: wrote c.json" in printed.err
    measured = read_calibration(here / "c.json")
    assert (measured.pairs, measured.ties, measured.failed, measured.accuracy) == (10, 0, 2, 0.9)


def test_votes_without_a_verdict_are_warned_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The judge writes [[A]] where Prometheus's prompt asks for [RESULT] A: its calibration would be of nothing but ties."""
    file = write(here / "labelled.jsonl", *labelled(right=3, wrong=1))
    assert main(["calibrate", SEED_MODEL, file, "vote.prompt=prometheus"]) == 1
    printed = capsys.readouterr()
    assert "no pair has a verdict" in printed.out
    assert "prompt prometheus, distinct: 8 of 8 judgments hold no verdict" in printed.err


def test_pairs_that_stj_judge_has_judged_are_not_judged_again(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stj.judging import file_pass

    file = write(here / "labelled.jsonl", *labelled(right=4, wrong=1))
    assert main(["judge", file, f"model={SEED_MODEL}"]) == 0

    def refuse(*_: object) -> None:
        raise AssertionError("a pass ran")

    monkeypatch.setattr(file_pass, "run_pass", refuse)
    assert main(["calibrate", SEED_MODEL, file]) == 0
    assert read_calibration(here / "calibration.json").pairs == 5


def test_pairs_without_labels_cannot_calibrate(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "open.jsonl", *labelled(right=0, wrong=0, unlabelled=4))
    assert main(["calibrate", SEED_MODEL, file]) == 2
    assert "no pair names its better response" in capsys.readouterr().err
    assert not (here / "calibration.json").exists()


@pytest.mark.parametrize(("out", "message"), [(".", "a directory; name a file"), ("no/c.json", "does not exist")])
def test_a_place_that_cannot_hold_the_file_is_refused_before_anything_is_judged(
    here: Path, out: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(here / "labelled.jsonl", *labelled(right=2, wrong=0))
    assert main(["calibrate", SEED_MODEL, file, "--out", out]) == 2
    assert message in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_the_shell_s_judge_abstains_and_says_how_often(
    calibrated: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        here / "new.jsonl", pair("sure", "xx", "x", id="s"), pair("tied", "x", "x", id="t"), pair("LONG", "x", "xx", id="l")
    )
    assert main(["judge", file, f"model={SEED_MODEL}", "--calibration", "c.json", "--risk", "0.1"]) == 0
    printed = capsys.readouterr()
    results = {row["id"]: (row["verdict"], row["abstained"]) for row in lines(printed.out)}
    assert results == {"s": ("A", False), "t": (None, True), "l": (None, True)}
    assert "answered 1 of 3 pairs, abstained on 2" in printed.err
    assert "at most 10% of the answers are wrong, 90% sure" in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--risk", "0.01"], "it has 100 pairs with a verdict, and at least 300 are needed, all of them right"),
        (["--risk", "0.05"], "errs too often on its 100 pairs with a verdict"),
        (["--risk", "0"], "risk=0.0: must be a share"),
        (["--risk", "nan"], "risk=nan: must be a share"),
        (["--risk", "0.1", "--confidence", "1"], "confidence=1.0: must be a probability"),
        ([], "no risk is given"),
        (["--risk", "0.1", "vote.votes=4"], "is of another judge, package://mini/seed_model: vote."),
        (["--risk", "0.1", "--prompts", "figure8", "arena"], "it is of one judge; give one model and one prompt"),
        (["--risk", "0.1", "--prompts", "arena"], 'vote.prompt: "figure8" -> "arena"'),
    ],
)
def test_what_a_calibration_cannot_promise_is_refused_before_anything_is_judged(
    calibrated: Path, here: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(here / "new.jsonl", pair("sure", "xx", "x"))
    assert main(["judge", file, f"model={SEED_MODEL}", "--calibration", "c.json", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert not (here / "runs/judge/new").exists()


def test_results_can_be_corrected_with_the_calibration_of_their_judge(
    calibrated: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [pair(f"q{i}", *(("xx", "x") if i < 6 else ("x", "xx"))) for i in range(8)]
    assert main(["judge", write(here / "systems.jsonl", *rows), f"model={SEED_MODEL}", "--out", "results.jsonl"]) == 0
    assert main(["winrate", "results.jsonl", "--calibration", "c.json", "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)
    assert (rate["wins"], rate["losses"], rate["rate"]) == (6, 2, 0.75)
    assert rate["corrected"]["rate"] == pytest.approx((0.75 + 0.9 - 1) / (1.0 + 0.9 - 1))
    assert (
        main(["judge", str(here / "systems.jsonl"), f"model={SEED_MODEL}", "vote.votes=2", "--overwrite", "--out", "r2.jsonl"])
        == 0
    )
    assert main(["winrate", "r2.jsonl", "--calibration", "c.json"]) == 2
    assert "judged by judge" in capsys.readouterr().err


def prefers(label: str, other: str) -> Any:
    """An engine's handler: `label` where it is asked about a sure pair, and position bias elsewhere."""

    def handler(messages: Sequence[Turn], sampling: Sampling) -> str:
        text = messages[-1].content
        return "[[A]]" if "unsure" in text or text.index(label) < text.index(other) else "[[B]]"

    return handler


def test_judge_abstains_in_python(calibrated: Path) -> None:
    async def make(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
        return ScriptedEngine(prefers("yes", "no"))

    with Judge(SEED_MODEL, calibration=calibrated, risk=0.1, make_engine=make) as judge:
        sure, unsure = judge.compare("sure", "yes", "no"), judge.compare("unsure", "yes", "no")
    assert (sure.verdict, sure.abstained) == ("A", False)
    assert (unsure.verdict, unsure.abstained, unsure.confidence) == (None, True, 0.5)
    with Judge(SEED_MODEL, make_engine=make) as judge:
        assert judge.compare("sure", "yes", "no").abstained is None
    with pytest.raises(ConfigError, match="is of another judge"):
        Judge(SEED_MODEL, votes=3, calibration=calibrated, risk=0.1, make_engine=make)
    with pytest.raises(ConfigError, match="no risk is given"):
        Judge(SEED_MODEL, calibration=calibrated, make_engine=make)


def test_the_server_abstains_and_refuses_a_request_for_other_votes(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_use([], [f"model={SEED_MODEL}"])
    abstention = read_abstention(calibrated, 0.1, 0.9, config.model, config.vote)
    app: FastAPI = app_of(prefers("yes", "no"))
    app.state.stj_abstention = server._abstention(server._abstention_text(abstention))
    body = {"instruction": "sure", "response_a": "yes", "response_b": "no"}
    status, answer = ask(app, body)
    assert (status, answer["verdict"], answer["abstained"]) == (200, "A", False)
    status, answer = ask(app, body | {"instruction": "unsure"})
    assert (status, answer["verdict"], answer["abstained"], answer["confidence"]) == (200, None, True, 0.5)
    assert ask(app, body | {"votes": 1, "prompt": "figure8"})[0] == 200
    for name, value in (("votes", 2), ("prompt", "arena"), ("aggregate", "distribution")):
        status, answer = ask(app, body | {name: value})
        assert status == 400
        assert answer["detail"] == f"this server's calibration is for its own settings of votes: leave out {name}"
    assert server._abstention(server._abstention_text(None)) is None


@pytest.mark.long
@installed
@pytest.mark.engine
def test_a_real_server_abstains(tmp_path: Path) -> None:
    """The calibration is made up; the server must apply it to what the mini seed says."""
    facts = judge_facts(model_facts(ModelConfig(path=SEED_MODEL)), VoteConfig(decoding=Sampling(max_tokens=128)))
    outcomes = Outcomes({Outcome("A", "A", 1.0): 60, Outcome("A", None, 0.5): 40})
    (tmp_path / "c.json").write_text(calibration_text(Calibration(model="seed", judge=facts, outcomes=outcomes)))
    options = ["--calibration", str(tmp_path / "c.json"), "--risk", "0.1"]
    rows = [json.loads(line) for line in (ROOT / "stj/mini/data/heldout.jsonl").read_text().splitlines()[:40]]
    with mini_server(tmp_path / "log", "key", SEED_MODEL, options) as address:
        bodies = [
            {"instruction": row["instruction"], "response_a": row["chosen"], "response_b": row["rejected"]} for row in rows
        ]
        answers = [json.loads(get(f"{address}/v1/judge", body, "key")[1]) for body in bodies]
        status, text = get(f"{address}/v1/judge", bodies[0] | {"votes": 4}, "key")
    assert {answer["abstained"] for answer in answers} == {True, False}
    assert all(answer["abstained"] == (answer["verdict"] is None) == (answer["confidence"] < 1) for answer in answers)
    assert (status, "leave out votes" in text) == (400, True)
