"""`stj score` on judgments in the formats of other judges: read by name, guessed, warned of, or refused; no zero is silent."""

import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.cli import main
from stj.errors import SourceError
from stj.evals.benchmarks.refs import benchmark_ref
from stj.evals.benchmarks.unread import Survey, Unread
from stj.evals.score import score_file
from stj.verdict import FORMATS, PAIR, PARSERS

RIGHT = {
    "figure8": ("so [[A]]", "so [[B]]"),
    "fastchat": ("[[A]]", "[[C]]"),
    "arena": ("My final verdict is: [[A>>B]]", "[[B>A]]"),
    "prometheus": ("ok [RESULT] A", "ok [RESULT] B"),
    "llmbar": ("Therefore, Output (a) is better.", "Output (b)"),
    "judgelm": ("9 8", "3 7.5"),
    "pandalm": ("1", "2"),
    "auto-j": ("So, the final decision is Response 1.", "So, the final decision is Response 2."),
    "boxed": (r"thus \boxed{A}", r"thus \boxed{B}"),
    "letter": ("A", "B"),
    "decision": ("A>B", "B>A"),
}
"""Judgments of both orders in each format for pairs; the first response is better."""


def written(file: Path, texts: Iterable[tuple[str | None, str | None]], **fields: object) -> str:
    rows = [
        {"id": str(place), "winner": "A", "judgment_ab": ab, "judgment_ba": ba, **fields}
        for place, (ab, ba) in enumerate(texts)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def accuracies(record: dict[str, Any]) -> list[float]:
    return [record[parser]["groups"]["overall"]["accuracy"] for parser in PARSERS]


@pytest.mark.parametrize("name", RIGHT)
def test_the_format_is_guessed_if_it_fits_all_judgments(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "judged.jsonl", [RIGHT[name]] * 3)
    assert main(["score", file, "--benchmark", "pairs", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    read = "figure8" if name == "fastchat" else name  # Half of its judgments are [[A]], which the benchmark's own format reads.
    assert (record["format"], record["format_guessed"]) == (read, name not in ("figure8", "fastchat"))
    assert accuracies(record) == ([0.5] * 3 if name == "fastchat" else [1.0] * 3)
    assert main(["score", file, "--benchmark", "pairs"]) == 0
    assert (f"format: {name}, " in capsys.readouterr().out) == record["format_guessed"]


@pytest.mark.parametrize("name", RIGHT)
def test_the_format_can_be_named(name: str, tmp_path: Path) -> None:
    file = written(tmp_path / "judged.jsonl", [RIGHT[name]] * 2)
    record, _ = score_file(file, benchmark_ref("pairs"), None, name)
    assert (record["format"], record["format_guessed"]) == (name, False)
    assert accuracies(record) == ([0.5] * 3 if name == "fastchat" else [1.0] * 3)


@pytest.mark.parametrize("name", [name for name in RIGHT if name not in ("figure8", "fastchat")])
def test_one_judgment_in_another_format_is_enough_not_to_guess(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "judged.jsonl", [*[RIGHT[name]] * 4, ("no idea", RIGHT[name][1])])
    assert main(["score", file, "--benchmark", "pairs"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "10 of 10 judgments hold no verdict in the format figure8, [[A]] or [[B]]" in line
    assert f"9 of the 10 looked at seem to be in the format {name}, " in line
    assert line.endswith(f"give --format {name}")


def test_two_formats_that_disagree_are_not_guessed(tmp_path: Path) -> None:
    both = r"final decision is Response 1, \boxed{B}"
    with pytest.raises(SourceError, match="2 of 2 judgments hold no verdict"):
        score_file(written(tmp_path / "judged.jsonl", [(both, both)]), benchmark_ref("pairs"), None)
    same = r"final decision is Response 1, \boxed{A}"
    record, _ = score_file(written(tmp_path / "judged.jsonl", [(same, same)]), benchmark_ref("pairs"), None)
    assert record["format_guessed"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Feedback: short. [RESULT] 4", "seem to be grades of single answers in the format prometheus-grade"),
        ("Rating: [[7]]", "seem to be grades of single answers in the format fastchat-grade"),
        ("I like both\x1b", 'no known format fits; one ends with "I like both\\x1b"'),
        ("", "(4 are empty)"),
        ("<think>\nlong", "(4 are empty)"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", written(tmp_path / "judged.jsonl", [(text, text)] * 2), "--benchmark", "pairs"]) == 2
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert (message in line, printed.out) == (True, "")


@pytest.mark.parametrize(
    ("unread", "refused", "warned"),
    [(0, False, False), (5, False, False), (6, False, True), (50, False, True), (51, True, True)],
)
def test_the_shares_that_warn_and_refuse(unread: int, refused: bool, warned: bool, tmp_path: Path) -> None:
    """Of 100 judgments without votes, 5 unread ones are as many as go without a word, and 50 are as many as are scored."""
    texts = ["Verdict: [[A>>B]]"] * unread + ["[[A]]"] * (100 - unread)
    file = written(tmp_path / "judged.jsonl", zip(texts[::2], texts[1::2], strict=True))
    if refused:
        with pytest.raises(SourceError, match="give --format arena"):
            score_file(file, benchmark_ref("pairs"), None)
        return
    record, items = score_file(file, benchmark_ref("pairs"), None)
    for parser in PARSERS:
        assert ("warning" in record[parser]) == warned
    assert sum("warning: pairs, " in str(item) for item in items) == (3 if warned else 0)


def test_a_verdict_before_its_reasons_is_no_missing_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "judged.jsonl", [("[[A]] is right", "[[B]] is right")] * 3)
    record, _ = score_file(file, benchmark_ref("pairs"), None)
    assert "6 of the 6 looked at hold one elsewhere in the text" in record["strict"]["error"]
    assert "groups" not in record["strict"]
    for parser in ("distinct", "paper"):
        assert (record[parser]["groups"]["overall"]["accuracy"], "warning" in record[parser]) == (1.0, False)
    assert main(["score", file, "--benchmark", "pairs", "--parser", "strict"]) == 2
    assert "which the parser 'distinct' reads" in capsys.readouterr().err


def test_only_asked_judgments_count(tmp_path: Path) -> None:
    file = written(tmp_path / "judged.jsonl", [("[[A]]", None), (None, None), (None, "[[B]]"), (None, None)])
    record, _ = score_file(file, benchmark_ref("pairs"), None)
    assert accuracies(record) == [1.0] * 3
    assert "warning" not in record["distinct"]


@pytest.mark.parametrize(
    ("benchmark", "name", "message"),
    [
        ("pairs", "judgelmm", "is no format of pairs (did you mean 'judgelm'?)"),
        ("pairs", "rating", "is not for the judgments of pairs"),
        ("rewardbench2", "arena", "is not for the judgments of rewardbench2"),
    ],
)
def test_a_wrong_format_is_refused(
    benchmark: str, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "judged.jsonl", [("[[A]]", "[[B]]")])
    assert main(["score", file, "--benchmark", benchmark, "--format", name]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_four_answers_and_ratings_in_another_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(json.dumps({"id": "1", "subset": "Math", "judgments": dict.fromkeys("ABCD", "[[A>>B]]")}))
    assert main(["score", str(file), "--benchmark", "rewardbench2"]) == 2
    refused = capsys.readouterr().err
    assert "4 of 4 judgments hold no verdict in the format best-of-four" in refused
    assert "judgments of pairs in the format arena, [[A>>B]] to [[B>>A]]; here judgments of four answers are wanted" in refused
    ratings = ["Rating: [[9]] well done", "Rating: [[2]] no", "[[1]] no", "[[3]] no"]
    for command, guessed in (([], True), (["--format", "fastchat-grade"], False)):
        file.write_text(json.dumps({"id": "1", "subset": "Math", "ratings": ratings}))
        assert main(["score", str(file), "--benchmark", "rewardbench2-ratings", "--json", *command]) == 0
        record = json.loads(capsys.readouterr().out)
        assert (record["format"], record["format_guessed"]) == ("fastchat-grade", guessed)
        assert record["distinct"]["subsets"]["Math"]["accuracy"] == 1
    file.write_text(json.dumps({"id": "1", "subset": "Math", "ratings": [*ratings[:3], "none"]}))
    assert main(["score", str(file), "--benchmark", "rewardbench2-ratings"]) == 2
    assert "3 of the 4 looked at seem to be in the format fastchat-grade" in capsys.readouterr().err


GRADED = ("ok [RESULT] 4", "ok [RESULT] 5", "no idea")


def test_grades_of_another_judge_are_refused_and_read_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "grades.jsonl"
    rows = [{"question_id": 81 + n, "model": "m", "turn": 1, "judgment": "ok [RESULT] 4"} for n in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["score", str(file), "--benchmark", "mtbench"]) == 2
    assert "give --format prometheus-grade" in capsys.readouterr().err
    assert main(["score", str(file), "--benchmark", "mtbench", "--format", "prometheus-grade", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["paper"]["groups"]["m"]["mean"], "warning" in record["paper"]) == (4, False)
    file.write_text("".join(json.dumps({**row, "judgment": text}) + "\n" for row, text in zip(rows, GRADED, strict=True)))
    assert main(["score", str(file), "--benchmark", "mtbench", "--format", "prometheus-grade"]) == 0
    assert capsys.readouterr().out.count("warning: mtbench, ") == 3


GAMES = st.sampled_from(["A>B", "B>A", "A=B", "A", "A<B", None, "null game"])


def judgebench(file: Path, decisions: Iterable[tuple[str, Sequence[str | None]]], text: str = "", **fields: object) -> str:
    """A file of JudgeBench, from the label and the decisions of each pair."""
    rows = [
        {
            "pair_id": f"p{place}",
            "source": "mmlu-pro-law",
            "response_model": "gpt-4o-2024-05-13",
            "label": label,
            "judgments": [
                None if decision == "null game" else {"judgment": {"response": text}, "decision": decision}
                for decision in games
            ],
            **fields,
        }
        for place, (label, games) in enumerate(decisions)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def authors_score(decisions: Iterable[tuple[str, Sequence[str | None]]]) -> float:
    """JudgeBench's compute_final_metrics for two games, in our words."""
    turned = {"A>B": "B>A", "B>A": "A>B"}
    rows = list(decisions)
    right = 0
    for label, (first, second) in rows:
        seen = (first, turned.get(second or "", second))
        right += sum((decision == label) - (decision == turned[label]) for decision in seen) > 0
    return right / len(rows)


@given(st.lists(st.tuples(st.sampled_from(["A>B", "B>A"]), st.tuples(GAMES, GAMES)), min_size=1, max_size=8))
def test_judgebench_s_decisions_give_its_authors_numbers(
    tmp_path_factory: pytest.TempPathFactory, decisions: list[tuple[str, tuple[str | None, str | None]]]
) -> None:
    """The texts do not matter, unless all games failed; a file whose decisions are mostly unreadable has no number."""
    known = ["null game" not in games or games != ("null game",) * 2 for _, games in decisions]
    file = judgebench(tmp_path_factory.mktemp("jb") / "judged.jsonl", decisions, text="[[C]]")
    try:
        record, _ = score_file(file, benchmark_ref("judgebench"), "paper")
    except SourceError:
        readable = [
            decision in ("A>B", "B>A", "A=B") for _, games in decisions for decision in games if decision != "null game"
        ]
        assert sum(readable) <= len(readable) / 2 or not any(known)
        return
    assert record["paper"]["groups"]["overall"]["official"] == pytest.approx(authors_score(decisions))


def test_a_reward_model_of_judgebench_is_scored_by_its_decisions(tmp_path: Path) -> None:
    """As published: no text, a decision for each order, and the judge's name; also without the name, and with one game."""
    chance = random.Random(1)
    orders = {"A>B": ("A>B", "B>A"), "B>A": ("B>A", "A>B")}
    decisions = [(chance.choice(["A>B", "B>A"]), orders[chance.choice(["A>B", "B>A"])]) for _ in range(60)]
    for fields, guessed in (({"judge_name": "reward_model"}, False), ({}, True)):
        file = judgebench(tmp_path / "judged.jsonl", decisions, **fields)
        record, _ = score_file(file, benchmark_ref("judgebench"), None)
        assert (record["format"], record["format_guessed"]) == ("decision", guessed)
        for parser in PARSERS:
            overall = record[parser]["groups"]["overall"]
            assert overall["official"] == pytest.approx(authors_score(decisions))
            assert overall["unparsed"] == 0
    single = [(label, games[:1]) for label, games in decisions]
    record, _ = score_file(judgebench(tmp_path / "one.jsonl", single), benchmark_ref("judgebench"), None)
    right = sum(label == games[0] for label, games in single) / len(single)
    assert record["paper"]["groups"]["overall"]["official"] == pytest.approx(right)


@pytest.mark.parametrize(
    ("judge", "texts", "name"),
    [
        ("judge_lm", ("9 8", "8 9"), "judgelm"),
        ("panda_lm", ("1\nIt is right.", "2"), "pandalm"),
        ("auto_j", ("final decision is Response 1", "final decision is Response 2"), "auto-j"),
        ("prometheus_2", ("ok [RESULT] A", "ok [RESULT] B"), "prometheus"),
        ("vanilla", ("Output (a)", "Output (b)"), "llmbar"),
        ("skywork_critic", ("[[A]]", "[[B]]"), "judgebench"),
    ],
)
def test_a_judge_of_judgebench_is_read_in_its_format(judge: str, texts: tuple[str, str], name: str, tmp_path: Path) -> None:
    """The name decides, so a file is read although one text in three is in no format; `paper` takes the stored decisions."""
    row = {"pair_id": "p", "source": "mmlu-pro-law", "label": "A>B", "judge_name": judge}
    games = [
        {"judgment": {"response": text}, "decision": decision} for text, decision in zip(texts, ("A>B", "B>A"), strict=True)
    ]
    unread = [{"judgment": {"response": "no idea"}, "decision": "A=B"}, games[1]]
    rows = [{**row, "pair_id": f"p{n}", "judgments": unread if n == 2 else games} for n in range(3)]
    file = tmp_path / "judged.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record, _ = score_file(str(file), benchmark_ref("judgebench"), None)
    assert (record["format"], record["format_guessed"]) == (name, False)
    assert record["distinct"]["groups"]["overall"]["accuracy"] == pytest.approx(5 / 6)
    assert record["paper"]["groups"]["overall"]["unparsed"] == 0
    assert record["distinct"]["groups"]["overall"]["unparsed"] == pytest.approx(1 / 6)


def llmbar(file: Path, *results: dict[str, Any], label: int = 1) -> str:
    rows = [
        {"input": f"?{n}", "output_1": "a", "output_2": "b", "label": label, "subset": "Natural", "results": [result]}
        for n, result in enumerate(results)
    ]
    file.write_text(json.dumps(rows))
    return str(file)


def test_llmbar_s_winner_is_the_authors_word_and_the_text_is_the_judge_s(tmp_path: Path) -> None:
    """PaLM2's rule looks for "Output (a)" at the head of a line first, so this published kind of text has the winner 1."""
    text = "Output (b) is better.\nOutput (a) repeats itself."
    order = {"completion": [text, "stop"]}
    file = llmbar(tmp_path / "r.json", {"swap = False": {**order, "winner": "1"}, "swap = True": {**order, "winner": "2"}})
    record, _ = score_file(file, benchmark_ref("llmbar"), None)
    assert record["paper"]["groups"]["overall"]["by_order"] == (1.0, 0.0)
    assert record["distinct"]["groups"]["overall"]["by_order"] == (0.0, 1.0)
    named, _ = score_file(file, benchmark_ref("llmbar"), "paper", "llmbar")  # Then the texts are read.
    assert named["paper"]["groups"]["overall"]["by_order"] == (0.0, 1.0)


def rated(first: str, second: str) -> dict[str, Any]:
    """The result of one of LLMBar's Rating evaluators, with the winners of its own code."""
    try:
        scores = int(first), int(second)
        winners = "1" if scores[0] > scores[1] else "2", "2" if scores[1] > scores[0] else "1"
    except ValueError:
        winners = "1", "2"
    scored = {"score_1": [first, "stop"], "score_2": [second, "stop"]}
    return {**scored, "swap = False": {"winner": winners[0]}, "swap = True": {"winner": winners[1]}}


def test_llmbar_s_ratings_are_read(tmp_path: Path) -> None:
    """The higher rating wins. The authors count a tie, and ratings they cannot read, as one half; ours as not right."""
    results = [rated("6", "1"), rated("5", "1"), rated("2", "7"), rated("8", "8"), rated("9", "good")]
    record, _ = score_file(llmbar(tmp_path / "r.json", *results), benchmark_ref("llmbar"), None)
    paper, distinct = (record[parser]["groups"]["overall"] for parser in ("paper", "distinct"))
    assert (paper["accuracy"], paper["position_consistent"]) == (pytest.approx((2 + 0.5 + 0.5) / 5), pytest.approx(2 / 5))
    assert (distinct["accuracy"], distinct["unparsed"]) == (pytest.approx(2 / 5), pytest.approx(1 / 5))
    assert "in the format rating" in record["distinct"]["warning"]
    assert record["format"] == "rating"


def test_lines_of_stj_judge_are_read_in_the_format_of_their_prompt(tmp_path: Path) -> None:
    """One vote in three is in no format, so nothing is guessed."""
    texts = ("[[A>B]]", "no idea", "[[A>>B]]")
    votes = [{"shown_first": "A", "verdict": None, "text": text} for text in texts]
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps({"id": "1", "model": "m", "prompt": "arena", "label": "A", "verdict": "A", "votes": votes}))
    record, _ = score_file(str(file), benchmark_ref("pairs"), None)
    assert (record["format"], record["format_guessed"]) == ("arena", False)
    assert record["distinct"]["groups"]["overall"]["accuracy"] == 1.0
    assert "3 of 3" not in record["distinct"]["warning"]


TEXTS = st.sampled_from([*(text for texts in RIGHT.values() for text in texts), "no idea", "", "[[A]] or [[B]]", "[RESULT] 3"])


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_no_accuracy_is_zero_in_silence(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]) -> None:
    """Whatever a file holds: if the scores come without a warning, nearly all its judgments were read."""
    file = written(tmp_path_factory.mktemp("any") / "judged.jsonl", texts)
    try:
        record, _ = score_file(file, benchmark_ref("pairs"), None)
    except SourceError as refusal:
        refused = str(refusal)
    else:
        refused = ""
    if refused:
        assert re.search(r"\d+ of \d+ judgments hold no verdict", refused)
        assert "\n" not in refused
        return
    for parser in PARSERS:
        if "error" in record[parser]:
            assert re.search(r"\d+ of \d+ judgments hold no verdict", record[parser]["error"])
            assert "groups" not in record[parser]
        else:
            assert (record[parser]["groups"]["overall"]["unparsed"] > 0.05) == ("warning" in record[parser])


def test_only_paper_scores_texts_whose_stored_winners_alone_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LLMBar's results read as pairs: their texts hold no [[A]], but their authors' verdicts are stored beside them."""
    texts = [("Output (a) is better.", "1"), ("Output (b) is better.", "1"), ("Neither.", "1"), ("Output (b) is better.", "1")]
    first, second, third, fourth = ({"completion": text, "winner": winner} for text, winner in texts)
    orders = [(first, second), (third, fourth)]
    rows = [{"label": 1, "results": [{"swap = False": ab, "swap = True": ba}]} for ab, ba in orders]
    file = tmp_path / "result.json"
    file.write_text(json.dumps(rows))
    record, _ = score_file(str(file), benchmark_ref("pairs"), None)
    assert record["paper"]["groups"]["overall"]["accuracy"] == 1.0
    for parser in ("strict", "distinct"):
        assert "4 of 4 judgments hold no verdict" in record[parser]["error"]
        assert "give --format llmbar" in record[parser]["error"]
        with pytest.raises(SourceError, match="4 of 4 judgments hold no verdict"):
            score_file(str(file), benchmark_ref("pairs"), parser)
    assert main(["score", str(file), "--benchmark", "pairs"]) == 0
    shown = capsys.readouterr().out
    assert "pairs: no score by strict: 4 of 4 judgments" in shown
    assert "pairs, strict parser" not in shown


def test_a_guess_from_the_first_judgments_must_fit_all(tmp_path: Path) -> None:
    """501 rows hold 1,002 judgments, of which the survey looks at 1,000; the last one is in another format."""
    texts = [RIGHT["arena"]] * 500
    file = tmp_path / "judged.jsonl"
    assert score_file(written(file, [*texts, RIGHT["arena"]]), benchmark_ref("pairs"), None)[0]["format_guessed"]
    with pytest.raises(SourceError, match="1,000 of the 1,000 looked at seem to be in the format arena"):
        score_file(written(file, [*texts, ("[[A>B]]", "no idea")]), benchmark_ref("pairs"), "distinct")


def test_the_survey_is_bounded_and_counts_on() -> None:
    """A million unread judgments cost no more than a thousand to look at; the counts are exact."""
    survey = Survey("distinct")
    for _ in range(3):
        survey.add(1_000, [Unread("Verdict: [[A>>B]]", PAIR)] * 900)
    readings = survey.readings()
    assert (readings.judgments, readings.unread, readings.surveyed) == (3_000, 2_700, 1_000)
    assert next(iter(readings.fits)) == "arena"
    assert readings.guess is None  # 300 were read.


def test_every_format_can_be_chosen_for_the_judgments_it_is_for() -> None:
    assert {name for name, wording in FORMATS.items() if wording.answers == 2} == {*RIGHT, "judgebench"}


def test_the_docs_and_the_help_list_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    table = page.partition("## Formats")[2].partition("\n\nThe last three")[0]
    assert sorted(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == sorted(FORMATS)
    assert main(["score", "--help"]) == 0
    words = set(re.findall(r"[a-z0-9-]+", capsys.readouterr().out))
    assert words >= FORMATS.keys()
