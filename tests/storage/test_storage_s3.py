"""A run's folder in an object store: the real S3 protocol, served by moto on this machine."""

import os
import re
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from stj.config import ModelConfig
from stj.errors import ArtifactError, ConfigError, ModelError, StjError, StorageFailed
from stj.models.fetch import held_model, local_model
from stj.rows import rows_to_table
from stj.storage.artifacts import MANIFEST, Artifact, read_artifact
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, workspace
from stj.storage.sealed import write_sealed
from tests.conftest import make_row


@pytest.fixture
def folder(bucket: str, request: pytest.FixtureRequest) -> Folder:
    """A folder for this test only."""
    return Folder.at(bucket) / re.sub(r"\W", "-", request.node.name)


def test_a_name_goes_before_the_options_of_a_uri(bucket: str) -> None:
    root, _, options = bucket.partition("?")
    child = Folder.at(bucket) / "run/model"
    assert child.uri == f"{root}/run/model?{options}"
    assert child.parent.uri == f"{root}/run?{options}"
    assert child.parent.path == Folder.at(child.parent.uri).path == "bucket/run"


def test_files_and_folders(folder: Folder) -> None:
    (folder / "a").write("x.txt", b"one")
    (folder / "b").write("y.txt", b"two")
    folder.write("z.txt", b"three")
    assert (folder.folders(), folder.names()) == (["a", "b"], ["z.txt"])
    assert (folder / "a").read("x.txt") == b"one"
    (folder / "a").remove()
    (folder / "a").remove()
    assert (folder.folders(), folder.names()) == (["b"], ["z.txt"])
    assert not (folder / "a").exists()
    assert (folder / "nowhere").names() == (folder / "nowhere").folders() == []


