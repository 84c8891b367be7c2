from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stj.errors import TrainingFailed
from stj.storage.folder import Folder
from stj.storage.sealed import write_sealed
from stj.train import checkpoint
from stj.train.committed import Checkpoint, check_world_size, committed, prune


def commit(folder: Path, step: int, fingerprint: str = "mine") -> Checkpoint:
    written = Checkpoint(fingerprint=fingerprint, step=step, epoch=0, samples=step, world_size=2, files={})
    (folder / written.tag).mkdir(parents=True)
    write_sealed(Folder.at(folder / written.tag), "manifest.json", asdict(written))
    return written


def test_the_newest_whole_checkpoint_of_this_model_comes_first(tmp_path: Path) -> None:
    first, second = commit(tmp_path, 100), commit(tmp_path, 1000)
    commit(tmp_path, 2000, fingerprint="another")
    (tmp_path / "step_00003000").mkdir()  # Killed before its manifest.
    commit(tmp_path, 4000)
    (tmp_path / "step_00004000/manifest.json").write_text("{")
    assert committed(Folder.at(tmp_path), "mine") == [second, first]
    assert committed(Folder.at(tmp_path / "absent"), "mine") == []


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        commit(tmp_path, step)
    commit(tmp_path, 9, fingerprint="another")
    prune(Folder.at(tmp_path), "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000002", "step_00000003"]


def test_another_number_of_ranks_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"step_00000007 was written by 2 ranks and this run has 4: set train.workers=2"):
        check_world_size(commit(tmp_path, 7), 4)


def test_every_rank_goes_through_the_checkpoints_that_rank_0_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared disk that lags, a rank that followed its own list would wait for the others forever."""
    newest, before = commit(tmp_path / "rank_0", 200), commit(tmp_path / "rank_0", 100)
    commit(tmp_path / "rank_1", 100)

    def broadcast(values: list[Any]) -> None:
        values[0] = committed(Folder.at(tmp_path / "rank_0"), "mine")

    asked: list[Checkpoint] = []

    def not_whole(source: Folder, candidate: Checkpoint, to: Path) -> bool:
        asked.append(candidate)
        return False

    ranks = SimpleNamespace(get_rank=lambda: 1, get_world_size=lambda: 2, broadcast_object_list=broadcast)
    monkeypatch.setattr(checkpoint, "dist", ranks)
    monkeypatch.setattr(checkpoint, "_fetched_whole", not_whole)
    assert checkpoint.restore(SimpleNamespace(), Folder.at(tmp_path / "rank_1"), "mine") is None
    assert asked == [newest, before]
