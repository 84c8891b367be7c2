"""Responses to grade: fields by their usual names, rubrics of rows, published data sets as they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from stj.errors import SourceError
from stj.pair_fields import PairFields
from stj.rubrics import rubric
from stj.sources.answers import AnswerLabel, read_answer_labels, read_answers
from tests.sources.test_graded import BENCHMARK, FLOW, PROMETHEUS

LISTED = [{"score": 1, "description": "yes"}, {"score": 0, "description": "no"}]


def written(tmp_path: Path, *rows: object) -> str:
    file = tmp_path / "file.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.parametrize("asked", ["instruction", "prompt", "query"])
@pytest.mark.parametrize("answered", ["response", "answer", "output"])
@pytest.mark.parametrize("reference", ["reference", "reference_answer"])
def test_fields_have_their_usual_names(tmp_path: Path, asked: str, answered: str, reference: str) -> None:
    [row] = read_answers(written(tmp_path, {asked: "q", answered: "r", reference: "s", "context": "c"}))
    assert (row.instruction, row.response, row.reference, row.context) == ("q", "r", "s", "c")


def test_a_row_may_bring_its_rubric_in_three_forms(tmp_path: Path) -> None:
    row = {"instruction": "q", "response": "r"}
    whole = {"criterion": "Right?", "scale": "binary", "points": {"0": "no", "1": "yes"}}
    file = written(
        tmp_path,
        row | {"rubric": "helpfulness"},
        row | {"response": "s", "rubric": whole},
        row | {"response": "t", "rubric": LISTED, "criteria": "Right?"},
    )
    named, given, listed = (row.rubrics[0] for row in read_answers(file))
    assert named == rubric("helpfulness", "rubric")
    assert (given.criterion, given.points, given.descriptions) == ("Right?", (0, 1), ("no", "yes"))
    assert given.digest == listed.digest


def test_an_inserted_line_changes_no_other_id(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "response": str(number)} for number in range(4)]
    before = [row.id for row in read_answers(written(tmp_path, *rows))]
    after = [row.id for row in read_answers(written(tmp_path, {"instruction": "new", "response": "0"}, *rows, rows[0]))]
    assert after[1:5] == before
    assert after[5] == f"{before[0]}-2"


def test_published_records_are_graded_by_their_own_rubrics(tmp_path: Path) -> None:
    file = written(tmp_path, PROMETHEUS, FLOW, BENCHMARK)
    rows, labels = list(read_answers(file)), read_answer_labels(file)
    assert [len(row.rubrics) for row in rows] == [1, 1, 1]
    assert all(isinstance(labels[row.id].label, float) for row in rows)
    assert [row.rubrics[0].scale for row in rows] == ["1-5", "binary", "1-3"]


def test_the_vicuna_set_is_read_as_it_is(test_data: Path) -> None:
    file = str(test_data / "prometheus_vicuna" / "vicuna_eval.json")
    rows, labels = list(read_answers(file)), read_answer_labels(file)
    assert len({row.id for row in rows}) == len(rows) == 320
    assert all(row.reference and row.rubrics[0].scale == "1-5" and row.dropped is None for row in rows)
    assert sum(label.label for label in labels.values()) == pytest.approx(  # type: ignore[misc]
        sum(sum(row["gpt4_score"]) / 3 for row in json.loads(Path(file).read_text()))
    )


def test_flow_judges_examples_have_no_label_and_no_rubric(test_data: Path) -> None:
    file = test_data / "flow_judge_sample" / "csr_assistant.json"
    labels = read_answer_labels(str(file))
    for row, given in zip(read_answers(str(file)), json.loads(file.read_text()), strict=True):
        assert (row.instruction, row.context, row.response) == (given["query"], given["context"], given["response"])
        assert (row.rubrics, labels[row.id]) == ((), AnswerLabel(None, None, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rubric": LISTED}, "no field 'criteria'"),
        ({"rubric": [*LISTED, {"score": 2, "description": "more"}], "criteria": "?"}, "points [0, 1, 2]; a scale is one of"),
        ({"rubric": [{"score": 1}], "criteria": "?"}, "field 'rubric[].description' is NoneType None"),
        ({"rubric": LISTED, "criteria": " "}, "no criterion"),
        ({"rubric": 4}, "field 'rubric' is int 4"),
        ({"response": None}, "no field 'response'"),
        ({"label": [1, 2]}, "field 'label' is list [1, 2]; it must be a number"),
        ({"subset": 4}, "field 'subset' is int 4"),
    ],
)
def test_a_row_that_cannot_be_graded_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError) as error:
        list(read_answers(written(tmp_path, {"instruction": "q", "response": "r"} | change)))
    assert message in str(error.value)
    assert "file.jsonl, line 1" in str(error.value)


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    row = {"id": "x", "instruction": "q", "response": "r"}
    with pytest.raises(SourceError, match="line 2: field 'id' is 'x', which an earlier row has too"):
        list(read_answers(written(tmp_path, row, row)))


HELPSTEER2 = {
    "prompt": "2 + 2?",
    "response": "4",
    "helpfulness": 4,
    "correctness": 0,
    "coherence": 3,
    "complexity": 1,
    "verbosity": 2,
}


def test_helpsteer2_has_a_true_score_by_each_of_its_rubrics(tmp_path: Path) -> None:
    spoken = HELPSTEER2 | {"prompt": "Hi\n<extra_id_1>Assistant\nHello!\n<extra_id_1>User\n2 + 2?"}
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(HELPSTEER2) + "\n" + json.dumps(spoken) + "\n")
    rows, labels = list(read_answers(str(file))), list(read_answer_labels(str(file)).values())
    assert [turn.role for turn in rows[1].turns] == ["user", "assistant", "user"]
    wanted = {"helpfulness": 5, "correctness_without_reference": 1, "coherence": 4, "complexity": 2, "verbosity": 3}
    assert {name: labels[0].of(name) for name in wanted} == wanted
    assert labels[0].of("safety") is None


@pytest.mark.parametrize("value", [5, -1, 2.5, True, "4.5", "5", "x"])
def test_an_attribute_off_its_scale_is_refused_with_its_line(value: object, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(HELPSTEER2 | {"coherence": value}) + "\n")
    with pytest.raises(SourceError, match=r"line 1.*coherence.*a whole number from 0 to 4"):
        list(read_answers(str(file)))


def test_helpsteer2_may_be_a_csv_file(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("prompt,response,helpfulness,correctness,coherence,complexity,verbosity\nHi,Hello,4,4.0,3,0,1\n")
    [label] = read_answer_labels(str(file)).values()
    assert (label.of("helpfulness"), label.of("correctness"), label.of("complexity")) == (5, 5, 1)


@pytest.mark.parametrize("score", ["1_0", "", " ", "4/5", "four", "0x4", "nan", "inf", "1e999", "4,0", True, [4], float("nan")])
def test_what_is_no_number_is_never_a_score(score: object, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"instruction": "x", "response": "y", "score": score}))
    if score == "":
        assert [label.label for label in read_answer_labels(str(file)).values()] == [None]
        return
    with pytest.raises(SourceError, match="line 1: field 'score'"):
        read_answer_labels(str(file))


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"prompt": "q", "response_a": "x", "response_b": "y", "label": "A", "id": 7, "subset": "s"}, {}),
        ({"prompt": "q", "chosen": "x", "rejected": "y", "id": "7", "subset": "s"}, {}),
        ({"ask": "q", "l": "x", "r": "y", "response": "z", "nr": 7, "part": "s"}, {"instruction": "ask", "response_a": "l"}),
    ],
)
def test_a_pair_is_two_responses(tmp_path: Path, row: dict[str, Any], fields: dict[str, str]) -> None:
    more = {"response_b": "r", "id": "nr", "subset": "part"} if fields else {}
    names, file = PairFields(**fields, **more), written(tmp_path, {**row, "reference": "ref", "rubric": "helpfulness"})
    rows, labels = list(read_answers(file, names)), read_answer_labels(file, names)
    assert [(each.id, each.response, each.subset) for each in rows] == [("7/a", "x", "s"), ("7/b", "y", "s")]
    assert {(each.turns[0].content, each.reference, each.rubrics[0].name) for each in rows} == {("q", "ref", "helpfulness")}
    assert [label.label for label in labels.values()] == [None, None]
