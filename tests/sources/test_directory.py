"""Directories as data: links, formats in any case, splits, configs, odd names, and what counts for their identity."""

import gzip
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import HeldoutConfig, SourceConfig
from stj.errors import SourceError
from stj.sources import read_rows, source_identity, source_size
from stj.sources.directory import files_at, split_of
from stj.sources.files import read_files
from stj.sources.heldout import heldout_identity, read_pairs
from stj.sources.records import Fields
from tests.cpu_time import in_proportion

ODD_NAMES = (
    *(
        "数据",
        "größe",
        "e\u0301",
        "👩\u200d🚀",
        "a b",
        " a",
        "a'b",
        'a"b',
        "a%20b",
        "a#b",
        "a?b",
        "a:b",
        "a;b",
        "a&b",
        "a\\b",
        "-rf",
    ),
    *("[x]", "*", "{a,b}", "$HOME", "~", "a\nb", "a\tb", "x" * 240, "${x}", "!x", "(a)", "a=b", "a,b", "\u202eb", "ü" * 120),
)


def source(path: Path, **values: object) -> SourceConfig:
    return SourceConfig(kind="instructions", path=str(path), **values)  # type: ignore[arg-type]


def texts(path: Path, **values: object) -> list[str]:
    return [row.turns[0].content for row in read_rows(source(path, **values))]


