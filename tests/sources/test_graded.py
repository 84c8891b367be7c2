"""Graded responses in the schemas of their publishers."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import SourceError
from stj.sources.graded import GradedRecord, graded_record, is_published

WHERE = "file.jsonl, line 1"
PROMETHEUS: dict[str, Any] = {
    "orig_instruction": "Name a colour.",
    "orig_response": "Red.",
    "orig_reference_answer": "Blue.",
    "orig_criteria": "Is it a colour?",
    **{f"orig_score{point}_description": f"point {point}" for point in range(1, 6)},
    "orig_score": "4",
    "orig_feedback": "It is one.",
    "instruction": "###Task Description: ...",
    "output": "It is one. [RESULT] 4",
}
FLOW: dict[str, Any] = {
    "id": "a",
    "inputs": [{"name": "query", "content": "Name a colour."}, {"name": "context", "content": "Colours: red."}],
    "output": {"name": "response", "content": "Red."},
    "criteria": "Is it a colour?",
    "rubric": [{"score": 1, "description": "yes"}, {"score": 0, "description": "no"}],
    "feedback": "It is one.",
    "score": 1,
}
BENCHMARK: dict[str, Any] = {
    "idx": 7,
    "response_source": "m",
    "category": "writing",
    "instruction": "###The instruction to evaluate:\nName a colour.\n\n###Response to evaluate:\nRed.\n\n"
    "###Reference Answer (Score 5):\nBlue.\n\n###Score Rubrics:\n[Is it a colour?]\nScore 1: no\nScore 2: hardly\nScore 3: "
    "yes,\nor so\n\n###Feedback: ",
    "gpt4_score": [3, 2, 2],
}
OTHER: dict[str, Any] = {
    "prompt": "Name a colour.",
    "response": "Red.",
    "score": 3,
    "rubric": "helpfulness",
    "context": "Colours.",
}


def test_prometheus_records() -> None:
    assert graded_record(PROMETHEUS, WHERE) == GradedRecord(
        instruction="Name a colour.",
        response="Red.",
        reference="Blue.",
        criterion="Is it a colour?",
        descriptions={point: f"point {point}" for point in range(1, 6)},
        label=4.0,
        feedback="It is one.",
    )


def test_flow_judges_records() -> None:
    assert graded_record(FLOW, WHERE) == GradedRecord(
        id="a",
        instruction="Name a colour.",
        response="Red.",
        context="Colours: red.",
        criterion="Is it a colour?",
        descriptions={0: "no", 1: "yes"},
        label=1.0,
        feedback="It is one.",
    )
    several = [{"name": "query", "content": "Name one."}, {"name": "language", "content": "English"}]
    assert graded_record(FLOW | {"inputs": several}, WHERE).instruction == "query:\nName one.\n\nlanguage:\nEnglish"


def test_records_of_prometheus_benchmarks() -> None:
    assert graded_record(BENCHMARK, WHERE) == GradedRecord(
        id="7/m",
        subset="writing",
        instruction="Name a colour.",
        response="Red.",
        reference="Blue.",
        criterion="Is it a colour?",
        descriptions={1: "no", 2: "hardly", 3: "yes,\nor so"},
        label=pytest.approx(7 / 3),
    )


def test_only_published_records_are_read_here() -> None:
    assert [is_published(values) for values in (PROMETHEUS, FLOW, BENCHMARK, OTHER)] == [True, True, True, False]


def test_every_record_of_the_vicuna_set(test_data: Path) -> None:
    rows = json.loads((test_data / "prometheus_vicuna" / "vicuna_eval.json").read_text())
    records = [graded_record(row, f"item {number}") for number, row in enumerate(rows)]
    assert len({record.id for record in records}) == 320
    for row, record in zip(rows, records, strict=True):
        assert record.label == pytest.approx(sum(row["gpt4_score"]) / 3)
        assert list(record.descriptions) == [1, 2, 3, 4, 5]
        parts = [
            record.instruction,
            record.response,
            record.reference or "",
            record.criterion or "",
            *record.descriptions.values(),
        ]
        assert all(part and part in row["instruction"] for part in parts)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (PROMETHEUS | {"orig_score": "good"}, "field 'orig_score' is str 'good'; it must be a number"),
        (PROMETHEUS | {"orig_score": 6}, "the label is 6, off the rubric's scale 1-5"),
        (PROMETHEUS | {"orig_score3_description": " "}, "the rubric has no description of point 3"),
        (
            {key: value for key, value in PROMETHEUS.items() if key != "orig_score2_description"},
            "no field 'orig_score2_description'",
        ),
        (PROMETHEUS | {"orig_response": ["Red."]}, "field 'orig_response' is list"),
        (FLOW | {"score": True}, "field 'score' is bool True"),
        (FLOW | {"score": 2}, "off the rubric's scale 0-1"),
        (FLOW | {"rubric": [{"score": 1, "description": "x"}, {"score": 3, "description": "y"}]}, "points [1, 3]"),
        (FLOW | {"rubric": [{"score": 1, "description": "x"}] * 2}, "with whole and different scores"),
        (FLOW | {"rubric": "x"}, "field 'rubric' is str"),
        (FLOW | {"rubric": [{"score": 0}, {"score": 1}]}, "field 'rubric[].description' is NoneType"),
        (FLOW | {"output": "Red."}, "field 'output' is list ['Red.']; it must be made of {name, content}"),
        (BENCHMARK | {"gpt4_score": 3}, "field 'gpt4_score' is int 3; it must be a list of grades"),
        *((PROMETHEUS | {name: None}, f"no field '{name}'") for name in ("orig_instruction", "orig_response", "orig_criteria")),
        *((FLOW | {name: None}, f"no field '{name}'") for name in ("output", "criteria", "rubric", "score")),
        (PROMETHEUS | {"orig_score": "1_0"}, "field 'orig_score' is str '1_0'; it must be a number"),
        (BENCHMARK | {"gpt4_score": [1, 5]}, "field 'gpt4_score[]' is 5, off the rubric's scale"),
        (BENCHMARK | {"gpt4_score": [1e308, 1e308]}, "off the rubric's scale"),
        (BENCHMARK | {"idx": [1]}, "field 'idx' is list [1]"),
        (BENCHMARK | {"gpt4_score": [3, None]}, "field 'gpt4_score[]' is NoneType"),
        (BENCHMARK | {"instruction": "Name a colour."}, "must have each of these headings once, in this order"),
        (BENCHMARK | {"instruction": BENCHMARK["instruction"].replace("Red.", "###Feedback:")}, "each of these headings once"),
        (BENCHMARK | {"instruction": BENCHMARK["instruction"].replace("Score 2", "Score 1")}, "describes a point twice"),
    ],
)
def test_a_record_that_says_too_little_is_refused(values: dict[str, Any], message: str) -> None:
    assert is_published(values), "else it would be read as a row of another schema"
    with pytest.raises(SourceError) as error:
        graded_record(values, WHERE)
    assert str(error.value).startswith(f"{WHERE}: ")
    assert message in str(error.value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 6)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([10**400, "Score 1: x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "content", "score", "description"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(data=st.data(), values=st.sampled_from([PROMETHEUS, FLOW, BENCHMARK, OTHER]))
def test_any_value_is_read_or_refused(data: st.DataObject, values: dict[str, Any]) -> None:
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(values)), VALUES, max_size=3))
    with contextlib.suppress(SourceError):
        record = graded_record(values | changed, WHERE)
        points = list(record.descriptions)
        assert not points or record.label is None or points[0] <= record.label <= points[-1]
