"""The host's cores for an offloaded optimizer."""

import os
from pathlib import Path

import pytest
import torch

from stj.config import TrainConfig
from stj.train.host import cores, updating


@pytest.mark.parametrize(
    ("content", "limit"), [("max 100000\n", 1 << 20), ("150000 100000\n", 1), ("50000 100000\n", 1), ("6400000 100000\n", 64)]
)
def test_a_container_s_limit_counts(tmp_path: Path, content: str, limit: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cores(tmp_path / "cpu.max") == min(limit, len(os.sched_getaffinity(0)))
    assert cores(tmp_path / "no file") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("local", ["1", "2", "1000"])
def test_an_offloaded_optimizer_has_its_share_of_the_cores_while_it_updates(
    local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with updating(TrainConfig()):
            assert torch.get_num_threads() == 1
        with updating(TrainConfig(offload="optimizer")):
            assert torch.get_num_threads() == max(1, cores() // int(local))
        assert torch.get_num_threads() == 1
        with pytest.raises(ValueError, match="stopped"), updating(TrainConfig(offload="optimizer")):
            raise ValueError("stopped")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
