"""Room for a training, made or refused before its first step."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from stj.config import ModelConfig
from stj.errors import StorageFailed
from stj.models.copies import locked_copy
from stj.train.job import TrainingJob, TrainingRoom
from stj.train.room import make_room_everywhere, scratch_bytes, shared_bytes
from stj.train_config import TrainConfig

DONE, OTHER = "s3://bucket/iteration_1/model", "s3://bucket/other"


def job(folder: str, checkpoint: int = 600, model: int = 100, every: int = 10) -> TrainingJob:
    return TrainingJob(
        config=TrainConfig(device="cpu", workers=1, checkpoint_every_steps=every, shard_gb=5e-8),
        seed_model=ModelConfig(path="seed"),
        weights="w",
        fingerprint="f",
        examples="examples",
        model=f"{folder}/model",
        folder=folder,
        room=TrainingRoom(checkpoint_bytes=checkpoint, model_bytes=model, done_models=(DONE,)),
    )


@pytest.mark.parametrize(
    ("checkpoints", "machines", "expected"),
    [(5, 4, 150), (5, 1, 600), (0, 4, 50), (1, 100, 50)],  # a part of a checkpoint, or a shard of 50 bytes if that is more
)
def test_scratch_holds_a_part_of_a_checkpoint_or_a_shard(checkpoints: int, machines: int, expected: int) -> None:
    assert scratch_bytes(job("s3://bucket/run?region=us-east-1"), checkpoints, machines) == expected


@pytest.mark.parametrize(
    ("checkpoints", "there", "expected"),
    [(5, 0, 1800), (2, 0, 1300), (1, 0, 700), (0, 0, 100), (5, 1200, 600), (5, 5000, 0)],
)
def test_a_shared_disk_holds_three_checkpoints_or_two_and_the_model(
    checkpoints: int, there: int, expected: int, tmp_path: Path
) -> None:
    (tmp_path / "step_1").mkdir()
    (tmp_path / "step_1/states.pt").write_bytes(bytes(there))
    assert shared_bytes(job("run"), checkpoints, tmp_path) == expected


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with copies of two models of 1,000 bytes, and 100 bytes free."""
    monkeypatch.setattr("stj.models.fetch._CACHE", tmp_path / "cache")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for number, model in enumerate((DONE, OTHER)):
        with locked_copy(tmp_path / f"cache/{number}", model, held=False):
            (tmp_path / f"cache/{number}").mkdir()
            (tmp_path / f"cache/{number}/model.safetensors").write_bytes(bytes(1000))

    def usage(path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=2100 - 1000 * len(list(tmp_path.rglob("*.safetensors"))))

    monkeypatch.setattr("stj.models.copies.shutil.disk_usage", usage)
    return tmp_path


@pytest.mark.usefixtures("one_rank")
def test_copies_that_the_run_has_done_with_give_way_before_the_first_step(disk: Path) -> None:
    make_room_everywhere(job("s3://bucket/run?region=us-east-1"), steps=100)
    assert [path.name for path in (disk / "cache").iterdir() if path.is_dir()] == ["1"]


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("folder", ["s3://bucket/run?region=us-east-1", "run"])
def test_a_training_that_cannot_fit_is_refused_before_the_first_step(folder: str, disk: Path) -> None:
    place = folder if "://" in folder else str(disk / folder)
    (disk / "run").mkdir()
    with pytest.raises(StorageFailed) as refused:
        make_room_everywhere(job(place, checkpoint=6000), steps=100)
    words = str(refused.value)
    assert words.startswith("machine ")
    assert ("(TMPDIR)" if "://" in folder else "(run_root)") in words
    assert f"copies of models take 1 kB of {OTHER}" in words
    assert "\n" not in words


@pytest.mark.usefixtures("one_rank")
def test_a_seed_of_unknown_shape_is_trained_as_before(disk: Path) -> None:
    make_room_everywhere(job("s3://bucket/run?region=us-east-1", checkpoint=0, model=0), steps=100)
    assert len([path for path in (disk / "cache").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(("workers", "expected"), [(1, 50), (2, 100), (64, 100)])  # a model of 100 bytes, shards of 50
def test_each_rank_of_a_machine_holds_a_shard_while_it_exports(workers: int, expected: int) -> None:
    task = job("s3://bucket/run?region=us-east-1")
    assert scratch_bytes(replace(task, config=replace(task.config, workers=workers)), 0, 1) == expected
