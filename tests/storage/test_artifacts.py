"""Artifacts: their four states; writes are atomic; nothing of another config is overwritten without --overwrite."""

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.errors import ArtifactError, ConfigError, StjError, StorageFailed
from stj.rows import Category, Judgment, Pair, Row, Turn, row_from_dict, rows_to_table
from stj.storage.artifacts import Artifact, differences, fingerprint, read_artifact
from stj.storage.folder import Folder, content_identity, explain_write_failure
from tests.conftest import make_row
from tests.sources.test_directory import ODD_NAMES


def artifact_at(path: Path, **key: object) -> Artifact:
    return Artifact(Folder.at(path), {"step": "test", **key})


def test_a_step_is_absent_then_partial_then_done(tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path / "a")
    assert artifact.state() == ("absent", [])
    assert artifact.begin()
    artifact.write_part("part-1", rows_to_table([make_row(0)]))
    assert artifact.state() == ("partial", [])
    artifact.finish(dropped={})
    assert artifact.state() == ("done", [])
    assert artifact.manifest()["rows"] == 1
    assert not artifact.begin()


def test_another_key_is_refused_by_the_field_that_differs(tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path / "a", judge={"samples": 15, "keep": "correct"})
    artifact.begin()
    artifact.finish()
    changed = artifact_at(tmp_path / "a", judge={"samples": 8, "keep": "correct"})
    assert changed.state() == ("stale", ["judge.samples: 15 -> 8"])
    with pytest.raises(ArtifactError, match=r"judge.samples: 15 -> 8.*--overwrite"):
        changed.begin()
    assert artifact.state()[0] == "done"
    assert changed.begin(overwrite=True)
    assert changed.state()[0] == "partial"


def test_an_unfinished_directory_of_another_config_is_stale_too(tmp_path: Path) -> None:
    artifact_at(tmp_path / "a", seed=1).begin()
    assert artifact_at(tmp_path / "a", seed=2).state() == ("stale", ["seed: 1 -> 2"])


@pytest.mark.parametrize(
    "text",
    [
        '{"key": ',
        '{"key": 1}',
        '{"key": {}}',
        '{"key": {}, "files": 3, "rows": 1}',
        '{"key": {}, "files": [null], "rows": 1}',
        '{"key": {}, "files": [], "rows": "many"}',
        "[]",
        "null",
        "[" * 100_000,
    ],
    ids=range(9),
)
def test_a_damaged_manifest_is_one_clear_line(text: str, tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path / "a")
    artifact.begin()
    (tmp_path / "a" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest.json: damaged; delete"):
        artifact.state()


def test_a_damaged_part_is_one_clear_line(tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path / "a")
    artifact.begin()
    (tmp_path / "a" / "part-1.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ArtifactError, match=r"part-1.parquet: damaged .*; delete it and run again"):
        list(artifact.records())


def test_damage_inside_a_part_is_one_clear_line(tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path / "a")
    artifact.begin()
    artifact.write_part("part-1", pa.table({"text": [f"some text, number {i * i}" for i in range(2000)]}))
    file = tmp_path / "a" / "part-1.parquet"
    content = bytearray(file.read_bytes())
    content[20:400] = bytes(380)
    file.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=r"part-1.parquet: cannot be read .*; run the same command again; if the error stays, delete"
    ):
        list(artifact.records())


def test_reading_a_folder_without_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact here"):
        read_artifact(Folder.at(tmp_path))


def test_a_write_leaves_no_trace_of_itself(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "x" / "y")
    folder.write("a.json", b"{}")
    assert [path.name for path in (tmp_path / "x" / "y").iterdir()] == ["a.json"]
    assert folder.read("a.json") == b"{}"


def test_a_folder_may_be_a_uri(tmp_path: Path) -> None:
    folder = Folder.at(f"file://{tmp_path}/run")
    (folder / "sub").write("a.txt", b"hello")
    assert (tmp_path / "run" / "sub" / "a.txt").read_bytes() == b"hello"
    assert (folder / "sub").names() == ["a.txt"]
    assert (folder / "sub").uri == f"file://{tmp_path}/run/sub"


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if "\n" not in name], ids=ascii)
def test_a_uri_may_hold_any_name(tmp_path: Path, name: str) -> None:
    folder = Folder.at(f"file://{tmp_path}/{name.replace('%', '%25')}")
    (folder / "sub%20").write("a.txt", b"hello")
    assert (tmp_path / name / "sub%20" / "a.txt").read_bytes() == b"hello"
    assert Folder.at((folder / "sub%20").uri).read("a.txt") == b"hello"
    assert Folder.at(tmp_path / name / "sub%20").read("a.txt") == b"hello"


