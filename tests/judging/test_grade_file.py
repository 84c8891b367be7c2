"""`stj grade`: one line for each response and rubric, resumed where it was stopped; and what is wrong is one line."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stj.cli import main
from stj.generate import Sampling
from stj.rows import Turn
from tests.judging.in_process import in_this_process
from tests.judging.test_judge_file import SEED_MODEL, lines, write

MINE = {"criterion": "Is it four?", "scale": "binary", "points": {"0": "No.", "1": "Yes."}}
REFERRED = MINE | {"name": "referred", "inputs": ["response", "reference"]}
asked: list[str] = []


def grades(messages: Sequence[Turn], sampling: Sampling) -> str:
    shown = messages[-1].content
    asked.append(shown)
    if "Is it four?" in shown:
        return f"[[{int('four' in shown.split('[The Start of the Assistant')[1].split('[[Criterion')[0])}]]"
    if "unsure" in shown:
        return "[[4]], or not?"
    return "Mostly. [[4]]" if "no score" not in shown else "It is fine."


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    in_this_process(monkeypatch, tmp_path, {SEED_MODEL: grades})
    (tmp_path / "mine.json").write_text(json.dumps(MINE))
    asked.clear()
    return tmp_path


def answer(text: str, **more: object) -> dict[str, Any]:
    return {"instruction": "2 + 2?", "response": text, **more}


def grade(file: str, *words: str) -> int:
    return main(["grade", file, f"model={SEED_MODEL}", *words])


def test_each_response_is_a_line_with_what_the_file_says_of_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "a.jsonl", answer("four", id="x", subset="sums", label=1), answer("five"), answer(""))
    assert grade(file, "rubric=mine.json") == 0
    output = capsys.readouterr()
    first, second, empty = lines(output.out)
    assert (first["id"], first["subset"], first["label"], first["rubric"], first["score"]) == ("x", "sums", 1, "mine", 1)
    assert (second["score"], second["mean"], "label" in second) == (0, 0.0, False)
    assert (empty["score"], empty["error"]) == (None, "empty_response: the response to grade is empty")
    assert "mine  0-1" in output.err
    assert "not graded: 1 empty_response of 3 responses" in output.err


def test_several_rubrics_have_a_total(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "a.jsonl", answer("four"), answer("no score"))
    assert grade(file, "rubric=[mine.json, helpfulness]", "weights=[1, 3]") == 0
    results = lines(capsys.readouterr().out)
    assert [(line["rubric"], line["score"]) for line in results] == [
        ("mine", 1),
        ("helpfulness", 4),
        ("mine", 0),
        ("helpfulness", None),
    ]
    assert results[0]["total"] == results[1]["total"] == pytest.approx((1 + 3 * 0.75) / 4)
    assert (results[2]["total"], results[2]["total_ci95"]) == (None, None)


def test_rows_bring_their_own_rubrics(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        answer("four", rubric=REFERRED, reference="4"),
        answer("four", rubric="helpfulness"),
        answer("four", rubric=REFERRED),
    ]
    assert grade(write(here / "a.jsonl", *rows)) == 0
    first, second, third = lines(capsys.readouterr().out)
    assert [(line["rubric"], line["score"]) for line in (first, second)] == [("referred", 1), ("helpfulness", 4)]
    assert third["error"] == "no_reference: the rubric referred needs a reference"
    assert "[The Start of the Reference Answer]\n4\n" in asked[0]


def test_a_cell_of_text_holds_a_rubric_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (here / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["instruction", "response", "rubric", "label"], ["2 + 2?", "four", json.dumps(MINE), ""]])
    assert grade("a.csv") == 0
    [line] = lines(capsys.readouterr().out)
    assert (line["rubric"], line["score"], "label" in line) == ("rubric", 1, False)


def test_parquet_holds_rubrics_of_several_scales(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rows share one type, so each rubric has a null for the points that only another one has."""
    wide = {"name": "wide", "criterion": "Is it long?", "scale": "1-3", "points": {"1": "No.", "2": "Partly.", "3": "Yes."}}
    pq.write_table(pa.Table.from_pylist([answer("four", rubric=MINE), answer("five", rubric=wide)]), here / "a.parquet")
    assert grade("a.parquet") == 0
    assert [line["rubric"] for line in lines(capsys.readouterr().out)] == ["rubric", "wide"]


def test_a_stopped_command_resumes_and_a_finished_one_asks_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "a.jsonl", answer("four"), {**answer("five"), "instruction": "STOP"}, answer("fourteen"))
    assert grade(file, "rubric=mine.json", "--out", "results.jsonl") == 130
    before = len(asked)
    assert grade(file, "rubric=mine.json", "--out", "results.jsonl") == 0
    assert len(asked) == before + 2
    results = lines(Path("results.jsonl").read_text())
    assert [line["score"] for line in results] == [1, 0, 1]
    assert grade(file, "rubric=mine.json", "--out", "again.jsonl") == 0
    assert len(asked) == before + 2
    assert lines(Path("again.jsonl").read_text()) == results


