"""`stj judge`: each result once, also after a kill; jurors are compared; a bad file is one line, and nothing starts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stj.cli import main
from stj.errors import PromptTooLong, RequestFailed
from stj.generate import Sampling
from stj.prompts.variants import FIGURE_8
from stj.rows import Turn
from tests.conftest import running
from tests.judging.in_process import in_this_process

ROOT = Path(__file__).parents[2]
SEED_MODEL = "package://mini/seed_model"
LIMIT = "vote.decoding.max_tokens=128"


def likes_long(messages: Sequence[Turn], sampling: Sampling) -> str:
    """Prefers the response with more x's, in the form that the prompt asks for; fails on FAIL and LONG."""
    text = messages[-1].content
    if "FAIL" in text:
        raise RequestFailed("the engine said no")
    if "LONG" in text:
        raise PromptTooLong("prompt of 9 tokens, context of 8 tokens")
    runs = [word for word in text.split() if set(word) == {"x"}]
    label = "A" if len(runs[0]) > len(runs[1]) else "B"
    return f"[[{label}>>{'B' if label == 'A' else 'A'}]]" if "[[A>>B]]" in messages[0].content else f"[[{label}]]"


def likes_first(messages: Sequence[Turn], sampling: Sampling) -> str:
    return "[[A]]"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Runs passes in this process on scripted engines, which commit each row alone."""
    in_this_process(monkeypatch, tmp_path, {SEED_MODEL: likes_long, str(ROOT / "stj/mini/seed_model"): likes_first})
    return tmp_path


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def pair(text: str, a: str, b: str, **more: str | None) -> dict[str, str | None]:
    return {"instruction": text, "response_a": a, "response_b": b, **more}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_row_is_a_line_of_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        here / "pairs.jsonl", pair("one", "xx", "x", id="a"), pair("two\u2028lines", "x", "xxx"), pair("LONG", "x", "xx")
    )
    assert main(["judge", file, f"model={SEED_MODEL}"]) == 0
    results = lines(capsys.readouterr().out)
    assert [(row["id"], row["verdict"], row["confidence"], row["reward"]) for row in results] == [
        ("a", "A", 1.0, 1.0),
        ("row-00000001", "B", 1.0, -1.0),
        ("row-00000002", None, 0.0, 0.0),
    ]
    assert {(row["model"], row["prompt"]) for row in results} == {(SEED_MODEL, "figure8")}
    assert results[0]["votes"] == [
        {"shown_first": "A", "verdict": "A", "text": "[[A]]"},
        {"shown_first": "B", "verdict": "A", "text": "[[B]]"},
    ]
    assert results[2]["error"] == "prompt_too_long: prompt of 9 tokens, context of 8 tokens"


@pytest.mark.slow
@pytest.mark.parametrize(("ties", "accuracy"), [("skip", 1.0), ("count", 0.75), ("half", 0.875)])
def test_a_file_of_other_fields_with_ties_and_subsets(
    here: Path, ties: str, accuracy: float, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge is right on three pairs, and has a verdict on the tie. What it prints is scored as it is."""
    monkeypatch.chdir(here)
    rows = [
        {"q": f"which {number}", "l": "x" * (number + 2), "r": "x", "better": "tie" if number == 3 else "l", "part": part}
        for number, part in enumerate(("one", "one", "two", "two"))
    ]
    file = write(here / "pairs.jsonl", *rows)
    names = "fields={instruction: q, response_a: l, response_b: r, winner: better, subset: part}"
    assert main(["judge", file, f"model={SEED_MODEL}", names, f"ties={ties}", "--out", "results.jsonl"]) == 0
    results = lines((here / "results.jsonl").read_text())
    assert [row.get("winner") for row in results] == ["A", "A", "A", None if ties == "skip" else "tie"]
    assert [row.get("outcome") for row in results] == ["right"] * 3 + (["wrong"] if ties == "count" else [None])
    compared = json.loads((here / "runs/judge/pairs/agreement.json").read_text())
    assert compared["accuracy"]["figure8"]["accuracy"] == accuracy
    assert {name: part["figure8"]["accuracy"] for name, part in compared["subsets"].items()}["one"] == 1.0
    assert "figure8 on one: accuracy 100.0%" in capsys.readouterr().err
    if ties != "skip":
        assert main(["score", "results.jsonl", "--benchmark", "pairs"]) == 0
        assert "human_tie 1" in capsys.readouterr().out
    assert main(["judge", file, f"model={SEED_MODEL}"]) == 2
    assert "no field 'instruction'; the fields there are 'q', 'l', 'r', 'better', 'part'" in capsys.readouterr().err


