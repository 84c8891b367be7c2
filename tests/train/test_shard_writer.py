"""Shards that are written behind the gathers: what they hold, what stays on the machine, and errors of the thread."""

import errno
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stj.config import ModelConfig
from stj.errors import StorageFailed
from stj.models.fetch import local_model
from stj.storage.artifacts import MANIFEST
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed
from stj.train.shard_writer import ShardWriter

SHARDS = {
    f"model-{number:05d}-of-00003.safetensors": {f"a{number}": torch.full((50, 20), number), f"b{number}": torch.ones(3)}
    for number in (1, 2, 3)
}


def write(target: Folder) -> dict[str, FileDigest]:
    with ShardWriter(target) as writer:
        for name, tensors in SHARDS.items():
            writer.begin(name, tensors)
            for tensor in tensors.values():
                writer.add(tensor)
            writer.end()
        return writer.digests()


def test_each_shard_holds_its_tensors_and_has_its_digest(tmp_path: Path) -> None:
    digests = write(Folder.at(tmp_path))
    assert list(digests) == list(SHARDS)
    for name, tensors in SHARDS.items():
        assert FileDigest.of_file(tmp_path / name) == digests[name]
        loaded = load_file(tmp_path / name)
        assert all(torch.equal(loaded[key], tensor) for key, tensor in tensors.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == list(SHARDS)


def test_a_machine_fetches_only_what_another_machine_exported(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    target = Folder.at(bucket) / "exported/model"
    digests = write(target)
    config = {"config.json": FileDigest.of(b"{}")}
    target.write("config.json", b"{}")
    files = {name: asdict(digest) for name, digest in (digests | config).items()}
    write_sealed(target, MANIFEST, {"stj": "0", "fingerprint": "f", "model": {"files": files}})
    first, *others = SHARDS
    (shard,) = (tmp_path / "cache").rglob(digests[first].sha256)
    shard.unlink()  # another machine wrote this one
    fetched: list[str] = []
    fetch = Folder.fetch
    monkeypatch.setattr(Folder, "fetch", lambda folder, name, to: fetched.append(name) or fetch(folder, name, to))
    copy = local_model(ModelConfig(path=target.uri))
    assert sorted(fetched) == sorted(["config.json", MANIFEST, first])
    assert all(FileDigest.of_file(copy / name) == digests[name] for name in SHARDS)
    write(target)  # the next export leaves only its own shards
    assert len(list((tmp_path / "cache").glob("exported-*/*"))) == 3
    assert not any((copy / name).samefile(path) for name in others for path in (tmp_path / "cache").glob("exported-*/*"))


def test_a_cache_that_takes_nothing_is_no_failure_of_the_export(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "file/cache")
    target = Folder.at(bucket) / "exported/without_cache"
    assert target.names() == []
    assert list(write(target)) == target.names()


def test_a_full_disk_ends_the_export_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match=r"cannot write: No space left on device"):
        write(Folder.at(tmp_path))
    assert not list(tmp_path.glob("*.safetensors"))