@pytest.mark.slow
def test_a_changed_response_rubric_or_reference_is_graded_anew(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A grade is never used for another response, rubric or reference."""
    same = [answer("four", id=f"same-{number}") for number in range(3)]
    file = write(here / "a.jsonl", answer("four", id="x", reference="4"), *same)
    assert grade(file, "rubric=mine.json") == 0
    for change in ({"response": "five"}, {"response": "five", "reference": "IV"}, {"response": "five", "context": "sums"}):
        before = len(asked)
        write(here / "a.jsonl", answer("four", id="x", reference="4") | change, *same)
        assert grade(file, "rubric=mine.json") == 0
        assert len(asked) == before + 1
    capsys.readouterr()
    (here / "mine.json").write_text(json.dumps(MINE | {"criterion": "Is it four? Really?"}))
    assert grade(file, "rubric=mine.json") == 1
    assert "rubrics" in capsys.readouterr().err
    assert grade(file, "rubric=mine.json", "--overwrite") == 0
    assert len(asked) == before + 5


def test_the_results_are_scored_as_they_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three right of four, an unread one and one that was not asked about."""
    labels = [("four", 1), ("five", 0), ("four", 1), ("five", 1), ("", 1)]
    file = write(here / "a.jsonl", *(answer(text, label=label, id=str(number)) for number, (text, label) in enumerate(labels)))
    assert grade(file, "rubric=mine.json", "--out", "results.jsonl") == 0
    capsys.readouterr()
    assert main(["score", "results.jsonl", "--benchmark", "grades", "--json"]) == 0
    overall = json.loads(capsys.readouterr().out)["groups"]["overall"]
    assert (overall["rows"], overall["exact"], overall["mean_absolute_error"]) == (4, 0.75, 0.25)


def test_what_holds_no_score_has_none_when_it_is_scored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another parser, or one that does not know of a cut, would read a score in the text."""
    rows = [answer(f"four {number}", label=4) for number in range(12)] + [answer("unsure", label=4)]
    assert grade(write(here / "a.jsonl", *rows), "rubric=helpfulness", "grade.parser=strict", "--out", "results.jsonl") == 0
    result = lines(Path("results.jsonl").read_text())[-1]
    assert (result["score"], result["text"], result["votes"][0]["text"]) == (None, "", "[[4]], or not?")
    capsys.readouterr()
    assert main(["score", "results.jsonl", "--benchmark", "grades", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["judged"], record["unjudged_by_reason"]) == (12, {"unparsed": 1})


def test_each_rubric_has_its_own_label(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "a.jsonl", answer("four", label={"mine": 1, "helpfulness": 3.5}), answer("five", label={"mine": 0}))
    assert grade(file, "rubric=[mine.json, helpfulness]") == 0
    results = lines(capsys.readouterr().out)
    assert [(line["rubric"], line.get("label")) for line in results] == [
        ("mine", 1),
        ("helpfulness", 3.5),
        ("mine", 0),
        ("helpfulness", None),
    ]


def test_weights_change_no_grade(here: Path) -> None:
    file = write(here / "a.jsonl", answer("four"))
    assert grade(file, "rubric=[mine.json, helpfulness]") == 0
    before = len(asked)
    assert grade(file, "rubric=[mine.json, helpfulness]", "weights=[1, 3]") == 0
    assert len(asked) == before


@pytest.mark.parametrize(
    ("row", "words", "error"),
    [
        (answer("four"), [], "has no rubric: name one with rubric=NAME, or give each row its own"),
        (answer("four"), ["rubric=helpful"], "rubric=helpful: no such rubric or file (did you mean 'helpfulness'?)"),
        (answer("four"), ["rubric=helpfulness", "weights=[1, 2]"], "weights=[1.0, 2.0]: 2 weights for 1 rubrics"),
        (answer("four"), ["rubric=[helpfulness, mine.json]", "weights=[1, 0]"], "weights=0.0: must be above 0"),
        (answer("four"), ["rubric=[helpfulness, helpfulness]"], "rubric=helpfulness: two rubrics have this name"),
        (answer("four", rubric="mine.json"), [], "line 1: field 'rubric' is str 'mine.json'; it must be the name of a rubric"),
        (answer("four", rubric={"criterion": "?"}), [], "line 1: field 'rubric': no scale"),
        (answer("four", rubric=MINE | {"scale": "1-3"}), [], "line 1: field 'rubric': points describes '0'"),
        (answer("four", label=True), ["rubric=helpfulness"], "line 1: field 'label' is bool True; it must be a number"),
        (answer("four", label="4/5"), ["rubric=helpfulness"], "line 1: field 'label' is str '4/5'; it must be a number"),
        (answer("four", label="good"), ["rubric=helpfulness"], "line 1: field 'label' is str 'good'; it must be a number"),
        (answer("four", label=math.nan), ["rubric=helpfulness"], "line 1: field 'label' is float nan; it must be a number"),
        (answer("four", label=3), ["rubric=[mine.json, helpfulness]"], "has one label for 2 rubrics: give an object of labels"),
        (answer("four", label={"style": 3}), ["rubric=helpfulness"], "has labels of style, and none of helpfulness"),
        (answer("four", label={"mine": "good"}), ["rubric=mine.json"], "line 1: field 'label.mine' is str 'good'"),
        (answer("four", label=10**400), ["rubric=helpfulness"], "it must be a number"),
        (answer("four", rubric='{"criterion": '), [], "line 1: field 'rubric' is str"),
        ({"instruction": "2 + 2?"}, ["rubric=helpfulness"], "line 1: no field 'response'"),
        ({"response": "4"}, ["rubric=helpfulness"], "line 1: no field 'instruction'"),
        (answer("four", reference=4), ["rubric=helpfulness"], "line 1: field 'reference' is int 4; it must be a string"),
        (answer("four"), ["rubric=helpfulness", "grade.votes=0"], "grade.votes=0 grades of a response: must be 1 to 1000"),
    ],
)
def test_what_is_wrong_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], words: list[str], error: str
) -> None:
    assert grade(write(here / "a.jsonl", row), *words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert error in output.err
    assert len(output.err.splitlines()) == 1


def test_a_judge_without_any_score_fails(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "a.jsonl", *(answer(f"no score {number}") for number in range(8)))
    assert grade(file, "rubric=helpfulness") == 1
    output = capsys.readouterr()
    assert len(lines(output.out)) == 8
    assert "helpfulness: not one grade holds a score" in output.err
