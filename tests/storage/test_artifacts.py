"""Artifacts: their four states; writes are atomic; nothing of another config is overwritten without --overwrite."""

import errno
import json
import os
import re
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.errors import ArtifactError, ConfigError, StjError, StorageFailed
from stj.rows import Category, Judgment, Pair, Row, Turn, row_from_dict, rows_to_table
from stj.storage.artifacts import Artifact, differences, fingerprint, prefix_of, read_artifact
from stj.storage.folder import Folder, explain_write_failure
from stj.storage.known_digests import content_identity
from stj.storage.sealed import write_sealed
from tests.conftest import make_row
from tests.sources.test_directory import ODD_NAMES


def artifact_at(path: Path | str, **key: object) -> Artifact:
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


def test_a_file_whose_name_is_not_utf8_is_no_obstacle(tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path)
    artifact.begin()
    part = artifact.write_part("part", rows_to_table([make_row(0)]))
    (tmp_path / "rows" / os.fsdecode(b"\xff.parquet")).touch()
    assert artifact.parts() == [part]
    artifact.begin()
    artifact.finish()
    assert [record["position"] for record in artifact.records()] == [0]


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


def finished(path: Path | str) -> Artifact:
    """An artifact of a few parts."""
    artifact = artifact_at(path, setting=0.1, name="\ud800 é")
    artifact.begin()
    for number in range(3):
        artifact.write_part(f"part-{number}", rows_to_table([make_row(number), make_row(number + 10, "x" * 500)]))
    artifact.finish(dropped={"toxic": 2})
    return artifact


def content(path: Path) -> object:
    """All that can be read of an artifact."""
    artifact = read_artifact(Folder.at(path))
    return artifact.state(), artifact.manifest(), list(artifact.records())


def damages(size: int) -> st.SearchStrategy[tuple[str, int, int]]:
    return st.tuples(st.sampled_from(["flip", "cut", "empty"]), st.integers(0, size - 1), st.integers(0, 7))