def test_a_uri_may_be_encoded_or_not(tmp_path: Path) -> None:
    written = Folder.at(f"file://{tmp_path}/a b 数%")
    assert written.path == Folder.at(f"file://{tmp_path}/a%20b%20%E6%95%B0%25").path == f"{tmp_path}/a b 数%"


def test_an_unknown_scheme_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="nowhere://x"):
        Folder.at("nowhere://x")


def test_a_failed_write_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StjError, match="cannot write"):
        Folder.at(tmp_path / "file" / "run").write("a", b"")


def test_no_space_is_one_clear_line() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(StorageFailed, match=r"x: cannot write: No space left on device \([\d.,]+ GB are free there\)"),
        explain_write_failure("x"),
        full.open("wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_a_full_disk_and_a_closed_folder_are_failures_that_do_not_heal(small_disk: Path) -> None:
    artifact = Artifact(Folder.at(small_disk / "run"), {"step": "x"})
    artifact.begin()
    noise = pa.table({"a": [os.urandom(4 << 20)]})
    with pytest.raises(StorageFailed, match=r"run: cannot write: No space left on device \(0.00 GB are free there\)"):
        artifact.write_part("part", noise)
    assert artifact.parts() == []
    kinds = {errno.EROFS: True, errno.EACCES: True, errno.EDQUOT: True, errno.EIO: True, errno.ESTALE: True, errno.EBUSY: False}
    for code, lasting in kinds.items():
        with pytest.raises(StjError) as caught, explain_write_failure("s3://bucket/run"):
            raise OSError(code, os.strerror(code))
        assert isinstance(caught.value, StorageFailed) == lasting
        assert "free there" not in str(caught.value)


def test_the_identity_of_files_is_their_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"x" * (3 << 20))
    a, b = (tmp_path / name / "weights" for name in ("a", "b"))
    assert content_identity(a.parent, [a]) == content_identity(b.parent, [b])
    (tmp_path / "b" / "weights").write_bytes(b"x" * ((3 << 20) - 1) + b"y")
    assert content_identity(a.parent, [a]) != content_identity(b.parent, [b])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.dictionaries(st.text(), json_values), st.dictionaries(st.text(), json_values))
def test_keys_differ_exactly_when_their_fingerprints_do(old: dict[str, object], new: dict[str, object]) -> None:
    assert differences(old, old) == []
    if differences(old, new):
        assert fingerprint(old) != fingerprint(new)
    assert fingerprint(old) == fingerprint(json.loads(json.dumps(old)))


texts = st.text(st.characters(exclude_categories=["Cs"]))
optional = st.none() | texts
rows = st.builds(
    Row,
    id=texts,
    position=st.integers(0, 2**40),
    turns=st.lists(st.builds(Turn, role=texts, content=texts), max_size=3).map(tuple),
    language=optional,
    toxic=st.none() | st.booleans(),
    category=st.none() | st.builds(Category, name=texts, complexity=st.integers(1, 10), length=texts),
    pair=st.none() | st.builds(Pair, method=texts, chosen=texts, rejected=texts, modified_instruction=optional),
    judgments=st.lists(
        st.builds(
            Judgment,
            purpose=st.sampled_from(["training", "sampled", "greedy"]),
            winner=st.sampled_from(["A", "B"]),
            index=st.integers(0, 999),
            text=texts,
            verdict=st.sampled_from([None, "A", "B"]),
            finish_reason=texts,
            output_tokens=st.integers(0, 2**20),
        ),
        max_size=3,
    ).map(tuple),
    kept=st.none() | st.integers(0, 999),
    dropped=optional,
    detail=optional,
    error=optional,
)


@given(st.lists(rows, min_size=1, max_size=4))
def test_rows_come_back_from_arrow_as_they_went_in(given_rows: list[Row]) -> None:
    assert list(map(row_from_dict, rows_to_table(given_rows).to_pylist())) == given_rows
