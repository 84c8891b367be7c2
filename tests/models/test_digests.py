"""Files of models are what they were written as, whoever wrote them: stj, the hub's client, or a run's own driver."""

import errno
import hashlib
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.digests import refuse_damaged, refuse_other_weights
from stj.models.fetch import held_model, local_model
from stj.models.locate import model_identity
from stj.storage import known_digests
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.known_digests import known_digest
from stj.storage.sealed import write_sealed

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b'{"version": "1.0"}',
    "model.safetensors": os.urandom(5000),
    "README.md": b"a judge",
}


def put(directory: Path) -> ModelConfig:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    return ModelConfig(path=str(directory))


def by_stj(root: Path) -> ModelConfig:
    """A model that a run has trained."""
    model = put(root / "model")
    digests = {name: asdict(FileDigest.of(content)) for name, content in FILES.items() if name != "README.md"}
    write_sealed(Folder.at(model.path), "manifest.json", {"stj": "0", "fingerprint": "f", "model": {"files": digests}})
    return model


def in_the_hubs_cache(root: Path) -> ModelConfig:
    """A snapshot of links to blobs, which are named by their hash: SHA-256 for weights, git's for small files."""
    snapshot, blobs = root / "snapshots/c1", root / "blobs"
    for directory in (snapshot, blobs):
        directory.mkdir(parents=True)
    for name, content in FILES.items():
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        blob = blobs / (hashlib.sha256(content) if name.endswith(".safetensors") else git).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)
    return ModelConfig(path=str(snapshot))


def downloaded(root: Path) -> ModelConfig:
    """What `hf download --local-dir` leaves."""
    model = put(root / "model")
    notes = root / "model/.cache/huggingface/download"
    notes.mkdir(parents=True)
    for name, content in FILES.items():
        git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        known = (hashlib.sha256(content) if name.endswith(".safetensors") else git).hexdigest()
        (notes / f"{name}.metadata").write_text(f"commit\n{known}\n1700000000.0\n")
    return model