@pytest.mark.slow
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_is_taken_for_data(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A flipped bit or a cut in any file is one line with file and remedy, or changes nothing; the remedy works."""
    path = tmp_path_factory.mktemp("artifact")
    whole = finished(path)
    expected = content(path)
    file = data.draw(st.sampled_from(sorted(file for file in path.rglob("*") if file.is_file())))
    written = file.read_bytes()
    how, place, bit = data.draw(damages(len(written)))
    flipped = bytes([written[place] ^ 1 << bit])
    file.write_bytes({"flip": written[:place] + flipped + written[place + 1 :], "cut": written[:place], "empty": b""}[how])
    found: object
    try:
        found = content(path)
    except ArtifactError as error:
        found = str(error)
    if found != expected:
        assert re.fullmatch(rf"{file}: .*run the same command again.*", str(found))
        file.unlink()
        (path / "manifest.json").unlink(missing_ok=True)
        again = Artifact(whole.folder, whole.key)
        assert again.begin()
        assert len(again.parts()) == (2 if file.suffix == ".parquet" else 3)
        again.finish(dropped={"toxic": 2})


@pytest.mark.slow
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_of_unfinished_work_is_taken_for_data(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("artifact")
    expected = list(finished(path).records())
    (path / "manifest.json").unlink()
    file = data.draw(st.sampled_from(sorted(file for file in path.rglob("*") if file.is_file())))
    written = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(written)
    with suppress(ArtifactError):
        assert list(read_artifact(Folder.at(path)).records()) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"key": ', "damaged: not JSON; restore it from a copy, or delete it and run"),
        ("[" * 100_000, "damaged: not JSON"),
        ("null", "damaged: a JSON NoneType, and an object is needed"),
        ('{"key": {}, "files": [], "rows": 0}', "damaged: its content does not have the SHA-256 that it names"),
        (
            '{"format": 1, "key": {}, "files": [], "rows": 0}',
            "an older stj wrote it, without the hashes that show damage; finish with that version, or delete ",
        ),
        ('{"format": 3, "key": {}}', "has format 3, and this stj reads format 2: a newer stj wrote it, so update stj"),
        ('{"format": 2, "sha256": "6fd7e4ffd9be7e3c", "key": {}}', "damaged: its content"),
    ],
    ids=range(7),
)
def test_a_manifest_that_is_damaged_or_of_another_version_is_one_clear_line(text: str, problem: str, tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path / "a")
    artifact.begin()
    (tmp_path / "a" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=rf"a/manifest.json: {re.escape(problem)}") as error:
        artifact.state()
    assert "\n" not in str(error.value)


def test_another_programs_files_are_no_artifact(tmp_path: Path) -> None:
    write_sealed(Folder.at(tmp_path), "manifest.json", {"name": "site", "icons": []})
    with pytest.raises(ArtifactError, match=r"no manifest.json that stj writes: it has other fields"):
        read_artifact(Folder.at(tmp_path))


def test_a_part_of_another_name_or_without_a_hash_is_damaged(tmp_path: Path) -> None:
    artifact = finished(tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "rows/part-9.parquet").write_bytes((tmp_path / artifact.parts()[0]).read_bytes())
    with pytest.raises(ArtifactError, match=r"part-9.parquet: damaged: .*; delete rows/part-9.parquet and run"):
        list(artifact.records())


def test_a_directory_that_was_copied_in_part_says_so(tmp_path: Path) -> None:
    name = finished(tmp_path).parts()[1]
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: missing; if only a part of the directory was copied, copy"):
        content(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "started.json"])
def test_a_record_that_is_a_link_to_nowhere_is_not_taken_for_none(name: str, tmp_path: Path) -> None:
    """A disk that is not mounted: nothing may begin anew beside it."""
    artifact = finished(tmp_path / "run")
    if name == "started.json":
        (tmp_path / "run/manifest.json").unlink()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "gone")
    for act in (artifact.state, artifact.begin):
        with pytest.raises(StjError, match=rf"{name}: cannot be read"):
            act()


def test_an_object_that_is_missing_says_so(bucket: str, tmp_path: Path) -> None:
    folder = Folder.at(bucket) / tmp_path.name
    name = finished(folder.uri).parts()[1]
    folder.delete(name)
    with pytest.raises(ArtifactError, match=rf"{name}.*: missing; if only a part of the directory was copied, copy"):
        list(read_artifact(folder).records())


@pytest.mark.slow
def test_an_object_is_fetched_whole_once_and_is_checked_by_everyone_who_reads_it(bucket: str, tmp_path: Path) -> None:
    folder = Folder.at(bucket) / tmp_path.name
    finished(folder.uri)
    artifact = read_artifact(folder)
    whole = list(artifact.records())
    assert list(artifact.records(["id"])) == [{"id": record["id"]} for record in whole]
    assert list(artifact.records()) == whole
    name = artifact.parts()[0]
    folder.write(name, folder.read(name)[:-9] + b"x" + folder.read(name)[-8:])
    with pytest.raises(ArtifactError, match="damaged"):
        list(read_artifact(folder).records(["id"]))


def test_rows_without_their_records_are_taken_only_by_the_key_they_were_made_with(tmp_path: Path) -> None:
    whole = finished(tmp_path)
    rows = list(whole.records())
    for name in ("started.json", "manifest.json"):
        (tmp_path / name).unlink()
    other = artifact_at(tmp_path, setting=0.2)
    with pytest.raises(ArtifactError, match=r"holds rows without started.json and manifest.json, and they were"):
        other.begin()
    again = Artifact(whole.folder, whole.key)
    assert again.begin()
    assert list(again.records()) == rows
    assert other.begin(overwrite=True)
    assert other.parts() == []


def test_parts_of_the_same_rows_are_one_file(tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path)
    artifact.begin()
    table = rows_to_table([make_row(1)])
    assert artifact.write_part("part", table) == artifact.write_part("part", table)
    artifact.write_part("failed", table)
    artifact.remove_parts("part")
    assert [prefix_of(name) for name in artifact.parts()] == ["failed"]


def test_what_a_copy_by_another_system_leaves_beside_the_parts_is_no_part(tmp_path: Path) -> None:
    artifact = finished(tmp_path)
    parts = artifact.parts()
    (tmp_path / "manifest.json").unlink()
    (tmp_path / parts[0].replace("/", "/._")).write_bytes(b"attributes of a Mac")
    assert artifact.parts() == parts


@pytest.mark.parametrize("what", ["a part", "manifest.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(what: str, tmp_path: Path) -> None:
    artifact = finished(tmp_path)
    file = tmp_path / (artifact.parts()[0] if what == "a part" else what)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(StjError, match="no file but a pipe or a device") as caught:
        list(read_artifact(Folder.at(tmp_path)).records())
    assert str(file) in str(caught.value)


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
    with pytest.raises(StorageFailed, match=r"run/rows: cannot write: No space left on device \(\d[\w. ]* are free there\)"):
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


@pytest.mark.slow
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


@pytest.mark.slow
@given(st.lists(rows, min_size=1, max_size=4))
def test_rows_come_back_from_arrow_as_they_went_in(given_rows: list[Row]) -> None:
    assert list(map(row_from_dict, rows_to_table(given_rows).to_pylist())) == given_rows


def test_a_part_that_was_copied_beside_itself_counts_once(tmp_path: Path) -> None:
    artifact = artifact_at(tmp_path)
    artifact.begin()
    name = artifact.write_part("part", rows_to_table([make_row(1)]))
    (tmp_path / name.replace("part", "copy", 1)).write_bytes((tmp_path / name).read_bytes())
    assert len(list(artifact.records())) == 1


def test_what_cannot_be_deleted_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "file").mkdir(parents=True)
    with pytest.raises(StjError, match=r"a/file: cannot write: .*check the free space and the permissions"):
        Folder.at(tmp_path / "a").delete("file")
