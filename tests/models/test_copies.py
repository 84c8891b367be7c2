"""Copies of models on a machine: which go when the disk is full, and which never do."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config import ModelConfig
from stj.errors import StjError, StorageFailed
from stj.models.copies import (
    exported_shards,
    files_by_digest,
    filling,
    hub_record,
    locked_copy,
    make_room,
    model_copies,
    recorded_snapshot,
)
from stj.models.fetch import held_model

DAY_S = 24 * 3600.0
HOLDER = """
import sys
from pathlib import Path
from stj.models.copies import locked_copy
with locked_copy(Path(sys.argv[1]), "s3://bucket/held", held=True):
    pass
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Plants a disk: what a test has written to it leaves this many bytes free."""
    size = 0

    def used() -> int:
        return sum({f.lstat().st_ino: f.lstat().st_size for f in tmp_path.rglob("*") if f.is_file()}.values())

    def leave(free: int) -> None:
        nonlocal size
        size = used() + free

    monkeypatch.setattr("stj.models.copies.shutil.disk_usage", lambda path: SimpleNamespace(free=size - used()))
    return leave


def put(cache: Path, name: str, size: int = 1000, age_s: float = DAY_S) -> Path:
    """A copy of the model s3://bucket/NAME, unused for so long."""
    copy = cache / name
    with locked_copy(copy, f"s3://bucket/{name}", held=False):
        copy.mkdir()
        (copy / "model.safetensors").write_bytes(bytes(size))
    os.utime(copy.with_suffix(".lock"), (0, time.time() - age_s))
    return copy


def names(cache: Path) -> list[str]:
    return [copy.model.rpartition("/")[2] for copy in model_copies(cache)]


def test_copies_go_the_longest_unused_first_until_there_is_room(cache: Path, fill: Callable[[int], None]) -> None:
    for name, age_s in (("old", 3 * DAY_S), ("older", 4 * DAY_S), ("new", 2 * DAY_S)):
        put(cache, name, age_s=age_s)
    fill(500)
    assert make_room(cache, 2000) >= 2000
    assert names(cache) == ["new"]


def test_nothing_goes_if_there_is_room(cache: Path, fill: Callable[[int], None]) -> None:
    put(cache, "old")
    fill(500)
    make_room(cache, 499)
    assert names(cache) == ["old"]


def test_what_the_run_has_done_with_goes_first_and_at_once(cache: Path, fill: Callable[[int], None]) -> None:
    put(cache, "old", age_s=DAY_S)
    put(cache, "just_judged", age_s=1)
    put(cache, "another_run_s", age_s=1)
    fill(0)
    make_room(cache, 900, done=["s3://bucket/just_judged"])
    assert names(cache) == ["old", "another_run_s"]
    make_room(cache, 10_000, done=["s3://bucket/just_judged"])
    assert names(cache) == ["another_run_s"]  # used within the hour: it may be loading


def test_a_copy_that_another_process_holds_stays_until_that_ends(cache: Path, fill: Callable[[int], None]) -> None:
    copy = put(cache, "held")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    fill(0)
    os.utime(copy.with_suffix(".lock"), (0, 0))
    assert make_room(cache, 500, done=["s3://bucket/held"]) == 0
    assert (copy / "model.safetensors").exists()
    holder.kill()
    holder.communicate()
    assert make_room(cache, 500, done=["s3://bucket/held"]) > 500
    assert names(cache) == []


def test_a_copy_that_is_being_fetched_stays(cache: Path, fill: Callable[[int], None]) -> None:
    copy = put(cache, "model")
    fill(0)
    with locked_copy(copy, "s3://bucket/model", held=False):
        make_room(cache, 500, done=["s3://bucket/model"])
        assert copy.exists()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second disk")
def test_copies_on_another_disk_stay(cache: Path, fill: Callable[[int], None]) -> None:
    put(cache, "model")
    fill(0)
    make_room(cache, 500, place=Path("/dev/shm"), done=["s3://bucket/model"])
    assert names(cache) == ["model"]


def test_small_copies_without_weights_stay_and_a_missing_cache_is_empty(cache: Path, fill: Callable[[int], None]) -> None:
    put(cache, "model-without-weights")
    fill(0)
    make_room(cache, 500, done=["s3://bucket/model-without-weights"])
    assert (cache / "model-without-weights").exists()
    assert model_copies(cache / "nowhere") == []
    assert filling(cache / "nowhere") == ""


def test_what_fills_the_disk_is_named_the_largest_first(cache: Path) -> None:
    for number in range(1, 7):
        put(cache, f"m{number}", size=number * 10**6)
    named = [f"{number} MB of s3://bucket/m{number}" for number in (6, 5, 4, 3)]
    assert filling(cache) == f"{', '.join(named)}, 3 MB of others"


def test_exported_shards_are_known_by_their_digest_and_go_like_copies(cache: Path, fill: Callable[[int], None]) -> None:
    place = exported_shards(cache, "s3://bucket/m1")
    with locked_copy(place, "s3://bucket/m1", held=False):
        place.mkdir()
        (place / "abc123").write_bytes(bytes(1000))
    assert files_by_digest(cache) == {"abc123": place / "abc123"}
    fill(0)
    make_room(cache, 500, done=["s3://bucket/m1"])
    assert files_by_digest(cache) == {}


