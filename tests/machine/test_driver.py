"""NVIDIA's driver against the installed torch. No GPU is needed: the facts are given."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.engine import start
from stj.errors import CheckFailed
from stj.machine import driver
from stj.machine.driver import NvidiaDriver, driver_fault, driver_here, oldest_driver, served_cuda, torch_cuda, torch_version


@pytest.mark.parametrize(
    ("version", "cuda", "built_for", "serves"),
    [
        ("570.172.08", (12, 8), (13, 0), False),
        ("580.65.06", (13, 0), (13, 0), True),
        ("570.172.08", (13, 0), (13, 0), True),  # with NVIDIA's cuda-compat, an older driver serves a newer CUDA
        ("535.1", (12, 2), (12, 9), True),  # every minor version
        ("580.65.05", None, (13, 0), False),
        ("580.65.06", None, (13, 5), True),
        ("595.10", None, (13, 0), True),
        ("525.60.13", None, (12, 8), True),
        ("580.65.06", (13, 0), (14, 0), False),
    ],
)
def test_which_driver_serves_which_cuda(
    version: str, cuda: tuple[int, int] | None, built_for: tuple[int, int], serves: bool
) -> None:
    fault = driver_fault(NvidiaDriver(version=version, cuda=cuda), built_for, "2.13.0")
    assert (fault is None) == serves


def test_a_fault_names_the_driver_what_torch_needs_and_the_remedy() -> None:
    assert driver_fault(NvidiaDriver(version="570.172.08", cuda=(12, 8)), (13, 0), "2.13.0") == (
        "NVIDIA driver 570.172.08 serves CUDA 12.8, and torch 2.13.0 needs driver 580.65.06 or newer, since it was built for "
        "13.0: update the driver, or start the machine from an image that has it"
    )
    assert "shows no NVIDIA driver" in (driver_fault(None, (13, 0), "2.13.0") or "")
    assert "torch 2.13.0+cpu is a CPU build" in (driver_fault(None, None, "2.13.0+cpu") or "")


def test_the_oldest_driver_of_an_unknown_cuda_is_that_of_the_nearest_known_one() -> None:
    assert oldest_driver((13, 2)) == oldest_driver((14, 0)) == "580.65.06"
    assert oldest_driver((10, 2)) == "450.80.02"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.172.08  Tue Jul  8 18:08:36 UTC 2025\nGCC version:  gcc 12",
            "570.172.08",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n", "580.65.06"),
        ("something else", None),
    ],
)
def test_the_kernel_module_s_file_is_read_without_nvidia_s_library(
    text: str, version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_KERNEL_MODULE", tmp_path / "version")
    monkeypatch.setattr(driver, "_driver_by_nvml", lambda: None)
    assert driver_here() is None
    (tmp_path / "version").write_text(text)
    here = driver_here()
    assert (here and here.version) == version


def test_the_library_that_programs_load_counts() -> None:
    class NoLibrary(Exception):
        pass

    def missing() -> int:
        raise NoLibrary

    nvml: Any = SimpleNamespace(
        NVMLError=NoLibrary, nvmlSystemGetCudaDriverVersion_v2=lambda: 13000, nvmlSystemGetCudaDriverVersion=lambda: 12080
    )
    assert served_cuda(nvml) == (13, 0)
    nvml.nvmlSystemGetCudaDriverVersion_v2 = missing
    assert served_cuda(nvml) == (12, 8)


def test_the_installed_torch_is_asked_without_importing_it() -> None:
    import torch

    assert torch_version() == torch.__version__
    assert torch_cuda() == (tuple(map(int, torch.version.cuda.split("."))) if torch.version.cuda else None)


async def refused(config: EngineConfig) -> str:
    with pytest.raises(CheckFailed) as refusal:
        await start.start_engine(ModelConfig(path="no/model"), config, 0, None)
    return str(refusal.value)


def test_an_engine_on_a_gpu_is_refused_before_vllm_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(driver, "driver_here", lambda: NvidiaDriver(version="550.54.14", cuda=(12, 4)))
    monkeypatch.setattr(driver, "torch_cuda", lambda: (13, 0))
    line = asyncio.run(refused(EngineConfig(device="gpu")))
    assert line.startswith("machine ")
    assert "550.54.14 serves CUDA 12.4" in line
    assert "580.65.06 or newer" in line
    assert "\n" not in line
