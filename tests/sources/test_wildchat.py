"""WildChat: real rows if STJ_TEST_DATA has some, the true Parquet schema, and hostile rows."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import SourceConfig
from stj.rows import Row, row_from_dict, rows_to_table
from stj.sources import read_rows
from stj.sources.files import read_files
from stj.sources.wildchat import WILDCHAT_FIELDS, wildchat_rows

REAL = Path(os.environ.get("STJ_TEST_DATA", "")) / "wildchat_a" / "wildchat.jsonl"
PRIVATE = "192-0-2-7"

HEADER = pa.struct([("accept-language", pa.string()), ("user-agent", pa.string())])
UTTERANCE = pa.struct(
    [
        ("content", pa.string()),
        ("country", pa.string()),
        ("hashed_ip", pa.string()),
        ("header", HEADER),
        ("language", pa.string()),
        ("redacted", pa.bool_()),
        ("role", pa.string()),
        ("state", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("toxic", pa.bool_()),
        ("turn_identifier", pa.int64()),
    ]
)
MODERATION = pa.struct(
    [
        ("categories", pa.struct([("harassment", pa.bool_()), ("harassment/threatening", pa.bool_())])),
        ("category_scores", pa.struct([("harassment", pa.float64()), ("harassment/threatening", pa.float64())])),
        ("flagged", pa.bool_()),
    ]
)
TRUE_SCHEMA = pa.schema(
    [
        ("conversation_hash", pa.string()),
        ("model", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("conversation", pa.list_(UTTERANCE)),
        ("turn", pa.int64()),
        ("language", pa.string()),
        ("openai_moderation", pa.list_(MODERATION)),
        ("detoxify_moderation", pa.list_(pa.struct([("toxicity", pa.float64())]))),
        ("toxic", pa.bool_()),
        ("redacted", pa.bool_()),
        ("state", pa.string()),
        ("country", pa.string()),
        ("hashed_ip", pa.string()),
        ("header", HEADER),
    ]
)
"""The schema of allenai/WildChat-1M's Parquet files, with fewer moderation fields (there: 18 categories and 7 scores)."""


def utterance(role: str, content: str | None) -> dict[str, Any]:
    extras = {"country": PRIVATE, "hashed_ip": PRIVATE, "state": PRIVATE, "header": {"user-agent": PRIVATE}, "toxic": False}
    return {"role": role, "content": content, **extras}


def conversation(name: str, *turns: tuple[str, str | None], **values: Any) -> dict[str, Any]:
    private = {"hashed_ip": PRIVATE, "header": {"accept-language": PRIVATE}, "country": PRIVATE, "model": "gpt-4"}
    return {"conversation_hash": name, "conversation": [utterance(*turn) for turn in turns], **private, **values}


def read_dicts(*records: dict[str, Any]) -> list[Row]:
    return list(wildchat_rows((f"record {i}", record) for i, record in enumerate(records)))


def write_parquet(path: Path, records: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(records, schema=TRUE_SCHEMA), path)


@pytest.mark.skipif(not REAL.is_file(), reason="STJ_TEST_DATA names no folder with wildchat_a/wildchat.jsonl")
def test_real_conversations_all_arrive_and_end_with_the_user() -> None:
    rows = list(read_rows(SourceConfig(path=str(REAL))))
    raw = [json.loads(line) for line in REAL.read_bytes().splitlines()]
    assert len(rows) == 281
    assert len({row.id for row in rows}) == 281
    assert [row.id for row in rows] == [record["conversation_hash"] for record in raw]
    assert [row.position for row in rows] == list(range(281))
    assert Counter(row.dropped for row in rows)[None] >= 279
    for row, record in zip(rows, raw, strict=True):
        if row.dropped is None:
            assert row.turns[-1].role == "user"
            assert [turn.content for turn in row.turns] == [turn["content"] for turn in record["conversation"]][
                : len(row.turns)
            ]
            assert len(row.turns) == len(record["conversation"]) - 1
    assert [row_from_dict(record) for record in rows_to_table(rows).to_pylist()] == rows


def test_the_true_parquet_schema_is_read_without_private_fields(tmp_path: Path) -> None:
    records = [
        conversation("a1", ("user", "2+2?"), ("assistant", "4"), language="English", toxic=False, redacted=True),
        conversation("b2", ("user", "hi"), ("assistant", "yes?"), ("user", "why"), ("assistant", "because")),
    ]
    write_parquet(tmp_path / "train-00000.parquet", records)
    first, second = read_rows(SourceConfig(path=str(tmp_path)))
    assert (first.id, first.language, first.toxic, first.redacted) == ("a1", "English", False, True)
    assert [(turn.role, turn.content) for turn in first.turns] == [("user", "2+2?")]
    assert [turn.content for turn in second.turns] == ["hi", "yes?", "why"]
    assert (second.language, second.toxic, second.redacted) == (None, None, None)
    assert PRIVATE not in repr([first, second])


def test_only_the_columns_that_are_used_leave_a_parquet_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [conversation("a1", ("user", "2+2?"))])
    [(_, record)] = read_files([tmp_path / "a.parquet"], WILDCHAT_FIELDS)
    assert sorted(record) == ["conversation", "conversation_hash", "language", "redacted", "toxic"]
    assert sorted(record["conversation"][0]) == ["content", "role"]


