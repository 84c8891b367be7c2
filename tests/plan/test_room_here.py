"""The disks of this machine before a run: planted full ones are refused with what would fill them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from stj.config import Config
from stj.config_loader import load
from stj.models.copies import locked_copy
from stj.models.shapes import shape_of
from stj.plan.disk import disk_plan
from stj.plan.room_here import machine_room

CONF = Path(__file__).parents[2] / "conf"
GB = 10**9


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All on one disk, as on most machines."""
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def check(
    config: Config, free_gb: float, monkeypatch: pytest.MonkeyPatch, trainings: int = 3, models: set[str] | None = None
) -> str:
    monkeypatch.setattr("stj.plan.room_here.disk_usage", lambda place: SimpleNamespace(free=free_gb * GB))
    shape = shape_of(config.models.seed)
    assert shape is not None
    written = 0 if "://" in config.run_root else disk_plan(shape, trainings, config).total
    room = machine_room(config, models, trainings, in_run_root=written)
    assert room is not None
    return room.fault() or room.words()


def small(tmp_path: Path, *overrides: str) -> Config:
    return load([CONF / "small.yaml"], [f"run_root={tmp_path}/run", *overrides])


def test_the_hub_s_cache_and_the_run_add_up_on_one_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 16.06 + 3 * 16.06 + 3 * 96.4  # the seed; three models and three checkpoints of an 8B
    fault = check(small(tmp_path), needed - 2, monkeypatch)
    assert "16.1 GB of meta-llama/Llama-3.1-8B-Instruct in the hub's cache (HF_HOME)" in fault
    assert "337 GB of models and checkpoints in run_root; together 353 GB, and 351 GB are free on the disk of" in fault
    assert check(small(tmp_path), needed + 2, monkeypatch).endswith("355 GB are free")


def test_weights_that_are_here_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/c1"
    snapshot.mkdir(parents=True)
    with (snapshot / "model.safetensors").open("wb") as file:
        file.truncate(17 * GB)  # sparse
    assert check(small(tmp_path), 340, monkeypatch) == (
        "training writes 337 GB of models and checkpoints in run_root; 340 GB are free"
    )


def test_copies_of_other_models_count_as_room_and_those_in_use_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "cache/other"
    with locked_copy(copy, "s3://bucket/other", held=False):
        copy.mkdir()
        with (copy / "model.safetensors").open("wb") as file:
            file.truncate(20 * GB)
    assert check(small(tmp_path), 340, monkeypatch).endswith("340 GB are free")
    assert "and 20 GB in copies of models that may go: free space" in check(small(tmp_path), 330, monkeypatch)


def test_a_run_in_an_object_store_needs_scratch_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path, "run_root=s3://bucket/run")
    fault = check(config, 120, monkeypatch)
    assert "96.4 GB of a checkpoint in TMPDIR, 16.1 GB of exported shards in stj's cache of models; together 128 GB" in fault
    assert check(config, 130, monkeypatch).endswith("130 GB are free")


def test_a_link_to_a_disk_that_is_not_there_counts_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    hub = tmp_path / "hub"
    monkeypatch.setattr("stj.plan.room_here.cache_places", lambda: (hub, tmp_path / "link/models"))
    assert "are free on the disk of" in check(small(tmp_path, "run_root=s3://bucket/run"), 120, monkeypatch)


def test_only_what_is_left_of_a_run_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = load([CONF / "paper.yaml"], ["run_root=s3://bucket/run"])
    judge = "s3://bucket/run/iteration_4/model"
    assert check(paper, 10, monkeypatch, trainings=0, models={judge}).startswith(
        "judges M_1 and later writes 141 GB of a trained"
    )
    assert check(paper, 10, monkeypatch, trainings=0, models={paper.models.generator.path}).startswith(
        "pairs, judgments 1 writes"
    )
    assert check(paper, 10, monkeypatch, trainings=0, models=set()) == "nothing must be fetched to this machine"
    assert check(paper, 10, monkeypatch, trainings=1, models=set()).startswith("training writes 141 GB of meta-llama")


def test_a_container_with_little_shared_memory_is_refused_for_engines_of_several_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(place: Path) -> SimpleNamespace:
        return SimpleNamespace(free=0.064 * GB if place == Path("/dev/shm") else 10_000 * GB)

    def fault(*overrides: str) -> str | None:
        room = machine_room(load([CONF / "paper.yaml"], ["run_root=s3://bucket/run", *overrides]), None, 5)
        monkeypatch.setattr("stj.plan.room_here.disk_usage", usage)
        assert room is not None
        return room.fault()

    assert fault() == (
        "the engines of measuring M_0 take 2.35 GB of /dev/shm, and 64 MB are free there: free it, or start the "
        "container with a larger --shm-size"
    )
    assert fault(*(f"models.{role}.tensor_parallel_size=1" for role in ("generator", "first_judge", "seed"))) is None
