"""The host's cores for an offloaded optimizer."""

import os
from pathlib import Path

import pytest
import torch

from stj.train.host import cores, free_memory, updating
from stj.train_config import TrainConfig


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


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 4_096_000), ("3000000", 2_500_000), ("500000", 0), ("9000000", 4_096_000)]
)
def test_free_memory_is_the_machine_s_and_no_more_than_a_container_s(limit: str, expected: int, tmp_path: Path) -> None:
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal:  8000 kB\nMemAvailable:    4000 kB\n")
    assert free_memory(machine, tmp_path) == 4_096_000
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 200000\n")
    assert free_memory(machine, tmp_path) == expected


def test_this_machine_has_free_memory() -> None:
    assert free_memory() > 0
