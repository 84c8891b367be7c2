"""Local files: the formats, the identities, and one clear line for each kind of bad file."""

import contextlib
import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.config import SourceConfig
from stj.errors import SourceError
from stj.rows import rows_to_table
from stj.sources import check_source, read_at, read_located, read_rows, source_identity, source_size
from stj.sources.directory import files_at
from stj.sources.files import read_files
from stj.sources.records import Fields

TEXTS = ["What is 2+2?", "line one\nline two, with a comma", 'says "no"', "a\u2028b\u0085c\r\nd"]


def config(path: Path, **values: object) -> SourceConfig:
    return SourceConfig(kind="instructions", path=str(path), **values)  # type: ignore[arg-type]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    lines = [json.dumps({"instruction": text, "extra": 1}, ensure_ascii=False) for text in texts]
    path.write_bytes("\n".join(lines).encode())
    return path


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["extra", "instruction"], *[["1", text] for text in texts]])
    return path


def write_parquet(path: Path, texts: list[str]) -> Path:
    pq.write_table(pa.table({"extra": [1] * len(texts), "instruction": texts}), path)
    return path


def texts_of(source: SourceConfig) -> list[str]:
    return [row.turns[0].content for row in read_rows(source)]


def refusal(source: SourceConfig) -> str:
    with pytest.raises(SourceError) as caught:
        list(read_rows(source))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "write"), [("pool.jsonl", write_jsonl), ("pool.csv", write_csv), ("pool.parquet", write_parquet)]
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, write: object) -> None:
    path = write(tmp_path / name, TEXTS)  # type: ignore[operator]
    rows = list(read_rows(config(path)))
    assert [row.turns[0].content for row in rows] == TEXTS
    assert [row.id for row in rows] == [row.id for row in read_rows(config(write_jsonl(tmp_path / "same.jsonl", TEXTS)))]
    assert [row.position for row in rows] == [0, 1, 2, 3]


def test_a_directory_is_its_files_in_order_of_name(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", ["third"])
    write_csv(tmp_path / "a.csv", ["first", "second"])
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / ".cache").mkdir()
    write_jsonl(tmp_path / ".cache" / "c.jsonl", ["hidden"])
    assert texts_of(config(tmp_path)) == ["first", "second", "third"]
    assert texts_of(config(tmp_path, limit=2)) == ["first", "second"]


def test_rows_stream_and_a_limit_reads_nothing_after_it(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["fine"])
    path.write_bytes(path.read_bytes() + b"\nnot json\n")
    assert texts_of(config(path, limit=1)) == ["fine"]


def test_a_field_longer_than_csv_allows_by_default(tmp_path: Path) -> None:
    assert texts_of(config(write_csv(tmp_path / "a.csv", ["x" * 200_000]))) == ["x" * 200_000]


def test_a_field_with_a_dot_in_its_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a.b": ["x"], "a.c": ["y"]}), tmp_path / "a.parquet")
    assert texts_of(config(tmp_path / "a.parquet", instruction_field="a.b")) == ["x"]


def test_ids_are_taken_from_their_field(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "x", "key": "../../etc"}\n\n{"instruction": "y", "key": 7}\n')
    assert [row.id for row in read_rows(config(path, id_field="key"))] == ["../../etc", "7"]