@given(st.binary(max_size=200))
def test_a_damaged_manifest_of_a_copy_is_no_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    cache = tmp_path_factory.mktemp("cache")
    put(cache, "model")
    (cache / "model/manifest.json").write_bytes(content)
    files_by_digest(cache)


class Hub:
    """The hub's cache of one model: snapshots that link to blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.snapshots = folder / "snapshots"
        (folder / "blobs").mkdir(parents=True)

    def fetch(self, commit: str, *blobs: str) -> Path:
        snapshot = self.snapshots / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / "config.json").write_text("{}")
        for number, blob in enumerate(blobs):
            (self.folder / "blobs" / blob).write_bytes(bytes(1000))
            with_link = snapshot / f"model-{number}.safetensors"
            with_link.unlink(missing_ok=True)
            with_link.symlink_to(self.folder / "blobs" / blob)
        return snapshot

    def blobs(self) -> set[str]:
        return {path.name for path in (self.folder / "blobs").iterdir()}


@pytest.fixture
def hub_in_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """org/model on a hub that delivers two shards of 1,000 bytes."""
    hub = Hub(tmp_path / "hub/models--org--model")
    shards = [SimpleNamespace(rfilename=f"model-{number}.safetensors", size=1000) for number in range(2)]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("stj.models.fetch._CACHE", cache)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(hub.fetch("c1", "a", "b")))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(siblings=shards))
    return hub


def from_hub(cache: Path, hub: Hub, fetch: Callable[[], Path]) -> Path:
    record = hub_record(cache, "org/model")
    with locked_copy(record, "org/model", held=False):
        return recorded_snapshot(record, hub.snapshots, fetch)


def test_weights_that_stj_fetched_into_the_hub_s_cache_go_and_small_files_stay(
    cache: Path, tmp_path: Path, fill: Callable[[int], None]
) -> None:
    hub = Hub(tmp_path / "hub")
    snapshot = from_hub(cache, hub, lambda: hub.fetch("c1", "a", "b"))
    from_hub(cache, hub, lambda: hub.fetch("c2", "b", "c"))  # a newer commit shares a shard
    assert [(copy.model, len(copy.files)) for copy in model_copies(cache)] == [("org/model", 4)]
    fill(0)
    make_room(cache, 500, done=["org/model"])
    assert hub.blobs() == set()
    assert [path.name for path in snapshot.iterdir()] == ["config.json"]
    from_hub(cache, hub, lambda: hub.fetch("c1", "a", "b"))
    assert names(cache) == ["model"]


def test_weights_that_the_user_fetched_are_never_removed(cache: Path, tmp_path: Path, fill: Callable[[int], None]) -> None:
    hub = Hub(tmp_path / "hub")
    hub.fetch("c1", "a", "b")
    for commit in ("c1", "c2"):
        from_hub(cache, hub, lambda commit=commit: hub.fetch(commit, "a", "b"))  # type: ignore[misc]
    fill(0)
    make_room(cache, 10_000, done=["org/model"])
    assert hub.blobs() == {"a", "b"}


def test_a_fetch_that_was_killed_is_known_as_ours(cache: Path, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub")

    def killed() -> Path:
        hub.fetch("c1", "a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        from_hub(cache, hub, killed)
    from_hub(cache, hub, lambda: hub.fetch("c1", "a", "b"))
    assert [len(copy.files) for copy in model_copies(cache)] == [2]


def test_the_hub_s_cache_is_used_and_not_doubled(cache: Path, hub_in_cache: Hub) -> None:
    assert held_model(ModelConfig(path="org/model")) == hub_in_cache.snapshots / "c1"
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix not in (".lock", ".held")]
    assert make_room(cache, shutil.disk_usage(cache).total, done=["org/model"])
    assert hub_in_cache.blobs() == {"a", "b"}  # this process holds them


def test_a_fetch_from_the_hub_makes_room_or_is_refused_with_what_fills_the_disk(
    cache: Path, hub_in_cache: Hub, fill: Callable[[int], None]
) -> None:
    put(cache, "old", size=5000)
    put(cache, "new", size=5000, age_s=1)
    fill(-4000)  # full even when the old copy has gone
    with pytest.raises(StorageFailed) as refused:
        held_model(ModelConfig(path="org/model"))
    assert str(refused.value).startswith("model org/model: 2 kB must be fetched to ")
    assert "copies of models take 5 kB of s3://bucket/new: free space" in str(refused.value)
    assert hub_in_cache.blobs() == set()
    fill(3000)
    held_model(ModelConfig(path="org/model"))
    assert hub_in_cache.blobs() == {"a", "b"}


def test_a_home_that_cannot_be_written_is_no_reason_not_to_load(
    tmp_path: Path, hub_in_cache: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "file/cache")
    assert held_model(ModelConfig(path="org/model")) == hub_in_cache.snapshots / "c1"


def test_a_lock_that_cannot_be_opened_is_one_line(cache: Path) -> None:
    (cache / "model.lock").mkdir()
    with (
        pytest.raises(StjError, match=r"model.lock: cannot write: Is a directory"),
        locked_copy(cache / "model", "s3://bucket/model", held=False),
    ):
        pass