@pytest.mark.slow
@pytest.mark.parametrize("made", [by_stj, in_the_hubs_cache, downloaded])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damaged_file_of_a_model_is_loaded(
    made: object, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = made(tmp_path_factory.mktemp("model"))  # type: ignore[operator]
    assert local_model(model) == held_model(model) == Path(model.path)
    file = Path(model.path) / data.draw(st.sampled_from(["config.json", "tokenizer.json", "model.safetensors"]))
    written = bytearray(file.read_bytes())
    written[data.draw(st.integers(0, len(written) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(written[: data.draw(st.sampled_from([len(written), len(written) // 2, 0]))])
    with pytest.raises(ModelError, match=rf"{re.escape(str(file))} is damaged or was changed: .* again") as error:
        held_model(model)
    assert "\n" not in str(error.value)
    if file.suffix == ".json":
        with pytest.raises(ModelError, match="is damaged or was changed"):
            local_model(model, weights=False)


def test_a_file_of_the_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    model = by_stj(tmp_path)
    (tmp_path / "model/model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model.safetensors is missing: copy or make the model again"):
        local_model(model)


@pytest.mark.parametrize("gone", ["tokenizer.json", "model.safetensors"])
def test_a_link_to_nowhere_is_named(gone: str, tmp_path: Path) -> None:
    """A half copied cache: libraries read what is there, and take defaults for the rest."""
    model = in_the_hubs_cache(tmp_path)
    (Path(model.path) / "README.md").resolve().unlink()
    (Path(model.path) / gone).resolve().unlink()
    with pytest.raises(ModelError, match=rf"{gone} is a link to \S+, where nothing is: fetch the model again, or copy it"):
        held_model(model)
    if gone == "model.safetensors":
        assert local_model(model, weights=False) == Path(model.path)


def test_links_to_nowhere_that_nobody_loads_are_no_obstacle(tmp_path: Path) -> None:
    model = in_the_hubs_cache(tmp_path)
    (Path(model.path) / "README.md").resolve().unlink()
    (Path(model.path) / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    (Path(model.path) / "consolidated.safetensors").symlink_to("gone")
    assert held_model(model) == Path(model.path)


def test_a_downloaded_file_that_is_gone_is_named_unless_it_holds_weights(tmp_path: Path) -> None:
    model = downloaded(tmp_path)
    (tmp_path / "model/model.safetensors").rename(tmp_path / "model/other.safetensors")
    assert held_model(model) == Path(model.path)
    (tmp_path / "model/tokenizer.json").unlink()
    with pytest.raises(
        ModelError, match=r"tokenizer.json is missing: download it again .*, delete (\S+) and run again"
    ) as error:
        local_model(model, weights=False)
    Path(str(error.value).rpartition("delete ")[2].split()[0]).unlink()
    assert local_model(model) == Path(model.path)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors", "stj-fetched.json"])
def test_a_copy_of_a_model_without_a_manifest_is_what_was_fetched(
    damaged: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    store = Folder.at(bucket) / f"plain-{damaged}"
    for name, content in FILES.items():
        store.write(name, content)
    model = ModelConfig(path=store.uri)
    copy = held_model(model)
    assert held_model(model) == copy
    written = bytearray((copy / damaged).read_bytes())
    written[len(written) // 2] ^= 1
    (copy / damaged).write_bytes(written)
    with pytest.raises(ModelError, match=rf"{damaged}.* damaged.* delete {re.escape(str(copy))} and run again") as error:
        held_model(model)
    assert "\n" not in str(error.value)
    (copy / damaged).unlink()
    if damaged != "stj-fetched.json":
        with pytest.raises(ModelError, match=rf"{damaged} is missing: delete {re.escape(str(copy))} and run again"):
            held_model(model)
    shutil.rmtree(copy)
    assert held_model(model) == copy


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "weights", "a file", "a link to nowhere"])
def test_what_a_cleaner_of_old_files_has_left_is_no_copy(
    left: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    store = Folder.at(bucket) / f"cleaned-{left[:3]}"
    for name, content in FILES.items():
        store.write(name, content)
    copy = held_model(ModelConfig(path=store.uri))
    for file in copy.iterdir():
        if left != "weights" or file.suffix != ".safetensors":
            file.unlink()
    if left == "a file":
        copy.rmdir()
        copy.touch()
        copy.with_suffix(".part").touch()
    elif left == "a link to nowhere":
        copy.rmdir()
        copy.symlink_to("/nowhere/model")
    assert held_model(ModelConfig(path=store.uri)) == copy
    assert {file.name for file in copy.iterdir()} == {*FILES, "stj-fetched.json"}


def test_a_manifest_that_is_a_directory_is_named(tmp_path: Path) -> None:
    model = put(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ModelError, match=r"manifest.json: cannot be read: .* a directory"):
        held_model(model)


def test_files_that_nobody_loads_may_change(tmp_path: Path) -> None:
    for made in (by_stj, downloaded):
        model = made(tmp_path / made.__name__)
        (Path(model.path) / "README.md").write_text("a better description")
        local_model(model)


@pytest.mark.parametrize("note", ["", "commit\n", "commit\nno hash\n", "\0"])
def test_a_torn_note_of_the_hubs_client_says_nothing(note: str, tmp_path: Path) -> None:
    model = downloaded(tmp_path)
    (tmp_path / "model/.cache/huggingface/download/config.json.metadata").write_text(note)
    assert local_model(model) == Path(model.path)


def test_the_remedy_is_one_that_works(tmp_path: Path) -> None:
    """`stj` fetches what the hub's cache holds, and nothing else; an edited file can be kept."""
    remedies = {
        in_the_hubs_cache: "delete it and the file that it links to",
        downloaded: r"download it again with `hf download`; or, if you have edited or .*, delete (?P<note>\S+) and run again",
        by_stj: "copy or make the model again",
    }
    for made, remedy in remedies.items():
        model = made(tmp_path / made.__name__)
        (Path(model.path) / "config.json").resolve().write_text("{}")
        with pytest.raises(ModelError) as error:
            local_model(model)
        (match,) = re.finditer(remedy, str(error.value))
        if made is downloaded:
            Path(match["note"]).unlink()
            assert local_model(model) == Path(model.path)


def test_a_model_of_an_older_version_can_be_used_without_its_manifest(tmp_path: Path) -> None:
    model = put(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"format": 1, "stj": "0", "fingerprint": "f", "model": {"files": {}}}')
    with pytest.raises(ModelError, match=r"manifest.json: an older stj wrote it, .*; remove this file, and the model is used"):
        local_model(model)
    manifest.unlink()
    assert local_model(model) == tmp_path


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "app", "model": {"files": {"config.json": {"size": 1, "sha256": "x"}}}}',
        '{"fingerprint": "f", "format": 2, "model": "m"}',
        '{"stj": true}',
        '{"sha256": "00"}',
        "{}",
    ],
)
def test_another_programs_manifest_says_nothing(content: str, tmp_path: Path) -> None:
    model = put(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    assert local_model(model) == tmp_path


@pytest.mark.parametrize("content", ["", "{", "\x00" * 100, "[" * 100_000])
def test_a_manifest_that_is_no_json_may_be_deleted(content: str, tmp_path: Path) -> None:
    model = put(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ModelError, match=r"manifest.json: damaged: not JSON; .*, or delete this file if another"):
        local_model(model)


def test_a_mirror_may_name_blobs_by_another_hash(tmp_path: Path) -> None:
    """Its small files are checked. Weights without a SHA-256 are not: they are compared with those a run began with."""
    model = in_the_hubs_cache(tmp_path)
    for name, content in FILES.items():
        link = Path(model.path) / name
        renamed = tmp_path / "blobs" / hashlib.sha1(content, usedforsecurity=False).hexdigest()
        link.resolve().rename(renamed)
        link.unlink()
        link.symlink_to(renamed)
    assert local_model(model) == Path(model.path)
    (Path(model.path) / "config.json").resolve().write_text("{}")
    with pytest.raises(ModelError, match=r"config.json is damaged or was changed"):
        local_model(model)


@pytest.mark.parametrize("content", ["[]", '[{"name": "a"}]', "5", "null", '"x"', '[["stj"]]'])
def test_another_programs_manifest_need_not_be_an_object(content: str, tmp_path: Path) -> None:
    model = put(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    assert local_model(model) == tmp_path


@given(bit=st.integers(0, 7), place=st.floats(0, 1, exclude_max=True))
def test_a_flipped_bit_in_our_manifest_never_makes_it_another_programs(
    bit: int, place: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = by_stj(tmp_path_factory.mktemp("model"))
    file = Path(model.path) / "manifest.json"
    written = bytearray(file.read_bytes())
    written[int(place * len(written))] ^= 1 << bit
    file.write_bytes(written)
    (Path(model.path) / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError):
        local_model(model)


def test_a_model_without_hashes_is_compared_with_the_one_that_the_run_began_with(tmp_path: Path) -> None:
    model = put(tmp_path)
    identity = model_identity(model)
    refuse_other_weights(model, identity)
    weights = tmp_path / "model.safetensors"
    middle = bytearray(weights.read_bytes())
    middle[2500] ^= 1
    weights.write_bytes(middle)
    assert local_model(model) == tmp_path, "nobody says what it should be"
    with pytest.raises(ModelError, match=r"changed or damaged meanwhile, or this machine has others than the driver's"):
        refuse_other_weights(model, identity)
    refuse_other_weights(model, "model 0123")  # a model of this run: its manifest has been compared


def test_large_files_are_read_once_on_a_machine_and_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STJ_CACHE", str(tmp_path / "cache"))
    file, read = tmp_path / "weights", []
    file.write_bytes(bytes(1 << 24))
    of_file = FileDigest.of_file
    monkeypatch.setattr(FileDigest, "of_file", lambda path: read.append(path) or of_file(path))
    for _ in range(3):
        monkeypatch.setattr(known_digests, "_known", {})  # as another process
        first = known_digest(file)
    assert (len(read), first) == (1, of_file(file))
    with file.open("r+b") as stream:
        stream.write(b"x")
    os.utime(file, ns=(0, 0))
    assert known_digest(file) != first
    (remembered,) = (tmp_path / "cache/digests").glob("*.json")
    remembered.write_bytes(remembered.read_bytes().replace(b'"sha256"', b'"sha257"', 1))
    monkeypatch.setattr(known_digests, "_known", {})
    assert known_digest(file) == of_file(file)
    assert len(read) == 3


def test_a_cache_on_a_disk_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setenv("STJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fcntl.flock", no_lock)
    (tmp_path / "weights").write_bytes(bytes(1 << 24))
    assert known_digest(tmp_path / "weights") == FileDigest.of_file(tmp_path / "weights")
    assert list((tmp_path / "cache/digests").glob("*.json"))


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("STJ_CACHE", str(tmp_path / "file/cache"))
    (tmp_path / "weights").write_bytes(bytes(1 << 24))
    assert known_digest(tmp_path / "weights") == FileDigest.of_file(tmp_path / "weights")


def test_a_disk_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setenv("STJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / "weights").write_bytes(bytes(1 << 24))
    assert known_digest(tmp_path / "weights") == FileDigest.of_file(tmp_path / "weights")


def test_a_long_read_is_announced_and_only_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("STJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_digests, "_ANNOUNCED_BYTES", 1 << 24)
    caplog.set_level("INFO")
    model = put(tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(bytes(1 << 24))
    for _ in range(2):
        monkeypatch.setattr(known_digests, "_known", {})
        model_identity(model)
    [line] = [record.getMessage() for record in caplog.records]
    assert line == f"reading 16.8 MB below {tmp_path}/model once on this machine, to know whether it is whole"


def test_a_copy_that_has_decayed_names_the_directory_to_delete(tmp_path: Path) -> None:
    model = by_stj(tmp_path)
    (tmp_path / "model/tokenizer.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match=rf"delete {re.escape(model.path)} and run again: it is fetched again"):
        refuse_damaged(Path(model.path), "s3://bucket/model", weights=False, copied=True)