def test_a_repeated_hash_is_a_tombstone_with_a_new_id() -> None:
    same = conversation("a", ("user", "x"))
    rows = read_dicts(same, same, conversation("a-3", ("user", "y")), same, same)
    assert [row.dropped for row in rows] == [None, "duplicate", None, "duplicate", "duplicate"]
    assert len({row.id for row in rows}) == 5
    assert rows[1].id == "a-1"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "no_user_turn"),
        ([("assistant", "hello")], "no_user_turn"),
        ([("user", " \n")], "empty_turn"),
        ([("user", None)], "empty_turn"),
        ([("user", "x"), ("assistant", ""), ("user", "y")], "empty_turn"),
        ([("user", "x"), ("user", "y")], "turn_order"),
        ([("tool", "x"), ("user", "y")], "turn_order"),
        ([("user", "x"), ("assistant", "")], None),
        ([("system", "be kind"), ("user", "x")], None),
    ],
)
def test_turns_that_fit_no_chat_template_are_dropped_with_their_reason(
    turns: list[tuple[str, str | None]], reason: str | None
) -> None:
    [row] = read_dicts(conversation("a", *turns))
    assert row.dropped == reason


def test_a_null_conversation_and_a_null_hash_are_rows_too() -> None:
    [row] = read_dicts({"conversation_hash": None, "conversation": None})
    assert (row.id[:4], row.dropped) == ("row-", "no_user_turn")


def test_conversations_without_a_hash_have_ids_of_their_content() -> None:
    texts = ["x", "y", "x"]
    rows = read_dicts(*({**conversation("", ("user", text)), "conversation_hash": None} for text in texts))
    assert [row.dropped for row in rows] == [None] * 3
    assert len({row.id for row in rows}) == 3
    assert rows[2].id == f"{rows[0].id}-2"


@pytest.mark.parametrize("content", [5, True, ["x"], {"text": "x"}, [{"type": "text", "text": "x"}]])
def test_content_that_is_not_text_is_a_tombstone_with_its_reason(content: Any) -> None:
    bad = conversation("a", ("user", "x"), ("assistant", content), ("user", "y"))
    rows = read_dicts(bad, conversation("b", ("user", "x")), bad)
    assert [row.dropped for row in rows] == ["content_not_text", None, "duplicate"]
    assert (rows[0].detail or "").startswith(f"record 0: field 'conversation[].content' is {type(content).__name__} ")


def test_nul_lone_surrogates_and_a_megabyte_survive_arrow(tmp_path: Path) -> None:
    line = r'{"conversation_hash": "h\ud800", "conversation": [{"role": "user", "content": "a\u0000b\udfff \ud83d\ude00 %s"}]}'
    (tmp_path / "a.jsonl").write_text(line % ("x" * 1_000_000), encoding="utf-8")
    [row] = read_rows(SourceConfig(path=str(tmp_path / "a.jsonl")))
    assert row.id == "h\ufffd"
    assert row.turns[0].content.startswith("a\ufffdb\ufffd \U0001f600 xxx")
    [back] = rows_to_table([row]).to_pylist()
    assert row_from_dict(back) == row


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"conversation_hash": 7, "conversation": []}, "'conversation_hash' is int 7; it must be a string"),
        ({"conversation_hash": "a", "conversation": [], "toxic": "no"}, "'toxic' is str 'no'; it must be true, false or null"),
        ({"conversation_hash": "heldout/a", "conversation": []}, "reserved for held-out pairs"),
    ],
)
def test_a_wrong_type_is_a_tombstone_with_its_position(record: dict[str, Any], message: str) -> None:
    bad, good = read_dicts(record, conversation("a", ("user", "x")))
    assert (bad.dropped, good.dropped) == ("bad_field", None)
    assert message in str(bad.detail)
    assert str(bad.detail).startswith("record 0: ")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"role": "user"}, "it must be a string or a list of {role, content}"),
        ("[{'role': 'user'}]", "'conversation' is one text, not a list"),
        ([["user", "x"]], "it must be an object with role and content"),
        ([{"role": "user"}], "it must be an object with role and content"),
        ([{"role": 5, "content": "x"}], "'conversation[].role' is int 5; it must be a string"),
    ],
)
def test_a_bad_conversation_is_a_tombstone_and_the_next_row_is_read(value: Any, message: str) -> None:
    bad, good = read_dicts({"conversation_hash": "a", "conversation": value}, conversation("b", ("user", "x")))
    assert bad.dropped == "content_not_text"
    assert bad.detail is not None
    assert bad.detail.startswith("record 0: ")
    assert message in bad.detail
    assert good.dropped is None


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", ""]), st.none() | st.text()), max_size=6))
def test_any_dialogue_becomes_a_row_that_arrow_takes(turns: list[tuple[str, str | None]]) -> None:
    [row] = read_dicts(conversation("a", *turns))
    assert rows_to_table([row]).num_rows == 1
    assert row.dropped is not None or row.turns[-1].role == "user"