@pytest.mark.slow
def test_a_scratch_directory_is_removed_after_its_files_are_uploaded(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stj.storage.folder._PART_BYTES", 6 << 20)  # S3 takes parts of 5 MiB and more
    monkeypatch.setattr("stj.storage.folder._PARTS_AT_ONCE", 1)
    content = bytes(range(256)) * (15 << 12)  # 15 MiB: three parts
    with workspace(folder) as directory:
        (directory / "shard").write_bytes(content)
        folder.upload(directory / "shard")
    assert not directory.exists()
    assert folder.read("shard") == content


def test_a_directory_is_its_own_workspace(tmp_path: Path) -> None:
    local = Folder.at(tmp_path)
    with workspace(local) as directory:
        (directory / "shard").write_bytes(b"content")
        local.upload(directory / "shard")
        assert local.download("shard", directory) == tmp_path / "shard"
    assert local.read("shard") == b"content"
    assert local.download("shard", tmp_path / "copy").read_bytes() == b"content"


@pytest.mark.slow
def test_an_artifact_is_absent_partial_done_and_stale(folder: Folder) -> None:
    artifact = Artifact(folder, {"step": "test", "seed": 1})
    assert artifact.state() == ("absent", [])
    assert artifact.begin()
    artifact.write_part("part-1", rows_to_table([make_row(0), make_row(1)]))
    assert artifact.state() == ("partial", [])
    artifact.finish()
    assert not artifact.begin()
    assert [record["id"] for record in read_artifact(Folder.at(folder.uri)).records()] == ["row-0", "row-1"]
    other = Artifact(folder, {"step": "test", "seed": 2})
    with pytest.raises(ArtifactError, match="seed: 1 -> 2"):
        other.begin()
    assert other.begin(overwrite=True)
    assert (other.state()[0], other.parts()) == ("partial", [])


def test_a_missing_bucket_is_one_clear_line(bucket: str) -> None:
    with pytest.raises(StjError, match=r"s3://elsewhere.*cannot write"):
        Folder.at(bucket.replace("s3://bucket", "s3://elsewhere")).write("a", b"")


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_one_clear_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    nobody = Folder.at("s3://bucket/run?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
    with pytest.raises(StjError, match=r"s3://bucket/run.*cannot be read: .*Check the name, the network"):
        nobody.exists("manifest.json")


@pytest.mark.slow
def test_a_model_is_fetched_once_by_the_processes_of_a_machine(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path)
    folder.write("config.json", b"{}")
    folder.write("model.safetensors", b"weights")
    fetched: list[Path] = []
    threads = [threading.Thread(target=lambda: fetched.append(local_model(ModelConfig(path=folder.uri)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [fetched[0]] * 4
    assert sorted(path.name for path in fetched[0].iterdir()) == ["config.json", "model.safetensors", "stj-fetched.json"]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [fetched[0]]


FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"words"}


def put_model(folder: Folder, files: dict[str, bytes]) -> ModelConfig:
    """A model as stj writes it: the manifest holds the digest of each file."""
    for name, content in files.items():
        folder.write(name, content)
    digests = {name: asdict(FileDigest.of(content)) for name, content in files.items()}
    write_sealed(folder, MANIFEST, {"stj": "0", "fingerprint": "f", "model": {"files": digests}})
    return ModelConfig(path=folder.uri)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"w3ights", "model.safetensors has the SHA-256"),
        ("model.safetensors", b"weight", "model.safetensors has 6 bytes instead of 7;"),
        ("tokenizer.json", None, "tokenizer.json is missing: it must have 5 bytes"),
        (MANIFEST, b"[", "damaged: not JSON; copy or make the model again"),
        (
            MANIFEST,
            b'{"stj": "0", "fingerprint": "f", "model": {"files": {"config.json": {"sise": 2}}}}',
            "damaged: its content does not have",
        ),
        (
            MANIFEST,
            b'{"format": 3, "stj": "9", "fingerprint": "f"}',
            "has format 3, and this stj reads format 2: a newer stj wrote it",
        ),
    ],
)
def test_a_damaged_model_is_refused_with_the_name_of_the_file_and_not_cached(
    name: str, content: bytes | None, message: str, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path)
    model = put_model(folder, FILES)
    if content is None:
        folder.delete(name)
    else:
        folder.write(name, content)
    with pytest.raises(ModelError, match=message) as error:
        local_model(model)
    assert "\n" not in str(error.value)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    put_model(folder, FILES)
    assert (local_model(model) / "model.safetensors").read_bytes() == b"weights"


def test_without_weights_only_the_other_files_are_fetched(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path)
    fetched = local_model(put_model(folder, FILES), weights=False)
    assert sorted(path.name for path in fetched.iterdir()) == ["config.json", MANIFEST, "tokenizer.json"]


def other_model(folder: Folder) -> ModelConfig:
    """A model of the same size as any other, with other weights."""
    return put_model(folder, FILES | {"model.safetensors": f"weights of {folder.path[-1]}, ".encode() * 100})


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The cache of this machine on a disk of `disk["size"]` bytes."""
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path)
    size = {"size": float("inf")}

    def usage(path: Path) -> SimpleNamespace:
        files = {file.stat().st_ino: file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()}
        return SimpleNamespace(free=size["size"] - sum(files.values()))

    monkeypatch.setattr("stj.models.copies.shutil.disk_usage", usage)
    return size


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_serves_what_it_holds_and_names_the_setting_otherwise(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache in an image, a link to a disk that is not there, and a file in its place."""
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    model, other = put_model(folder / "a", FILES), put_model(folder / "b", FILES)
    here = local_model(model)
    with monkeypatch.context() as read_only:
        read_only.setattr("stj.models.fetch.os.access", lambda path, mode: not mode & os.W_OK)
        assert local_model(model) == here
        with pytest.raises(StorageFailed, match="where nothing can be written: set STJ_CACHE to a directory"):
            local_model(other)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere/at/all")
    (tmp_path / "file").touch()
    for place in ("link", "file"):
        monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / place / "cache")
        with pytest.raises(StorageFailed, match="where nothing can be written: set STJ_CACHE to a directory"):
            local_model(model)


@pytest.mark.slow
def test_if_space_is_short_the_longest_unused_copy_is_deleted(folder: Folder, disk: dict[str, float]) -> None:
    copies = {name: local_model(other_model(folder / name)) for name in ("a", "b")}
    model_size = sum(file.stat().st_size for file in copies["a"].iterdir())
    disk["size"] = 2.5 * model_size
    now = time.time()
    for name, unused_s in (("a", 7200), ("b", 10_000)):
        os.utime(copies[name].with_suffix(".lock"), (now, now - unused_s))
    copies["c"] = local_model(other_model(folder / "c"))
    assert [name for name, copy in copies.items() if copy.exists()] == ["a", "c"]
    os.utime(copies["a"].with_suffix(".lock"))
    with pytest.raises(StorageFailed) as refused:  # copies that engines may be loading stay
        local_model(other_model(folder / "d"))
    assert "must be fetched to" in str(refused.value)
    assert f"B of {(folder / 'c').uri}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert copies["a"].exists()
    assert copies["c"].exists()


@pytest.mark.slow
def test_a_copy_that_a_process_holds_stays_however_long_ago_it_was_loaded(folder: Folder, disk: dict[str, float]) -> None:
    model = other_model(folder / "a")
    copy = held_model(model)
    os.utime(copy.with_suffix(".lock"), (0, 0))
    disk["size"] = 1.5 * sum(file.stat().st_size for file in copy.iterdir())
    with pytest.raises(StorageFailed):
        local_model(other_model(folder / "b"))
    assert copy.exists()


@pytest.mark.slow
def test_what_the_machine_holds_under_another_name_is_not_fetched_again(
    folder: Folder, disk: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FILES | {"model.safetensors": b"weights" * 1000}
    first = local_model(put_model(folder / "candidate", files))
    fetched: list[str] = []
    fetch = Folder.fetch
    monkeypatch.setattr(Folder, "fetch", lambda folder, name, to: fetched.append(name) or fetch(folder, name, to))
    second = local_model(put_model(folder / "model", files))
    assert fetched == [MANIFEST]
    assert (second / "model.safetensors").samefile(first / "model.safetensors")
    (first / "model.safetensors").write_bytes(b"damaged" * 1000)  # and with it the second, which is the same file
    third = local_model(put_model(folder / "again", files))
    assert fetched == [MANIFEST, MANIFEST, "model.safetensors"]
    assert (third / "model.safetensors").read_bytes() == b"weights" * 1000


@pytest.mark.slow
def test_without_a_manifest_a_file_is_checked_against_its_listed_size(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path)
    for name, content in FILES.items():
        folder.write(name, content)
    monkeypatch.setattr(Folder, "sizes", lambda folder: {name: len(content) + 1 for name, content in FILES.items()})
    with pytest.raises(ModelError, match="has 2 bytes instead of 3;"):
        local_model(ModelConfig(path=folder.uri))
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/run?access_key=AKIA&secret_key=hunter2",
        "s3://AKIA:hunter2@bucket/run",
        "gs://b/run?access_token=hunter2",
        "s3://bucket/run?X-Amz-Signature=hunter2",
        "s3://bucket/run?sig=hunter2",
    ],
)
def test_a_uri_with_a_secret_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY on every machine, or give the machines a role") as error:
        Folder.at(uri)
    assert "hunter2" not in str(error.value)
    assert "AKIA" not in str(error.value)


def test_a_folder_of_any_name_in_a_store(bucket: str) -> None:
    location, _, options = bucket.partition("?")
    folder = Folder.at(f"{location}/数据 #1 [v2]?{options}" if options else f"{location}/数据 #1 [v2]")
    (folder / "größe").write("a.txt", b"hello")
    assert Folder.at((folder / "größe").uri).read("a.txt") == b"hello"
    assert (folder / "größe").path.endswith("/数据 #1 [v2]/größe")