def test_a_dialogue_may_stand_for_an_instruction(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]
    path.write_text(json.dumps({"instruction": turns}) + '\n{"instruction": null}\n{"instruction": ""}\n')
    dialogue, null, empty = read_rows(config(path))
    assert [turn.content for turn in dialogue.turns] == ["x", "y", "z"]
    assert (null.dropped, empty.dropped) == ("no_user_turn", "empty_turn")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"instruction\n", "holds no rows"),
        ("a.txt", b"x", "cannot read a '.txt' file; give a file in .jsonl"),
        ("a.csv", b"prompt,b\nx,y\n", "no field 'instruction'; the fields there are 'prompt', 'b'"),
        ("a.csv", b'instruction\n"open', "not CSV"),
        ("a.csv", b"instruction,b,instruction\nx,1,y\n", "column 'instruction' comes twice"),
        ("a.json", b'[{"instruction": "x", "instruction": "y"}]', "field 'instruction' comes twice"),
        ("a.csv", b"\xff,instruction\nx,y\n", "not UTF-8 text"),
        ("a.jsonl.gz", gzip.compress(b'{"instruction": "x"}\n' * 9_999)[:-12], "cannot be read"),
        ("a.parquet", b"PAR1 but not really", "not a Parquet file"),
        ("a.parquet", b"", "not a Parquet file"),
    ],
)
def test_one_clear_line_for_each_bad_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refusal(config(tmp_path / name))


GOOD = b'{"instruction": "fine"}'


@pytest.mark.parametrize(
    ("name", "line", "reason", "message"),
    [
        ("a.jsonl", b'{"instruction": oops}', "not_readable", "a.jsonl, line 2, column 17: not JSON"),
        ("a.jsonl", b'{"instruction": "cut', "not_readable", "line 2, column 21: not JSON"),
        ("a.jsonl", b"\0" * 512, "not_readable", "line 2, column 1: not JSON"),
        ("a.jsonl", GOOD[:9] + GOOD, "not_readable", "line 2, column 12: not JSON"),
        ("a.jsonl", b'["x"]', "not_readable", "line 2: a JSON list"),
        ("a.jsonl", b'{"instruction": ' + b"[" * 100_000, "not_readable", "line 2: JSON that Python cannot hold"),
        ("a.jsonl", b'{"instruction": ' + b"9" * 5_000 + b"}", "not_readable", "line 2: JSON that Python cannot hold"),
        (
            "a.jsonl",
            b'{"instruction": "\xff"}',
            "not_readable",
            "line 2: not UTF-8 text (invalid start byte); convert the file",
        ),
        ("a.jsonl", b'{"instruction": "x", "instruction": "y"}', "not_readable", "line 2: field 'instruction' comes twice"),
        (
            "a.jsonl",
            b'{"instructions": "x"}',
            "no_field",
            "line 2: no field 'instruction'; the fields there are 'instructions'; did",
        ),
        ("a.csv", b"\xff", "not_readable", "line 3: not UTF-8 text"),
        ("a.csv", b"x,y", "not_readable", "line 3: more values than the header has names (1)"),
        ("a.json", b'["x"]', "not_readable", "item 1: a JSON list; an object is needed"),
        ("a.json", b'{"b": 1}', "no_field", "item 1: no field 'instruction'; the fields there are 'b'"),
    ],
)
def test_a_line_that_cannot_be_read_is_a_tombstone_and_its_repair_changes_no_other_row(
    tmp_path: Path, name: str, line: bytes, reason: str, message: str
) -> None:
    good = [b'{"instruction": "first"}', b'{"instruction": "repaired"}', GOOD, GOOD]
    if name == "a.csv":
        good = [json.loads(text)["instruction"].encode() for text in good]

    def write(lines: list[bytes]) -> SourceConfig:
        whole = {"a.jsonl": b"\n".join(lines), "a.csv": b"instruction\n" + b"\n".join(lines)}
        (tmp_path / name).write_bytes(whole.get(name, b"[" + b",".join(lines) + b"]"))
        return config(tmp_path / name)

    first, bad, *others = read_rows(write([good[0], line, *good[2:]]))
    assert (bad.position, bad.turns, bad.dropped) == (1, (), reason)
    assert message in str(bad.detail)
    repaired = list(read_rows(write(good)))
    assert [first, *others] == [repaired[0], *repaired[2:]]
    assert all(row.dropped is None for row in repaired)
    assert source_size(write([good[0], line, *good[2:]])) == 4


def test_other_readers_refuse_a_line_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD + b"\n{}\n")
    with pytest.raises(SourceError, match=r"a.jsonl, line 2: no field 'instruction'; the fields there are none"):
        list(read_files([tmp_path / "a.jsonl"], Fields(required=("instruction",))))


