"""Overlap with benchmarks: 13 words in a row, or a whole shorter text, of any file, with any case and punctuation."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.config import HeldoutConfig, SourceConfig
from stj.errors import SourceError
from stj.rows import Row, Turn
from stj.sources import read_rows
from stj.sources.overlap import Place, drop_overlaps, places, places_identity, read_texts
from tests.conftest import make_row

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def bench(tmp_path: Path, *records: Any) -> list[Place]:
    path = tmp_path / "bench.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    return [Place("source.keep_out", str(path))]


def dropped(kept_out: list[Place], *texts: str) -> list[str | None]:
    rows = [make_row(position, text) for position, text in enumerate(texts)]
    return [row.detail if row.dropped == "benchmark_overlap" else None for row in drop_overlaps(rows, kept_out)]


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not(tmp_path: Path) -> None:
    kept_out = bench(tmp_path, {"id": 7, "prompt": f"Zero, {THIRTEEN.replace(' ', ', ')}!", "score": None})
    message = f"{kept_out[0].location}: {THIRTEEN}"
    twelve = THIRTEEN.rpartition(" ")[0]
    assert dropped(kept_out, f"Say: {THIRTEEN.upper()} again", twelve, f"{twelve} and thirteen") == [message, None, None]


@pytest.mark.parametrize(
    "record",
    [
        {"a": THIRTEEN},
        {"turns": [{"role": "user", "content": THIRTEEN}]},
        {"prompt": ["hi", THIRTEEN]},
        {"a": {"b": [[{"c": THIRTEEN}]]}},
    ],
)
def test_texts_count_at_any_depth(tmp_path: Path, record: Any) -> None:
    assert dropped(bench(tmp_path, {"x": 1, "y": "short"}, record), THIRTEEN) != [None]


def test_every_kind_of_file_and_a_directory_of_them(tmp_path: Path) -> None:
    texts = [THIRTEEN.replace("one", name) for name in ("jsonl", "json", "csv", "parquet", "absent")]
    (tmp_path / "a.jsonl").write_text(json.dumps({"q": texts[0]}))
    (tmp_path / "b.json").write_text(json.dumps([{"q": texts[1]}]))
    (tmp_path / "c.csv").write_text(f"id,q\n1,{texts[2]}\n")
    pq.write_table(pa.table({"id": [1], "q": [[{"content": texts[3]}]]}), tmp_path / "d.parquet")
    overlaps = dropped([Place("source.keep_out", str(tmp_path))], *texts)
    assert [text is not None for text in overlaps] == [True] * 4 + [False]


def test_what_an_assistant_says_does_not_count(tmp_path: Path) -> None:
    turns = (Turn(role="user", content="hi"), Turn(role="assistant", content=THIRTEEN), Turn(role="user", content="and?"))
    [row] = drop_overlaps([make_row(0, turns=turns)], bench(tmp_path, {"a": THIRTEEN}))
    assert row.dropped is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.text("abc_é1", min_size=1, max_size=3), max_size=30))
def test_a_text_overlaps_itself_if_it_has_thirteen_words_or_sixteen_characters(tmp_path: Path, words: list[str]) -> None:
    overlaps = dropped(bench(tmp_path, {"text": " ".join(words)}), ". ".join(words) or "x")
    assert [text is not None for text in overlaps] == [len(words) >= 13 or len(" ".join(words)) >= 16]


@pytest.mark.parametrize(
    ("text", "copy", "overlaps"),
    [
        ("How did US states get their names?", "how did us states get their names", True),
        ("How did US states get their names?", "Tell me: how did US states get their names?", False),
        ("Tell me: how did US states get their names?", "How did US states get their names?", False),
        ("什么是人工智能以及它是如何改变世界的", "什么是人工智能以及它是如何改变世界的?", True),
        ("What is AI?", "What is AI?", False),
        ("Yes, please.", "Yes, please.", False),
    ],
)
def test_a_short_instruction_overlaps_a_whole_text(tmp_path: Path, text: str, copy: str, overlaps: bool) -> None:
    [found] = dropped(bench(tmp_path, {"id": "abc", "turns": [text]}), copy)
    assert (found is not None) == overlaps


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), other=st.text(min_size=1))
def test_no_text_is_too_odd(tmp_path: Path, text: str, other: str) -> None:
    dropped(bench(tmp_path, {"text": text}), other)


def test_dropped_rows_keep_their_reason(tmp_path: Path) -> None:
    row = make_row(0, THIRTEEN).drop("duplicate")
    assert list(drop_overlaps([row], bench(tmp_path, {"a": THIRTEEN}))) == [row]


def test_nothing_to_keep_out_leaves_rows_as_they_are() -> None:
    rows: list[Row] = [make_row(0, THIRTEEN)]
    assert list(drop_overlaps(rows, [])) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "source.keep_out={}: holds no texts; name a file with the texts to keep out"),
        ("a.jsonl", '{"id": 7}', "source.keep_out={}: holds no texts"),
        ("a.jsonl", '{"q": "x"}\n{"q": oops}', "{}, line 2, column 7: not JSON"),
        ("a.jsonl", '{"q": ' + "[" * 100_000, "{}, line 1: JSON that Python cannot hold"),
        ("a.txt", "x", "source.keep_out={}: cannot read a '.txt' file"),
        ("a.parquet", "x", "{}: not a Parquet file"),
    ],
)
def test_one_clear_line_for_each_bad_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SourceError) as caught:
        list(read_texts(Place("source.keep_out", str(path))))
    assert message.format(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_by_its_key(tmp_path: Path) -> None:
    kept_out = places(SourceConfig(keep_out=(f"{tmp_path}/no.jsonl",)), HeldoutConfig())
    with pytest.raises(SourceError, match=r"source\.keep_out=.*no\.jsonl: no such file"):
        places_identity(kept_out)


@pytest.mark.slow
def test_real_benchmarks_keep_out_their_own_questions_and_hardly_any_conversation(test_data: Path) -> None:
    source = SourceConfig(
        path=str(test_data / "wildchat_a" / "wildchat.jsonl"),
        keep_out=(str(test_data / "arena_hard_v01"), str(test_data / "judgebench_a" / "judgebench.jsonl")),
    )
    lines = (test_data / "judgebench_a" / "judgebench.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    planted = [make_row(1000 + index, f"Please help me. {question}") for index, question in enumerate(questions)]
    rows = list(drop_overlaps([*read_rows(source), *planted], places(source, HeldoutConfig())))
    overlaps = [row.id for row in rows if row.dropped == "benchmark_overlap"]
    assert sum(row_id.startswith("row-1") for row_id in overlaps) == len(planted) > 20
    assert len(overlaps) - len(planted) < 5