@pytest.mark.slow
def test_an_edited_file_is_judged_only_where_it_changed(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = (pair(name, "xx", "x", id=name) for name in ("one", "two", "three"))
    words = ["judge", str(here / "pairs.jsonl"), f"model={SEED_MODEL}"]
    write(here / "pairs.jsonl", first, second, third)
    assert main(words) == 0
    capsys.readouterr()
    write(
        here / "pairs.jsonl", pair("new", "x", "xx", id="new"), {**third, "winner": "A"}, {**second, "response_b": "xxx"}, first
    )
    assert main(words) == 0
    verdicts = [(row["id"], row["verdict"], row.get("winner")) for row in lines(capsys.readouterr().out)]
    assert sorted(verdicts) == [("new", "B", None), ("one", "A", None), ("three", "A", "A"), ("two", "B", None)]
    assert "pairs.jsonl has changed: 2 finished rows are kept, 1 is gone or changed, and 2 are to be asked" in caplog.text


@pytest.mark.slow
def test_another_file_of_the_same_name_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["judge", str(here / "pairs.jsonl"), f"model={SEED_MODEL}"]
    write(here / "pairs.jsonl", pair("one", "xx", "x"), pair("two", "xx", "x"))
    assert main(words) == 0
    write(here / "pairs.jsonl", pair("another", "xx", "x"))
    assert main(words) == 1
    assert "pairs.jsonl has 0 of 2 judged rows as they were. Name another run_root, or pass" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    write(here / "pairs.jsonl", pair("another", "xx", "x"), pair("more", "xx", "x"))
    capsys.readouterr()
    assert main([*words, LIMIT]) == 1
    assert "was made with other settings: file: " in capsys.readouterr().err


def test_votes_in_another_format_than_the_prompt_s_are_warned_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The judge writes [[A]] where Prometheus's prompt asks for [RESULT] A; what it writes for Figure 8 is read."""
    file = write(here / "pairs.jsonl", pair("one", "xx", "x", id="a"), pair("two", "x", "xxx"))
    assert main(["judge", file, f"model={SEED_MODEL}", "--prompts", "figure8", "prometheus"]) == 0
    [warning] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "prompt prometheus, distinct: 4 of 4 judgments hold no verdict in the format prometheus" in warning
    assert "4 of the 4 looked at seem to be in the format figure8" in warning
    assert warning.endswith("give the judge its own prompt, vote.prompt=FILE vote.prompt_format=figure8")


def test_an_interrupted_judging_resumes_and_reports_every_result_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [pair("one", "xx", "x"), pair("two FAIL", "x", "xx"), pair("three STOP", "x", "xx"), pair("four", "x", "xx")]
    words = ["judge", write(here / "pairs.jsonl", *rows), f"model={SEED_MODEL}"]
    assert main(words) == 130
    assert [row["id"] for row in lines(capsys.readouterr().out)] == ["row-00000000"]
    assert main([*words, "--out", str(here / "out.jsonl")]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    out = (here / "out.jsonl").read_text()
    assert sorted(row["id"] for row in lines(out)) == [f"row-{i:08d}" for i in range(4)]
    assert [row["error"] for row in lines(out) if row["error"]] == ["the engine said no"]
    assert main(words) == 0  # All is done: reported again, not judged again.
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(out.splitlines())


def test_a_command_that_cannot_run_does_not_empty_a_file_of_results(here: Path) -> None:
    (here / "out.jsonl").write_text("kept")
    assert main(["judge", "nowhere.jsonl", f"model={SEED_MODEL}", "--out", "out.jsonl"]) == 2
    assert (here / "out.jsonl").read_text() == "kept"


def test_a_ray_job_that_would_lose_its_results_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert main(["judge", write(here / "pairs.jsonl", pair("one", "xx", "x")), f"model={SEED_MODEL}"]) == 2
    assert "run_root=runs/judge/pairs is relative" in capsys.readouterr().err


@pytest.mark.slow
def test_votes_that_stop_are_counted_for_each_result_and_in_all(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        here / "pairs.jsonl", pair("one", "xx", "x"), pair("two", "x", "xx") | {"winner": "B"}, pair("FAIL", "xx", "x")
    )
    words = ["judge", file, f"model={SEED_MODEL}", "engine.max_failed_fraction=1", "vote.votes=32"]
    for rule, asked in (("all", 64), ("exact", 34), ("unlikely", 10)):
        assert main([*words, f"vote.stop={rule}", f"run_root={here}/{rule}"]) == 0
        printed = capsys.readouterr()
        judged = [result for result in map(json.loads, printed.out.splitlines()) if not result["error"]]
        assert [(len(result["votes"]), result["most_votes"], result["confidence"]) for result in judged] == [(asked, 64, 1)] * 2
        summary = json.loads((here / rule / "agreement.json").read_text())
        assert summary["votes"] == {"asked": 2 * asked, "most": 128}
        assert (f"{2 * asked} votes asked of 128" in printed.err) == (rule != "all")


def test_other_settings_are_refused_and_overwritten_on_request(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["judge", write(here / "pairs.jsonl", pair("one", "xx", "x")), f"model={SEED_MODEL}"]
    assert main(words) == 0
    assert main([*words, "vote.votes=2"]) == 1
    assert 'was made with other settings: vote.stop: nothing -> "exact"; vote.votes: 1 -> 2' in capsys.readouterr().err
    assert main([*words, "--overwrite", "vote.votes=2"]) == 0
    assert len(lines(capsys.readouterr().out)[0]["votes"]) == 4


def test_overwriting_removes_only_the_judged_rows(here: Path) -> None:
    """The results lie in the folder of the pairs."""
    words = ["judge", write(here / "pairs.jsonl", pair("one", "xx", "x")), f"model={SEED_MODEL}", "run_root=."]
    assert main(words) == 0
    (here / "notes.txt").touch()
    assert main([*words, "--overwrite", "vote.votes=2"]) == 0
    assert {"pairs.jsonl", "notes.txt", "driver.lock", "agreement.json", "judge_1"} <= {path.name for path in here.iterdir()}


@pytest.mark.slow
def test_prompts_are_compared_and_scored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [pair(f"q{i}", "xx", "x", winner="B" if i < 2 else "A") for i in range(8)] + [pair("open", "x", "xx", winner=None)]
    file = write(here / "pairs.jsonl", *rows)
    assert main(["judge", file, f"model={SEED_MODEL}", "--prompts", "figure8", "arena", "prometheus"]) == 1
    printed = capsys.readouterr()
    assert "prompt prometheus: not one judgment holds a verdict: the model may be damaged, or asked in words" in printed.err
    assert len(printed.out.splitlines()) == 27
    agreement = json.loads((here / "runs/judge/pairs/agreement.json").read_text())
    assert agreement["jurors"] == ["figure8", "arena", "prometheus"]
    assert agreement["accuracy"]["figure8"]["accuracy"] == agreement["accuracy"]["arena"]["accuracy"] == 0.75
    unread = agreement["accuracy"]["prometheus"]  # The judge did not answer in the form of this prompt.
    assert (unread["accuracy"], unread["right_verdicts"], unread["undecided"]) == (0.0, 0.0, 1.0)
    assert agreement["spread"] == 0.75
    assert agreement["kappa"]["figure8 and arena"] == 1.0
    assert agreement["majorities"]["row-00000008"] == "B"
    assert "spread over 3 jurors: 75.0 points" in printed.err


def own_prompt(file: Path) -> str:
    """Figure 8's words in a file."""
    asked = FIGURE_8.plain
    file.write_text(json.dumps({"system": asked.system, "user": asked.user}))
    return str(file)


@pytest.mark.slow
def test_prompts_in_files_are_asked_in_their_own_words(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file may lie elsewhere at the second start; another format of its verdicts is another prompt."""
    file = write(here / "pairs.jsonl", pair("one", "xx", "x"), pair("two", "x", "xx"))
    words = ["judge", file, f"model={SEED_MODEL}", "--prompts", "arena"]
    assert main([*words, own_prompt(here / "a.json"), "vote.prompt_format=figure8"]) == 0
    printed = lines(capsys.readouterr().out)
    names = {row["prompt"] for row in printed}
    assert [row["verdict"] for row in printed] == ["A", "A", "B", "B"]
    assert names == {"arena", *(name for name in names if name.startswith("file-"))}
    assert len(names) == 2
    assert {(row["prompt"], row.get("format")) for row in printed} == {("arena", None), (max(names), "figure8")}
    assert main([*words, own_prompt(here / "b.json"), "vote.prompt_format=figure8"]) == 0
    assert lines(capsys.readouterr().out) == printed
    assert main([*words, str(here / "b.json"), "vote.prompt_format=boxed"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    for wrong, message in (
        (["--prompts", str(here / "b.json")], "name the format of its verdicts with vote.prompt_format"),
        (["vote.prompt_format=boxed"], "vote.prompt=figure8 has its own format"),
        (["--prompts", "arena", "vote.prompt_format=boxed"], "vote.prompt=arena has its own format"),
        (["--prompts", "arnea"], "did you mean 'arena'?"),
    ):
        assert main(["judge", file, f"model={SEED_MODEL}", *wrong]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line


def test_a_jury_of_models_is_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "pairs.jsonl", pair("one", "xx", "x"), pair("two", "x", "xxx"))
    assert main(["judge", file, "--jury", SEED_MODEL, str(ROOT / "stj/mini/seed_model"), LIMIT]) == 0
    printed = capsys.readouterr()
    assert {row["model"] for row in lines(printed.out)} == {SEED_MODEL, str(ROOT / "stj/mini/seed_model")}
    agreement = json.loads((here / "runs/judge/pairs/agreement.json").read_text())
    assert agreement["jurors"] == [SEED_MODEL, str(ROOT / "stj/mini/seed_model")]
    assert agreement["majorities"] == {
        "row-00000000": None,
        "row-00000001": None,
    }  # The second judge prefers the first response: ties.
    assert (here / "runs/judge/pairs/judge_2/manifest.json").exists()
    assert "2 of 2 differ: 0 opposed, 2 one abstains" in printed.err
    nothing = "none (nothing to agree on), on the 0 of 2 pairs with two verdicts or more"
    assert f"Krippendorff's alpha of 2 jurors: {nothing}" in printed.err


@pytest.mark.slow
def test_results_are_scored_and_compared_as_they_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file names better responses in several ways; ids repeat in subsets; one pair fails, of one nothing is known."""
    asked = {"prompt": "\u6570", "chosen": "xx", "rejected": "x", "id": "1"}
    rows = [
        asked,
        {**asked, "subset": "\u6570\u5b66"},
        pair("two", "x", "xx", id="2", label="B", winner="A"),
        pair("three", "xx", "x", id="3", chosen="x", rejected="xx"),
        pair("FAIL", "x", "xx", id="4", winner="A"),
        pair("five", "x", "xx", id="5"),
    ]
    file = write(here / "\u6570\u636e.JSONL", *rows)
    out = {prompt: str(here / f"{prompt}.jsonl") for prompt in ("figure8", "arena")}
    for prompt, results in out.items():
        words = [f"model={SEED_MODEL}", f"vote.prompt={prompt}", f"run_root={here / prompt}", "--out", results]
        assert main(["judge", file, *words]) == 0
    agreement = json.loads((here / "figure8/agreement.json").read_text())
    assert agreement["accuracy"]["figure8"]["accuracy"] == pytest.approx(3 / 5)
    judged = lines(Path(out["figure8"]).read_text())
    assert [(row["id"], row.get("subset"), row.get("winner")) for row in judged[:3]] == [
        *(("1", None, "A"), ("1", "\u6570\u5b66", "A"), ("2", None, "B"))
    ]
    assert "\u6570\u5b66" in Path(out["figure8"]).read_text()
    capsys.readouterr()
    for results in out.values():
        assert main(["score", results, "--benchmark", "pairs", "--parser", "strict", "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)["strict"]
        assert (scores["judged"], scores["unjudged_by_reason"]) == (4, {"failed": 1, "no winner": 1})
        assert scores["groups"]["overall"]["accuracy"] == pytest.approx(3 / 4)
    assert main(["compare", *out.values(), "--json"]) == 0
    [compared] = json.loads(capsys.readouterr().out)
    assert (compared["benchmark"], compared["examples"], compared["difference"]) == ("pairs", 4, 0.0)
    other = write(here / "other.jsonl", *({**row, "winner": "B"} for row in judged if "winner" in row))
    assert main(["compare", out["figure8"], other]) == 2
    assert "another winner" in capsys.readouterr().err


GOOD = json.dumps(pair("one", "xx", "x", id="a"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no pairs; each row has instruction, response_a and response_b"),
        (f"{GOOD}\n" + '{"instruction": "x", "response_a": "y"}\n', "line 2: no field 'response_b'"),
        (f"{GOOD}\n" + '{"instruction": "x"', "line 2, column"),
        (f"{GOOD}\n{GOOD}\n", "line 2: field 'id' is 'a', which an earlier row has too"),
        (json.dumps(pair("x", "a", 3)), "line 1: field 'response_b' is int 3; it must be a string"),  # type: ignore[arg-type]
        (json.dumps(pair("x", "a", "b", winner="both")), "line 1: field 'winner' is str 'both'; it must be A or B"),
    ],
)
def test_a_bad_file_is_one_line_before_anything_starts(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text(text, encoding="utf-8")
    assert main(["judge", "bad.jsonl", f"model={SEED_MODEL}"]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "bad.jsonl" in printed.err
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.jsonl"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["judge", "pairs.jsonl"], "model.path is empty; name a model, as in model="),
        (["judge", "pairs.jsonl", "model=/nowhere"], "model /nowhere: the directory does not exist"),
        (["judge", "pears.jsonl", f"model={SEED_MODEL}"], "FILE=pears.jsonl: no such file or directory"),
        (["judge", "pairs.jsonl", f"model={SEED_MODEL}", "vote.prompt=oracle"], "vote.prompt"),
        (
            ["judge", "pairs.jsonl", f"model={SEED_MODEL}", "--out", "nowhere/out.jsonl"],
            "--out nowhere/out.jsonl: the directory ",
        ),
        (["judge", "pairs.jsonl", f"model={SEED_MODEL}", "votes=3"], "unknown key 'votes'"),
        (["judge", "pairs.jsonl", f"model={SEED_MODEL}", "model.tensor_parallel_size=7"], "tensor_parallel_size=7 GPUs cannot"),
    ],
)
def test_bad_words_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pairs.jsonl", pair("one", "xx", "x"))
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["judge", "data/pairs.jsonl", f"model={SEED_MODEL}", "--out", "data/../data/pairs.jsonl"],
        ["judge", "data", f"model={SEED_MODEL}", "--out", "data/results.jsonl"],
        ["judge", "data/pairs.jsonl", f"model={SEED_MODEL}", "--out", "link.jsonl"],
        ["calibrate", SEED_MODEL, "data/pairs.jsonl", "--out", "data/pairs.jsonl"],
        ["view", "data/pairs.jsonl", "--out", "data/pairs.jsonl"],
        ["view", "data/results.jsonl", "--pairs", "data/pairs.jsonl", "--out", "data/pairs.jsonl"],
    ],
)
def test_what_is_read_is_never_written_over(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    file = Path(write(tmp_path / "data" / "pairs.jsonl", {**pair("one", "xx", "x"), "winner": "A"}))
    before = file.read_bytes()
    Path("link.jsonl").symlink_to(file)
    assert main(words) == 2
    assert f"--out {words[-1]}: the command reads data" in capsys.readouterr().err
    assert (file.read_bytes(), list(file.parent.iterdir())) == (before, [file])


@pytest.fixture
def heldout(tmp_path: Path) -> str:
    """Thirty held-out pairs of the mini world; the better response is A and B in turn."""
    records = [json.loads(line) for line in (ROOT / "stj/mini/data/heldout.jsonl").read_text().splitlines()[:30]]
    rows = []
    for number, record in enumerate(records):
        good, bad = record["chosen"], record["rejected"]
        first, second, winner = (good, bad, "A") if number % 2 else (bad, good, "B")
        rows.append(pair(record["instruction"], first, second, id=record["id"], winner=winner))
    return write(tmp_path / "heldout.jsonl", *rows)


@pytest.mark.engine
@pytest.mark.long
def test_a_killed_judging_resumes_on_the_real_engine(heldout: str, tmp_path: Path) -> None:
    """kill -9 after the first committed rows; the second start judges only the other rows.

    Every pair is asked in Figure 8's words twice, once from a file: the actors have its words, and give the same judgments. In
    float32, because in bf16 a greedy text may depend on what is batched beside it.
    """
    words = [sys.executable, "-m", "stj.cli", "judge", heldout, f"model={SEED_MODEL}", LIMIT, "engine.commit_interval_s=0"]
    words += ["model.dtype=float32"]
    words += [
        "engine.rows_in_flight=8",
        "--prompts",
        "figure8",
        own_prompt(tmp_path / "own.json"),
        "vote.prompt_format=figure8",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with running(words, cwd=tmp_path, env=environment, **streams) as first:
        assert first.stdout is not None
        first_lines = [first.stdout.readline() for _ in range(5)]
    folder = tmp_path / "runs/judge/heldout/judge_1"
    committed = len(list((folder / "rows").glob("part-*.parquet")))
    assert 1 <= committed < 60
    assert not (folder / "manifest.json").exists()
    time.sleep(1)
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = lines(done.stdout)
    assert len(results) == len({(row["id"], row["prompt"]) for row in results}) == 60
    by_prompt = [
        {row["id"]: row["votes"] for row in results if row["prompt"] == name} for name in {r["prompt"] for r in results}
    ]
    assert by_prompt[0] == by_prompt[1]
    assert set(first_lines) & set(done.stdout.splitlines(keepends=True))  # Committed results are reported again unchanged.
    assert json.loads((folder / "manifest.json").read_text())["rows"] == 60
    assert json.loads((folder.parent / "agreement.json").read_text())["accuracy"]["figure8"]["accuracy"] > 0.4
    assert "figure8: accuracy " in done.stderr