def write(path: Path, *instructions: str) -> Path:
    """A file of instructions, in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": text} for text in instructions]
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    content = "\n".join(["instruction", *instructions] if name.endswith(".csv") else lines)
    content = json.dumps(rows) if name.endswith(".json") else content
    path.write_bytes(gzip.compress(content.encode()) if path.name.lower().endswith(".gz") else content.encode())
    return path


FORMATS = (
    "a.jsonl",
    "a.JSONL",
    "a.jsonl.gz",
    "a.JSONL.GZ",
    "a.ndjson",
    "a.ndjson.gz",
    "a.json",
    "a.Json.gz",
    "a.csv",
    "a.csv.gz",
)


@pytest.mark.parametrize("name", [*FORMATS, "a.CSV", "a.parquet", "a.PARQUET"])
def test_every_format_is_read_in_any_case_alone_and_in_a_directory(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "pool" / name, "x", "数")
    assert texts(file) == ["x", "数"]
    assert texts(tmp_path / "pool") == ["x", "数"]
    assert source_size(source(tmp_path / "pool")) in {2, 3}  # the head of a .csv counts


def test_a_json_file_may_hold_one_object_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"instruction": "x"}\n{"instruction": "y"}\n')
    assert texts(tmp_path) == ["x", "y"]
    assert source_size(source(tmp_path)) == 2


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_any_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    write(folder / f"{name[:100]}.jsonl", "x")
    write(tmp_path / "neighbour" / "b.jsonl", "not this one")
    assert texts(folder) == ["x"]
    assert texts(folder / f"{name[:100]}.jsonl") == ["x"]
    assert texts(tmp_path, config_name=name) == ["x"]


def test_a_name_that_no_disk_can_hold_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.path=.*cannot be read: File name too long"):
        texts(tmp_path / ("x" * 300))


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "deep" / "b.jsonl", "b")
    pool = tmp_path / "pool"
    write(pool / "a.jsonl", "a")
    (pool / "linked").symlink_to(tmp_path / "elsewhere")
    (pool / "again").symlink_to(tmp_path / "elsewhere")
    (pool / "loop").symlink_to(pool)
    (pool / "c.jsonl").symlink_to(write(tmp_path / "blobs" / "0123", "c").with_name("0123"))
    (pool / "broken.jsonl").symlink_to(tmp_path / "gone")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path)
    (tmp_path / "blobs" / "0123").write_text('{"instruction": "c"}')
    assert sorted(texts(pool)) == ["a", "b", "c"]
    (tmp_path / "link").symlink_to(pool)
    assert sorted(texts(tmp_path / "link")) == ["a", "b", "c"]


def test_what_is_left_out_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.jsonl", "a")
    (tmp_path / "dataset_infos.json").write_text("{}")
    for name in ("notes.docx", "b\x1b[2J.txt", ".hidden.jsonl"):
        (tmp_path / name).write_text("no data")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with caplog.at_level(logging.WARNING):
        assert texts(tmp_path) == ["a"]
        source_identity(source(tmp_path))
    (message,) = caplog.messages
    assert message == f"{tmp_path}: 1 files are read, and 4 are not: b\\x1b[2J.txt, dataset_infos.json, notes.docx, pipe.jsonl"


def test_a_folder_that_may_not_be_read_is_an_error_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jsonl", "a")
    (tmp_path / "closed").mkdir(mode=0)
    if os.access(tmp_path / "closed", os.R_OK):
        pytest.skip("root may read every folder")
    with pytest.raises(SourceError, match="Permission denied"):
        texts(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/train_sft-00000-of-00002.parquet", "train_sft"),
        ("data/dev-00000-of-00001.parquet", "validation"),
        ("test/a.jsonl", "test"),
        ("my-test/a.jsonl", "test"),
        ("valid_1.csv", "validation"),
        ("my_train_file.jsonl.gz", "train"),
        ("train/eval.jsonl", "train"),
        ("evaluation.JSONL", "test"),
        ("training1.jsonl", "train"),
        ("trainer.jsonl", None),
        ("contest.jsonl", None),
        ("pool.jsonl", None),
        ("a-00000-of-00001.jsonl", "a"),
    ],
)
def test_names_give_splits(name: str, split: str | None) -> None:
    assert split_of(Path(name)) == split


def test_a_split_of_a_directory_is_read_and_another_one_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number in range(2):
            write(tmp_path / "data" / f"{split}-0000{number}-of-00002.parquet", f"{split}{number}")
    write(tmp_path / "extra.jsonl", "extra")
    assert texts(tmp_path) == ["train0", "train1"]
    assert texts(tmp_path, split="test") == texts(tmp_path, split="eval") == ["test0", "test1"]
    assert len(texts(tmp_path, split="all")) == 5
    with pytest.raises(
        SourceError, match=r"no split 'dev' \(source.split\); its splits are test, train. 'all' reads every file"
    ):
        texts(tmp_path, split="dev")
    write(tmp_path / "whole" / "a.jsonl", "a")
    assert texts(tmp_path / "whole") == ["a"]
    with pytest.raises(SourceError, match=r"no split 'test' .*no file's name has a split, so all is 'train'"):
        texts(tmp_path / "whole", split="test")
    assert texts(write(tmp_path / "test.jsonl", "one file")) == ["one file"]


def test_a_config_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "main" / "train.jsonl", "main")
    write(tmp_path / "socratic" / "train.jsonl", "socratic")
    assert texts(tmp_path, config_name="socratic") == ["socratic"]
    with pytest.raises(
        SourceError, match=r"no folder of the config 'x' \(source.config_name\); its folders are main, socratic"
    ):
        texts(tmp_path, config_name="x")
    with pytest.raises(SourceError, match="a file has no configs"):
        texts(tmp_path / "main" / "train.jsonl", config_name="main")
    with pytest.raises(SourceError, match="no folder of the config"):
        texts(tmp_path, config_name="../main")


def _readme(pool: Path) -> None:
    (pool / "README.md").write_text("new")


def _cache(pool: Path) -> None:
    write(pool / ".cache" / "huggingface" / "a.jsonl", "hidden")
    write(pool / ".git" / "a.jsonl", "hidden")
    write(pool / ".a.jsonl", "hidden")


def _other_split(pool: Path) -> None:
    write(pool / "test.jsonl", "other")


def _touched(pool: Path) -> None:
    os.utime(pool / "train.jsonl")


@pytest.mark.parametrize("change", [_readme, _cache, _other_split, _touched])
def test_what_is_not_read_changes_no_identity(tmp_path: Path, change: Callable[[Path], None]) -> None:
    write(tmp_path / "train.jsonl", "a")
    before = source_identity(source(tmp_path))
    change(tmp_path)
    assert source_identity(source(tmp_path)) == before


def test_what_is_read_changes_the_identity_at_once(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", "a")
    write(tmp_path / "moved" / "train.jsonl", "a")
    identities = [source_identity(source(tmp_path / "moved"))]
    write(tmp_path / "moved" / "train.jsonl", "b")  # the same length, perhaps in the same tick of the clock
    identities.append(source_identity(source(tmp_path / "moved")))
    write(tmp_path / "moved" / "train2.jsonl", "c")
    identities.append(source_identity(source(tmp_path / "moved")))
    assert len(set(identities)) == 3


def test_held_out_pairs_may_lie_in_a_directory_and_all_of_it_is_read(tmp_path: Path) -> None:
    for name in ("train.ndjson", "test.JSONL"):
        (tmp_path / name).write_text(json.dumps({"instruction": name, "chosen": "a", "rejected": "b"}))
    config = HeldoutConfig(path=str(tmp_path))
    assert len(list(read_pairs(config))) == 2
    before = heldout_identity(config)
    (tmp_path / "LICENSE").write_text("x")
    assert heldout_identity(config) == before


@given(
    st.lists(st.sampled_from(["train", "dev", "x", "a b", "数据"]), max_size=3),
    st.sampled_from(["a", "test", "train-00001-of-00002"]),
)
def test_each_file_is_in_exactly_one_split(tmp_path_factory: pytest.TempPathFactory, folders: list[str], stem: str) -> None:
    root = tmp_path_factory.mktemp("pool")
    write(root.joinpath(*folders) / f"{stem}.jsonl", "a")
    write(root / "valid.jsonl", "b")
    every = files_at(str(root), "key").files
    names = {split_of(file.relative_to(root)) for file in every} - {None}
    read = [file for name in names for file in files_at(str(root), "key", split=str(name)).files]
    assert len(read) == len(set(read)) == sum(split_of(file.relative_to(root)) is not None for file in every)


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zeros.jsonl").symlink_to("/dev/zero")
    (tmp_path / "lost.jsonl").symlink_to("nowhere")
    for name, reason in (
        ("pipe", "neither a file"),
        ("zeros", "neither a file"),
        ("lost", "a link to nowhere, where nothing is"),
    ):
        with pytest.raises(SourceError, match=reason):
            files_at(str(tmp_path / f"{name}.jsonl"), "source.path")


def test_a_home_of_nobody_is_no_such_file() -> None:
    with pytest.raises(SourceError, match="no such file or directory"):
        files_at("~no-such-user/pool.jsonl", "source.path")


@pytest.mark.parametrize("name", ["pool.json", "pool.jsonl", "pool.csv", "pool.json.gz"])
def test_text_in_another_encoding_is_one_line_from_every_reader(tmp_path: Path, name: str) -> None:
    content = '[{"instruction": "größe"}]'.encode("latin-1")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(SourceError, match="not UTF-8 text"):
        list(read_files([tmp_path / name], Fields(required=("instruction",))))
    if ".json" in name and "jsonl" not in name:  # counted by reading it
        with pytest.raises(SourceError, match="not UTF-8 text"):
            source_size(source(tmp_path / name))


@pytest.mark.slow
def test_the_time_for_a_directory_is_in_proportion_to_its_files(tmp_path: Path) -> None:
    def folder_of(files: int) -> Path:
        folder = tmp_path / str(files)
        folder.mkdir()
        for number in range(files):
            (folder / f"{number}.jsonl").touch()
        return folder

    assert in_proportion(lambda folder: files_at(str(folder), "source.path"), folder_of(250), folder_of(4000), times=16)
