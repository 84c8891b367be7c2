"""NVIDIA's driver against the installed torch. No GPU is needed: the facts are given."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.engine import start
from stj.errors import CheckFailed
from stj.machine import driver
from stj.machine.driver import NvidiaDriver, driver_fault, driver_here, oldest_driver, torch_cuda, torch_version


@pytest.mark.parametrize(
    ("version", "cuda", "built_for", "serves"),
    [
        ("570.172.08", (12, 8), (13, 0), False),
        ("580.65.06", (13, 0), (13, 0), True),
        ("570.172.08", (13, 0), (13, 0), True),  # with NVIDIA's cuda-compat, an older driver serves a newer CUDA
        ("535.1", (12, 2), (12, 9), True),  # every minor version
        ("560.94", (12, 6), (12, 8), True),  # WSL: the driver of Windows
        ("595.71.05", (13, 2), (13, 0), True),
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


def test_a_fault_names_what_a_container_lacks_and_a_driver_that_was_updated() -> None:
    hidden = driver_fault(NvidiaDriver(version="580.65.06", cuda=None), (13, 0), "2.13.0") or ""
    assert hidden.startswith("it has NVIDIA driver 580.65.06, but programs find no libcuda.so.1: give a container the GPUs")
    older = driver_fault(NvidiaDriver(version="580.65.05", cuda=None), (13, 0), "2.13.0") or ""
    assert older.startswith("NVIDIA driver 580.65.05, and torch 2.13.0 needs driver 580.65.06 or newer")
    updated = driver_fault(NvidiaDriver(version="580.65.06", cuda=(13, 0), restart=True), (13, 0), "2.13.0") or ""
    assert updated.endswith("restart the machine")


MODULES = {
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.172.08  Tue Jul  8 18:08:36 UTC\nGCC version:  12": "570.172.08",
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)": "580.65.06",
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05\n": "580.95.05",
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01": "535.183.01",
    "something else": "",
    "": "",
}


class NvmlError(Exception):
    """NVML's error, with its number."""

    value = 0


def machine(
    patch: pytest.MonkeyPatch, tmp_path: Path, *, module: str | None = None, nvml: str | int | None = None, library: int = 0
) -> NvidiaDriver | None:
    """The driver of a machine with this module in its kernel, version or error of NVML, and CUDA of libcuda.so.1 (0: none)."""
    (tmp_path / "version").unlink(missing_ok=True)
    if module is not None:
        (tmp_path / "version").write_text(module)
    patch.setattr(driver, "_KERNEL_MODULE", tmp_path / "version")

    def init() -> None:
        if isinstance(nvml, int):
            error = NvmlError()
            error.value = nvml
            raise error

    management = SimpleNamespace(
        NVMLError=NvmlError,
        NVML_ERROR_LIB_RM_VERSION_MISMATCH=18,
        nvmlInit=init,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: nvml,
    )
    patch.setitem(sys.modules, "pynvml", management if nvml is not None else None)

    def loaded(name: str) -> Any:
        if not library:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(
            cuDriverGetVersion=lambda number: setattr(number._obj, "value", max(library, 0)) or int(library < 0)
        )

    patch.setattr(driver, "_load", loaded)
    return driver_here()


@pytest.mark.parametrize(("text", "version"), MODULES.items())
def test_the_kernel_s_module_is_read_without_nvidia_s_library(
    text: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine(monkeypatch, tmp_path, module=text, library=13000)
    assert (here.version if here else "") == version


@pytest.mark.parametrize(
    ("facts", "here"),
    [
        ({"nvml": "580.65.06", "library": 13000}, NvidiaDriver(version="580.65.06", cuda=(13, 0))),
        ({"nvml": "560.94", "library": 12060}, NvidiaDriver(version="560.94", cuda=(12, 6))),  # WSL has no module
        ({"nvml": "570.172.08", "library": 13000}, NvidiaDriver(version="570.172.08", cuda=(13, 0))),  # cuda-compat
        ({"nvml": "580.65.06"}, NvidiaDriver(version="580.65.06", cuda=None)),  # a container without `compute`
        ({"nvml": "580.65.06", "library": -1}, NvidiaDriver(version="580.65.06", cuda=None)),  # a library for linking
        ({"module": next(iter(MODULES)), "library": 12080}, NvidiaDriver(version="570.172.08", cuda=(12, 8))),
        ({"module": next(iter(MODULES))}, NvidiaDriver(version="570.172.08", cuda=None)),  # a container without GPUs
        (
            {"module": next(iter(MODULES)), "nvml": 18, "library": 13000},
            NvidiaDriver(version="570.172.08", cuda=(13, 0), restart=True),
        ),
        ({"nvml": 9, "library": 13000}, None),  # the library is there, and no driver is loaded
        ({"library": 13000}, None),
        ({}, None),
    ],
)
def test_machines_and_containers_of_every_shape(
    facts: dict[str, Any], here: NvidiaDriver | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine(monkeypatch, tmp_path, **facts) == here


def test_this_machine_s_driver_is_looked_for_without_an_error() -> None:
    here = driver_here()
    assert here is None or here.version


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