def test_text_of_a_parquet_file_that_is_not_utf_8_is_a_tombstone(tmp_path: Path) -> None:
    texts = pa.array([b"x", b"\xff", b"y"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"instruction": texts}), tmp_path / "a.parquet")
    rows = list(read_rows(config(tmp_path / "a.parquet")))
    assert [row.dropped for row in rows] == [None, "not_readable", None]
    assert rows[1].detail == f"{tmp_path}/a.parquet, row 1: not UTF-8 text (invalid bytes); convert the file to UTF-8"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", b"prompt\nx\n", "b.csv: no field 'instruction'; the fields there are 'prompt'"),
        ("b.csv", b'instruction\nx\n"open\nx\n', "b.csv, line 4: not CSV"),
        ("b.csv.gz", gzip.compress(b"instruction\n" * 9_999)[:-9], "b.csv.gz: cannot be read"),
        ("b.jsonl.gz", gzip.compress(GOOD * 9_999)[:-9], "b.jsonl.gz: cannot be read"),
        ("b.json", b'[{"instruction": "x"}, {', "b.json, line 1, column 25: not JSON"),
        ("b.parquet", b"PAR1", "b.parquet: not a Parquet file"),
    ],
)
def test_a_fault_behind_the_first_rows_is_known_before_a_run_starts(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["x"])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as caught:
        check_source(config(tmp_path))
    assert message in str(caught.value)


def test_a_parquet_file_without_the_column_is_known_before_a_run_starts(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["x"])
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet: no field 'instruction'"):
        check_source(config(tmp_path))


def test_the_id_of_a_row_without_one_depends_on_its_content_alone(tmp_path: Path) -> None:
    def ids(*texts: str) -> dict[str, list[str]]:
        rows = list(read_rows(config(write_jsonl(tmp_path / "a.jsonl", list(texts)))))
        return {text: [row.id for row in rows if row.instruction == text] for text in texts}

    before, after = ids("a", "b", "a", "c"), ids("new", "c", "a", "a")
    assert after["a"] == before["a"] == [before["a"][0], f"{before['a'][0]}-2"]
    assert after["c"] == before["c"]
    assert len({*before["a"], *before["b"], *before["c"], *after["new"]}) == 5
    assert before["b"][0].startswith("row-")


def test_a_field_that_comes_twice_is_refused_only_if_it_matters(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"instruction,,b,b,\nx,1,2,3,4\n")
    (tmp_path / "a.jsonl").write_bytes(b'{"instruction": "x", "b": NaN, "b": NaN}\n')
    assert texts_of(config(tmp_path / "a.csv")) == texts_of(config(tmp_path / "a.jsonl")) == ["x"]
    twice = pa.table([["x"], ["y"]], names=["instruction", "instruction"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert "column 'instruction' comes twice" in refusal(config(tmp_path / "a.parquet"))


def test_no_name_is_not_the_working_directory() -> None:
    with pytest.raises(SourceError, match="names no file"):
        files_at("", "FILE")


def test_a_missing_file_is_reported_at_once_with_near_names(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "instructions.jsonl", ["x"])
    with pytest.raises(SourceError, match=r"no such file or directory; .* has 'instructions\.jsonl'"):
        read_rows(config(tmp_path / "instruction.jsonl"))
    with pytest.raises(SourceError, match="no such file"):
        source_identity(config(tmp_path / "instruction.jsonl"))


def test_a_missing_relative_file_is_no_hub_id() -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_rows(config(Path("data/missing.jsonl")))


def test_directories_and_dangling_links_are_skipped(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["x"])
    (tmp_path / "b.jsonl").mkdir()
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "nowhere")
    assert texts_of(config(tmp_path)) == ["x"]
    assert source_size(config(tmp_path)) == 1


def test_an_empty_directory(tmp_path: Path) -> None:
    assert "holds no file to read" in refusal(config(tmp_path))


def test_a_parquet_file_without_the_field(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ["x"])
    assert "no field 'prompt'; the fields there are 'extra', 'instruction'" in refusal(config(path, instruction_field="prompt"))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ('"a" "a"', "line 2: field 'id' is 'a', which an earlier row has too"),
        ('1 "1"', "which an earlier row has too"),
        ('""', "and not empty"),
        ("null", "it must be a string or a whole number"),
        ("true", "it must be a string or a whole number"),
        ('"heldout/a"', "reserved for held-out pairs"),
        ('"unread/00000001"', "reserved for rows that cannot be read"),
        ('"repeat/2/a"', "reserved for repeated examples"),
    ],
)
def test_a_row_with_a_bad_id_is_a_tombstone(tmp_path: Path, ids: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"instruction": "x", "id": {row_id}}}\n' for row_id in ids.split()))
    row = list(read_rows(config(path, id_field="id")))[-1]
    assert row.dropped == "bad_field"
    assert message in str(row.detail)


