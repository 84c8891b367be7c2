"""`stj eval`: the requests for each benchmark, the files that it writes, and a run on the real engine."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest

from stj.cli import main
from stj.config import Config, HeldoutConfig, ModelConfig
from stj.engine.scripted import ScriptedEngine
from stj.errors import PromptTooLong, RequestFailed
from stj.evals import evaluate as evaluating
from stj.evals.benchmarks.evaluation import read_scores
from stj.evals.benchmarks.refs import BenchmarkRef, benchmark_ref
from stj.evals.evaluate import judge_benchmark, read_benchmarks
from stj.generate import Sampling
from stj.prompts.variants import VARIANTS
from stj.rows import Candidates, Row, Turn, row_from_dict, rows_to_table
from stj.stages.runner import run_stages
from stj.stages.stopping import Stopping
from stj.storage.artifacts import Artifact, read_artifact
from stj.storage.folder import Folder
from tests.conftest import make_row

ROOT = Path(__file__).parents[2]
MINI = str(ROOT / "conf" / "mini.yaml")
PAIRS = "pairs:package://mini/data/heldout.jsonl"


def says_the_longer_word(messages: Sequence[Turn], sampling: Sampling) -> str:
    """A judge that prefers the longer answer under any label, and rates by length."""
    text = messages[-1].content
    if "FAIL" in text:
        raise RequestFailed("the engine said no")
    if "LONG" in text:
        raise PromptTooLong("prompt of 9 tokens, context of 8 tokens")
    if "[The Start of the Assistant" in text:
        return str(min(10, len(between(text, "the Assistant"))))
    answers = {label: between(text, f"Assistant {label}") for label in "ABCD" if f"Start of Assistant {label}" in text}
    longest = max(answers, key=lambda label: len(answers[label]))
    if "BARE" in text:
        return longest
    return f"[[{longest}>>{'B' if longest == 'A' else 'A'}]]" if "[[A>>B]]" in messages[0].content else f"[[{longest}]]"


def between(text: str, who: str) -> str:
    match = re.search(rf"The Start of {who}[’']s Answer\|?[\]>]\n(.*)\n[\[<]\|?The End of {who}", text, re.DOTALL)
    assert match
    return match[1]


def judge(row: Row, votes: int = 1) -> tuple[Row, list[Sampling]]:
    engine = ScriptedEngine(says_the_longer_word)
    judged = asyncio.run(judge_benchmark(row, engine.generate, HeldoutConfig(), votes))
    return judged, [sampling for _, sampling in engine.requests]


def rows_of(tmp_path: Path, stem: str, *records: dict[str, Any], name: str | None = None) -> list[Row]:
    file, name = tmp_path / f"{stem}.jsonl", name or stem
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(benchmark_ref(f"{name}:{file}").rows(None))


@pytest.fixture
def pair(tmp_path: Path) -> Row:
    [row] = rows_of(tmp_path, "pairs", {"instruction": "?", "response_a": "short", "response_b": "much longer", "winner": "B"})
    return row


def test_a_pair_is_judged_greedily_in_both_orders(pair: Row) -> None:
    judged, asked = judge(pair)
    assert [(j.purpose, j.winner, j.verdict, j.index) for j in judged.judgments] == [
        ("greedy", "A", "A", 0),
        ("greedy", "B", "B", 0),
    ]
    assert {sampling.temperature for sampling in asked} == {0.0}


def test_votes_are_sampled_as_the_paper_does(pair: Row) -> None:
    judged, asked = judge(pair, votes=32)
    assert len(judged.judgments) == 64
    assert {(sampling.temperature, sampling.top_p) for sampling in asked} == {(0.7, 0.9)}


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_votes_that_stop_give_the_scores_of_all_votes_and_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "package://mini/seed_model", PAIRS, MINI, "heldout.limit=5", f"run_root={tmp_path}/run", "votes=32"]
    records = {}
    for rule, asked in (("all", 320), ("exact", 170), ("unlikely", 80)):
        assert main([*words, f"vote_stop={rule}", "--json"]) == 0
        records[rule] = json.loads(capsys.readouterr().out)
        assert records[rule]["scores"]["pairs"].pop("votes") == {"asked": asked, "most": 320}
    assert records["all"]["scores"] == records["exact"]["scores"] == records["unlikely"]["scores"]
    assert (records["unlikely"]["stop"], records["unlikely"]["stop_error"]) == ("unlikely", 0.02)
    assert len(list((tmp_path / "run" / "evals").iterdir())) == 3  # A rule decides which judgments there are.
    assert main([*words, "vote_stop=unlikely"]) == 0
    assert "pairs: 80 votes asked of 320, 75% saved" in capsys.readouterr().out


def test_helpsteer2_takes_three_samples(tmp_path: Path) -> None:
    scores = {"correctness": 1, "coherence": 1, "complexity": 1, "verbosity": 1}
    records = [{"prompt": "?", "response": text, "helpfulness": place, **scores} for place, text in enumerate(("bad", "good"))]
    [row] = rows_of(tmp_path, "helpsteer2", *records)
    judged, asked = judge(row)
    assert [(j.winner, j.index) for j in judged.judgments] == [(w, i) for i in range(3) for w in "AB"]
    assert {sampling.temperature for sampling in asked} == {0.7}


def test_four_answers_are_judged_with_the_good_one_in_each_place_and_ties_are_rated(tmp_path: Path) -> None:
    four = {"id": "1", "prompt": "?", "chosen": ["the longest"], "rejected": ["a", "bb", "ccc"], "subset": "Math"}
    tied = {"id": "tied:0", "prompt": "?", "chosen": ["12345678", "1234567"], "rejected": ["1"], "subset": "Ties"}
    best, rated = rows_of(tmp_path, "rewardbench2", four, tied)
    judged, _ = judge(best)
    assert [(j.winner, j.verdict) for j in judged.judgments] == [(label, label) for label in "ABCD"]
    assert [(j.purpose, j.verdict) for j in judge(rated)[0].judgments] == [("rating", "8"), ("rating", "7"), ("rating", "1")]
    [alone] = rows_of(tmp_path, "rewardbench2-ratings", four)
    assert [j.verdict for j in judge(alone)[0].judgments] == ["10", "1", "2", "3"]
    assert row_from_dict(rows_to_table([judged]).to_pylist()[0]) == judged


def test_the_answers_go_round() -> None:
    from stj.stages.judge import best_of_four_messages

    orders = best_of_four_messages("?", ["w", "x", "y", "z"])
    shown = {
        label: [between(messages[1].content, f"Assistant {name}") for name in "ABCD"] for label, messages in orders.items()
    }
    assert shown == {"A": list("wxyz"), "B": list("zwxy"), "C": list("yzwx"), "D": list("xyzw")}


def test_an_answer_is_shown_unchanged() -> None:
    row = make_row(task="rewardbench2", subset="Ties", candidates=Candidates(answers=("{instruction} [[A]]", "b"), good=1))
    engine = ScriptedEngine(lambda messages, sampling: "5")
    asyncio.run(judge_benchmark(row, engine.generate, HeldoutConfig(), 1))
    assert "{instruction} [[A]]" in engine.requests[0][0][0].content


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs passes on a scripted engine in this process."""

    def run(artifact: Artifact, model: ModelConfig, benchmarks: Sequence[BenchmarkRef], config: Config) -> None:
        engine = ScriptedEngine(says_the_longer_word)
        rows = list(read_benchmarks(benchmarks, config))
        settings = {"heldout": config.heldout, "votes": config.votes, "prompt": config.prompt, "parser": config.judge.parser}
        stopping = Stopping(rule=config.vote_stop, error=config.vote_stop_error)
        stage = partial(judge_benchmark, **settings, stopping=stopping)
        judged = [asyncio.run(run_stages(row, [stage], engine.generate)) for row in rows]
        artifact.write_part("part", rows_to_table(judged))
        artifact.finish()

    monkeypatch.setattr(evaluating, "_judge", run)


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_several_benchmarks_are_one_artifact_with_every_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        {"pair_id": str(i), "source": "livecodebench", "question": "?", "response_A": "a", "response_B": "bb", "label": "B>A"}
        for i in range(5)
    ]
    rows_of(tmp_path, "judgebench", *records)
    words = ["eval", "package://mini/seed_model", PAIRS, f"judgebench:{tmp_path / 'judgebench.jsonl'}", MINI]
    settings = ["heldout.limit=20", f"run_root={tmp_path}/run"]
    assert main([*words, *settings, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    overall = record["scores"]["judgebench"]["strict"]["groups"]["overall"]
    assert (overall["examples"], overall["accuracy"], overall["official"], overall["longest"]) == (5, 1.0, 1.0, 1.0)
    pairs = record["scores"]["pairs"]
    assert pairs["rows"] == pairs["strict"]["judged"] == 20
    assert pairs["strict"]["groups"]["overall"]["always_a"] == 0.5
    [folder] = (tmp_path / "run" / "evals").iterdir()
    assert read_scores(Folder.at(folder)) == record
    assert {row["task"] for row in read_artifact(Folder.at(folder)).records()} == {"pairs", "judgebench"}
    assert main(["compare", str(folder), str(folder)]) == 0
    assert "pairs: " in capsys.readouterr().out
    assert main([*words, *settings, "votes=3"]) == 0  # Other settings make another artifact; the first one stays.
    assert len(list((tmp_path / "run" / "evals").iterdir())) == 2
    assert "judgebench, paper parser" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_human_votes_and_ties_are_scored_from_the_judgments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The judge prefers the longer answer, alpaca's; two of three experts agree. It rates both rows of Ties by length."""
    conversations = {"conversation_a": talk("short"), "conversation_b": talk("a much longer one")}
    vote = {"question_id": 81, "model_a": "vicuna", "model_b": "alpaca", "turn": 1, **conversations}
    votes = [{**vote, "judge": f"expert_{i}", "winner": winner} for i, winner in enumerate(("model_b", "model_b", "model_a"))]
    rows_of(tmp_path, "mtbench", *votes)
    ties = [
        {"id": "ref:0", "prompt": "?", "chosen": ["12345678"], "rejected": ["1"], "subset": "Ties"},
        {"id": "tied:0", "prompt": "?", "chosen": ["12345678", "1234567"], "rejected": ["1"], "subset": "Ties"},
    ]
    rows_of(tmp_path, "rewardbench2", *ties)
    words = [f"{name}:{tmp_path / name}.jsonl" for name in ("mtbench", "rewardbench2")]
    assert main(["eval", "package://mini/seed_model", *words, MINI, f"run_root={tmp_path}/run", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["mtbench"]["rows"] == 1
    overall = scores["mtbench"]["strict"]["groups"]["overall"]
    assert (overall["examples"], overall["accuracy"], overall["longest"]) == pytest.approx((3, 2 / 3, 2 / 3))
    assert scores["rewardbench2"]["strict"]["subsets"]["Ties"]["accuracy"] == pytest.approx(1.01, abs=1e-3)
    [folder] = (tmp_path / "run" / "evals").iterdir()
    assert main(["compare", str(folder), str(folder)]) == 0
    assert "mtbench: " in capsys.readouterr().out
    assert main(["show", str(folder), "--limit", "3"]) == 0
    shown = capsys.readouterr().out
    assert "answer 0, good" in shown
    assert "verdict 8, 1 tokens" in shown


@pytest.mark.parametrize("votes", [1, 3])
def test_a_reference_answer_is_shown_in_both_orders_with_every_prompt(votes: int, tmp_path: Path) -> None:
    conversations = {"conversation_a": talk("short"), "conversation_b": talk("longer")}
    vote = {"model_a": "a", "model_b": "b", "turn": 1, "judge": "expert_1", "winner": "model_b", **conversations}
    [row] = rows_of(tmp_path, "human", {**vote, "question_id": 111}, name="mtbench")
    for prompt in VARIANTS:
        engine = ScriptedEngine(lambda messages, sampling: "[[A]]")
        asyncio.run(judge_benchmark(replace(row, reference="it is 4"), engine.generate, HeldoutConfig(), votes, prompt))
        assert len(engine.requests) == 2 * votes
        for messages, _ in engine.requests:
            assert "[The Start of Reference Answer]\nit is 4\n[The End of Reference Answer]" in messages[-1].content
            if prompt == "mtbench":
                assert "You will be given a reference answer" in messages[0].content


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_mtbench_says_loudly_which_reference_answers_were_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conversations = {"conversation_a": talk("short"), "conversation_b": talk("longer")}
    vote = {"model_a": "a", "model_b": "b", "turn": 1, "judge": "expert_1", "winner": "model_b", **conversations}
    rows_of(tmp_path, "human", *({**vote, "question_id": number} for number in (81, 101, 111)), name="mtbench")
    words = ["eval", "package://mini/seed_model", f"mtbench:{tmp_path}", MINI, f"run_root={tmp_path}/run"]
    for missing in ("2 of 2", "1 of 2", None):
        assert main(words) == 0
        printed = capsys.readouterr().out
        note = f"NO REFERENCE ANSWERS: {missing} pairs judged without one in math, reasoning and coding"
        assert printed.count("NO REFERENCE ANSWERS") == (2 if missing else 0)
        assert (note in printed) == (missing is not None)
        assert main([*words, "--json"]) == 0
        notes = json.loads(capsys.readouterr().out)["scores"]["mtbench"].get("notes", [])
        assert [text.partition(";")[0] for text in notes] == ([note] if missing else [])
        with (tmp_path / "reference_answer.jsonl").open("a") as file:
            number = 101 if missing == "2 of 2" else 111
            file.write(json.dumps({"question_id": number, "choices": [{"turns": ["r1", "r2"]}]}) + "\n")


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_four_answers_are_never_said_to_be_asked_about_in_the_words_for_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows_of(tmp_path, "rewardbench2", {"id": "1", "prompt": "?", "chosen": ["aaa"], "rejected": list("abc"), "subset": "Math"})
    words = [
        "eval",
        "package://mini/seed_model",
        f"rewardbench2:{tmp_path}/rewardbench2.jsonl",
        MINI,
        f"run_root={tmp_path}/run",
    ]
    for prompt, notes in (("figure8", 0), ("arena", 2)):
        assert main([*words, f"prompt={prompt}"]) == 0
        assert capsys.readouterr().out.count(f"NOT ASKED WITH prompt={prompt}") == notes


@pytest.mark.slow
def test_a_prompt_that_does_not_fit_in_the_context_is_refused_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The longest of its words counts."""
    file = tmp_path / "long.json"
    asked = "{instruction} {response A} {response B}"
    file.write_text(json.dumps({"user": asked, "user_with_reference": f"{'word ' * 9000} {asked} {{reference}}"}))
    settings = [PAIRS, MINI, f"run_root={tmp_path}/run", f"prompt={file}", "prompt_format=figure8"]
    assert main(["eval", "package://mini/seed_model", *settings]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot hold judgments of given pairs: the prompt takes" in line


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_unjudged_rows_are_reported_and_officially_have_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four pairs: one is too long, one fails, one has equal answers, which RewardBench judges like any other pair.

    Officially the first two count one half.
    """
    record = {"prompt": "?", "chosen": "longer", "rejected": "short", "subset": "math-prm"}
    changes = [{}, {"prompt": "LONG"}, {"prompt": "FAIL"}, {"rejected": "longer"}]
    rows_of(tmp_path, "rewardbench", *({**record, **change, "id": number} for number, change in enumerate(changes)))
    words = [
        "eval",
        "package://mini/seed_model",
        f"rewardbench:{tmp_path / 'rewardbench.jsonl'}",
        MINI,
        f"run_root={tmp_path}/run",
    ]
    assert main(words) == 0
    assert "unjudged: 2 (failed 1, prompt_too_long 1)" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]["rewardbench"]
    assert (scores["rows"], scores["strict"]["judged"], scores["strict"]["unjudged"]) == (4, 2, 2)
    assert scores["strict"]["unjudged_by_reason"] == {"failed": 1, "prompt_too_long": 1}
    micro = scores["strict"]["groups"]["micro"]
    assert (micro["examples"], micro["accuracy"], micro["official"]) == (2, 0.75, (1 + 0.5 + 0.5 + 0.5) / 4)


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_a_benchmark_that_cannot_be_scored_leaves_the_others_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = {"id": "ref:0", "prompt": "?", "chosen": ["12345678"], "rejected": ["1"], "subset": "Ties"}
    rows_of(tmp_path, "rewardbench2", alone)
    words = [f"rewardbench2:{tmp_path / 'rewardbench2.jsonl'}", PAIRS, MINI, "heldout.limit=2", f"run_root={tmp_path}/run"]
    assert main(["eval", "package://mini/seed_model", *words]) == 1
    printed = capsys.readouterr()
    assert "pairs (first 2 of 480), distinct parser" in printed.out
    assert "pairs (first 2 of 480), paper parser" in printed.out
    [line] = printed.err.splitlines()
    assert "rewardbench2 not scored: rewardbench2: none of 1 judged examples can be scored" in line
    [folder] = (tmp_path / "run" / "evals").iterdir()
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert scores["pairs"]["strict"]["judged"] == 2
    assert "none of 1 judged" in scores["rewardbench2"]["error"]
    assert main(["compare", str(folder), str(folder)]) == 0
    assert capsys.readouterr().out.startswith("pairs: ")


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(("limit", "part"), [(2, "first 2 of 3"), (3, None), (4, None)])
def test_a_limit_never_shortens_a_benchmark_silently(
    limit: int, part: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [{"instruction": str(i), "chosen": "longer", "rejected": "short", "id": i} for i in range(3)]
    rows_of(tmp_path, "pairs", *records)
    settings = [f"pairs:{tmp_path / 'pairs.jsonl'}", MINI, f"run_root={tmp_path}/run", f"heldout.limit={limit}"]
    assert main(["eval", "package://mini/seed_model", *settings]) == 0
    printed = capsys.readouterr().out
    assert ("first" in printed) == (part is not None)
    assert (f"pairs ({part}), distinct parser" if part else "pairs, distinct parser") in printed
    assert main(["eval", "package://mini/seed_model", *settings, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]["pairs"]
    assert (scores["rows"], scores.get("part")) == (min(limit, 3), part)


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(("name", "part"), [("rewardbench", "first 2 of 2,985"), ("mtbench", "first 2")])
def test_a_limit_on_the_hub_names_the_published_size_if_it_is_known(
    name: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = {"conversation_a": talk("short"), "conversation_b": talk("longer")}
    vote = {"model_a": "a", "model_b": "b", "turn": 1, "judge": "expert_1", "winner": "model_a", **conversations}
    pair = {"prompt": "?", "chosen": "longer", "rejected": "short", "subset": "math-prm"}
    records = [{**pair, **vote, "id": i, "question_id": 81 + i} for i in range(3)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(records).to_iterable_dataset())
    words = ["eval", "package://mini/seed_model", name, MINI, f"run_root={tmp_path}/run", "heldout.limit=2"]
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["scores"][name]["part"] == part
    assert f"{name}: {part} rows, from the hub" in printed.err
    assert f"{name} ({part}), paper parser" in printed.err


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_pairs_can_be_judged_in_a_published_judges_own_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "<Q>{instruction}</Q>\nThe Start of Assistant A's Answer]\n{response A}\n[The End of Assistant A's Answer]\n"
    words += "[The Start of Assistant B's Answer]\n{response B}\n[The End of Assistant B's Answer]"
    command = ["eval", "package://mini/seed_model", PAIRS, MINI, "heldout.limit=4", f"run_root={tmp_path}/run", "--json"]
    records = []
    for name in ("mine", "moved"):
        (tmp_path / name).write_text(json.dumps({"user": words.replace("\nThe", "\n[The")}))
        assert main([*command, f"prompt={tmp_path / name}", "prompt_format=fastchat"]) == 0
        records.append(json.loads(capsys.readouterr().out))
    assert records[0] == records[1], "the words are in the key, and the file's place is not"
    assert records[0]["prompt"].startswith("file-")
    assert records[0]["scores"]["pairs"]["strict"]["groups"]["overall"]["unparsed"] == 0
    assert len(list((tmp_path / "run" / "evals").iterdir())) == 1
    assert main([*command, f"prompt={tmp_path / 'mine'}", "prompt_format=boxed"]) == 1
    printed = capsys.readouterr()
    assert (
        "pairs: not one judgment holds a verdict; 8 of the 8 looked at seem"
        in json.loads(printed.out)["scores"]["pairs"]["error"]
    )
    assert "pairs not scored: pairs: not one judgment holds a verdict" in printed.err
    assert len(list((tmp_path / "run" / "evals").iterdir())) == 2
    assert main([*command, f"prompt={tmp_path / 'mine'}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "name the format of its verdicts with prompt_format" in line


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_a_judge_that_does_not_write_in_the_format_of_its_prompt_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It writes a bare letter where Figure 8 asks for [[A]]. The judgments are kept, and the terminal and the scores say so."""
    rows_of(tmp_path, "pairs", {"instruction": "BARE", "response_a": "short", "response_b": "much longer", "winner": "B"})
    words = ["eval", "package://mini/seed_model", f"pairs:{tmp_path}/pairs.jsonl", MINI, f"run_root={tmp_path}/run"]
    assert main(words) == 0
    warning = (
        "pairs, distinct: 2 of 2 judgments hold no verdict in the format figure8, [[A]] or [[B]]; 2 of the 2 looked at seem to "
        "be in the format letter, A or B alone on a line: give the judge its own prompt, prompt=FILE prompt_format=letter"
    )
    assert f"warning: {warning}" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]["pairs"]
    assert scores["distinct"]["warning"] == warning
    assert scores["distinct"]["judged"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_pairs_can_be_judged_with_another_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both parsers read that prompt's verdicts. It is another evaluation, which can be compared with the first."""
    words = ["eval", "package://mini/seed_model", PAIRS, MINI, "heldout.limit=4", f"run_root={tmp_path}/run", "--json"]
    records = []
    for prompt in ("figure8", "arena"):
        assert main([*words, f"prompt={prompt}"]) == 0
        records.append(json.loads(capsys.readouterr().out))
    assert [record["prompt"] for record in records] == ["figure8", "arena"]
    assert records[0]["scores"] == records[1]["scores"]
    folders = [str(folder) for folder in (tmp_path / "run" / "evals").iterdir()]
    assert main(["compare", *folders]) == 0
    assert "difference +0.0" in capsys.readouterr().out


def test_a_benchmark_without_rows_fails_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authors' votes alone make no rows, in a file and on the hub."""
    vote = {"question_id": 81, "model_a": "a", "model_b": "b", "turn": 1, "judge": "author_1", "winner": "model_a"}
    (tmp_path / "human.jsonl").write_text(json.dumps(vote))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([vote]).to_iterable_dataset())
    for word in (f"mtbench:{tmp_path / 'human.jsonl'}", "mtbench"):
        assert main(["eval", "package://mini/seed_model", word, f"run_root={tmp_path}"]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.endswith(f"{word}: holds no rows to judge")


def talk(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobench"], "'nobench': no such benchmark"),
        ([PAIRS, PAIRS], "pairs: named twice"),
        (["pairs"], "'pairs' is not on the hub"),
        (["votes=3"], "no benchmark given"),
        ([PAIRS, "votes=0"], "votes=0 judgments in each order"),
        ([PAIRS, "heldout.limit=0"], "heldout.limit=0: must be 1 or more"),
        ([PAIRS, "vtes=3"], "did you mean 'votes'?"),
        (
            [PAIRS, "models.seed.tensor_parallel_size=7", "models.seed.max_model_len=2048"],
            "tensor_parallel_size=7 GPUs cannot share",
        ),
    ],
)
def test_a_wrong_command_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "package://mini/seed_model", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("words", [["--model=", "pairs:f"], ["", "pairs:f"]])
def test_an_empty_name_is_no_model(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It would otherwise stand for the default seed of a run."""
    assert main(["eval", *words]) == 2
    assert "the name of the model is empty" in capsys.readouterr().err
