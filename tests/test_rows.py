"""What lies on disk: the schemas that are derived from the dataclasses, and records of older artifacts."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stj.rows import (
    EXAMPLE_SCHEMA,
    ROW_SCHEMA,
    Candidates,
    Category,
    Example,
    Judgment,
    Origin,
    Pair,
    Row,
    Turn,
    example_from_dict,
    examples_to_table,
    row_from_dict,
    rows_to_table,
)
from tests.conftest import make_row

TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

RUBRIC = pa.struct(
    [
        ("name", pa.string()),
        ("criterion", pa.string()),
        ("scale", pa.string()),
        ("descriptions", pa.list_(pa.string())),
        ("inputs", pa.list_(pa.string())),
    ]
)
GRADE = pa.struct(
    [
        ("rubric", pa.string()),
        ("answer", pa.string()),
        ("index", pa.int16()),
        ("asked", pa.string()),
        ("text", pa.string()),
        ("score", pa.int8()),
        ("finish_reason", pa.string()),
        ("output_tokens", pa.int32()),
        ("thought", pa.string()),
        ("shares", pa.list_(pa.float64())),
        ("purpose", pa.string()),
    ]
)
JUDGMENT = pa.struct(
    [
        ("purpose", pa.string()),
        ("winner", pa.string()),
        ("index", pa.int16()),
        ("text", pa.string()),
        ("verdict", pa.string()),
        ("finish_reason", pa.string()),
        ("output_tokens", pa.int32()),
        ("thought", pa.string()),
        ("probability", pa.float64()),
    ]
)
ROW_ON_DISK = pa.schema(
    [
        ("id", pa.string()),
        ("position", pa.int64()),
        ("task", pa.string()),
        ("subset", pa.string()),
        ("turns", TURNS),
        ("language", pa.string()),
        ("toxic", pa.bool_()),
        ("redacted", pa.bool_()),
        ("category", pa.struct([("name", pa.string()), ("complexity", pa.int8()), ("length", pa.string())])),
        (
            "pair",
            pa.struct(
                [
                    ("method", pa.string()),
                    ("chosen", pa.string()),
                    ("rejected", pa.string()),
                    ("modified_instruction", pa.string()),
                    ("attack", pa.string()),
                    ("better_as", pa.string()),
                ]
            ),
        ),
        (
            "origin",
            pa.struct(
                [
                    ("source", pa.string()),
                    ("place", pa.string()),
                    ("labelled_by", pa.string()),
                    ("answer", pa.string()),
                    ("policy", pa.string()),
                ]
            ),
        ),
        ("cluster", pa.int32()),
        ("candidates", pa.struct([("answers", pa.list_(pa.string())), ("good", pa.int16())])),
        ("reference", pa.string()),
        ("context", pa.string()),
        ("response", pa.string()),
        ("label", pa.float64()),
        ("rubrics", pa.list_(RUBRIC)),
        ("ungraded", pa.string()),
        ("grades", pa.list_(GRADE)),
        ("kept_grades", pa.int16()),
        ("judgments", pa.list_(JUDGMENT)),
        ("kept", pa.int16()),
        (
            "rationales",
            pa.list_(pa.struct([("judgment", JUDGMENT), ("checks", pa.list_(JUDGMENT)), ("rejected", pa.string())])),
        ),
        ("opinions", pa.list_(pa.struct([("member", pa.string()), ("judgment", JUDGMENT)]))),
        ("aborted", pa.int16()),
        ("surplus_tokens", pa.int64()),
        ("dropped", pa.string()),
        ("detail", pa.string()),
        ("error", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
    ]
)

EXAMPLE_ON_DISK = pa.schema(
    [
        ("id", pa.string()),
        ("winner", pa.string()),
        ("score", pa.int8()),
        ("kind", pa.string()),
        ("messages", TURNS),
        ("completion", pa.string()),
        ("rejected", pa.string()),
        ("thought", pa.string()),
        ("rejected_thought", pa.string()),
        ("difficulty", pa.float64()),
    ]
)


FULL_ROW = make_row(
    7,
    task="heldout",
    subset="chat",
    language="English",
    toxic=False,
    redacted=True,
    category=Category(name="Coding", complexity=3, length="b"),
    pair=Pair(method="given", chosen="four", rejected="five", attack="verdict", better_as="B"),
    origin=Origin(source="mine", place="mine.jsonl, line 3", labelled_by="human", answer="4", policy="org/one@main"),
    candidates=Candidates(answers=("a", "b", "c", "d"), good=1),
    reference="four",
    judgments=(
        Judgment(purpose="training", winner="B", index=0, text="", verdict=None, finish_reason="length", output_tokens=9),
        Judgment(
            purpose="training",
            winner="B",
            index=1,
            text="[[B]]",
            verdict="B",
            finish_reason="stop",
            output_tokens=3,
            thought="<think>B.</think>",
            probability=0.25,
        ),
    ),
    kept=1,
    aborted=2,
    surplus_tokens=5,
    error="refused",
)
FULL_EXAMPLE = Example(
    id="row-7", winner="B", kind="verdict", messages=(Turn(role="user", content="?"),), completion="[[B]]", rejected="[[A]]"
)


@pytest.mark.parametrize("name", ROW_ON_DISK.names)
def test_a_column_of_rows_is_as_earlier_versions_wrote_it(name: str) -> None:
    assert ROW_SCHEMA.field(name).equals(ROW_ON_DISK.field(name), check_metadata=True)


def test_the_schemas_are_as_earlier_versions_wrote_them() -> None:
    assert ROW_SCHEMA.equals(ROW_ON_DISK, check_metadata=True)
    assert EXAMPLE_SCHEMA.equals(EXAMPLE_ON_DISK, check_metadata=True)


def test_every_field_comes_back() -> None:
    assert list(map(row_from_dict, rows_to_table([FULL_ROW, make_row()]).to_pylist())) == [FULL_ROW, make_row()]
    assert list(map(example_from_dict, examples_to_table([FULL_EXAMPLE]).to_pylist())) == [FULL_EXAMPLE]


def test_a_field_that_an_older_file_lacks_takes_its_default(tmp_path: Path) -> None:
    lacks = ["subset", "candidates", "aborted", "surplus_tokens"]
    pq.write_table(rows_to_table([FULL_ROW]).drop_columns(lacks), tmp_path / "rows.parquet")
    (record,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert row_from_dict(record) == replace(FULL_ROW, subset=None, candidates=None, aborted=0, surplus_tokens=0)


def test_a_column_that_is_no_field_is_ignored() -> None:
    (record,) = rows_to_table([FULL_ROW]).to_pylist()
    assert row_from_dict({**record, "mood": "good"}) == FULL_ROW
    assert isinstance(row_from_dict(record), Row)