def test_the_identity_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    first = source_identity(config(write_jsonl(tmp_path / "a.jsonl", ["x"])))
    assert source_identity(config(write_jsonl(tmp_path / "b.jsonl", ["x"]))) == first
    assert source_identity(config(write_jsonl(tmp_path / "c.jsonl", ["y"]))) != first


def test_the_size_counts_without_parsing(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["x", "y"])
    write_parquet(tmp_path / "b.parquet", ["x"] * 5)
    assert source_size(config(tmp_path)) == 7
    assert source_size(config(tmp_path, limit=3)) == 3
    assert source_size(SourceConfig(path="allenai/WildChat-1M")) is None
    (tmp_path / "c.parquet").write_bytes(b"torn")
    with pytest.raises(SourceError, match="not a Parquet file"):
        source_size(config(tmp_path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(codec=None), min_size=1), min_size=1, max_size=5))
def test_any_text_of_a_jsonl_file_arrives_and_fits_arrow(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "any.jsonl"
    path.write_text("\n".join(json.dumps({"instruction": text}) for text in texts))
    rows = list(read_rows(config(path)))
    assert len(rows) == len(texts)
    assert rows_to_table(rows).num_rows == len(texts)
    for row, text in zip(rows, texts, strict=True):
        if "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text):
            assert row.turns[0].content == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from([".jsonl", ".csv", ".parquet"]), content=st.binary(max_size=200))
def test_any_bytes_are_rows_or_one_clear_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(SourceError):
        list(read_rows(config(path)))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_of_a_parquet_file_with_checksums_gives_fewer_or_other_rows(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("pool") / "pool.parquet"
    rows = [{"instruction": f"Question {number}?"} for number in range(90)]
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=30, write_page_checksum=True)
    written = bytearray(file.read_bytes())
    pages = pq.read_metadata(file).row_group(0).column(0).data_page_offset
    written[data.draw(st.integers(pages + 40, len(written) // 2))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(written)
    try:
        found = [record for _, record in read_files([file], Fields(required=("instruction",)))]
    except SourceError:
        return
    assert len(found) == len(rows)


def test_rows_at_positions_are_those_of_the_whole_source(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "pool.jsonl", ["same", "other", "same", "", "last"])
    path.write_bytes(path.read_bytes().replace(b"\n", b'\n\n{"instruction": "to\n', 1) + b'\n{"instruction": 7}')
    source = config(path)
    located = list(read_located(source))
    assert [row.dropped for _, row in located] == [None, "not_readable", None, None, "empty_turn", None, "content_not_text"]
    for position, (place, row) in enumerate(located):
        [(where, alone)] = read_at(source, {position})
        assert (where, replace(alone, id=row.id)) == (place, row)
    assert [row.position for _, row in read_at(source, {5, 0, 99})] == [0, 5]
    assert list(read_at(replace(source, limit=2), {2})) == list(read_at(source, set())) == []
