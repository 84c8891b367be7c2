"""NVIDIA's driver on this machine, against the CUDA that the installed torch was built for. No CUDA is started."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_OLDEST = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""The oldest driver on Linux for each major version of CUDA, from "Minor Version Compatibility" in NVIDIA's documents."""
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")  # Containers see it too.


@dataclass(frozen=True, kw_only=True)
class NvidiaDriver:
    """The driver of this machine's GPUs."""

    version: str
    cuda: tuple[int, int] | None
    """The newest CUDA that it serves, major and minor version; None if only the driver's version is known."""

    def serves(self, built_for: tuple[int, int]) -> bool:
        """Whether programs for this CUDA run. Within a major version of CUDA, every driver serves every minor version."""
        if self.cuda:
            return self.cuda[0] >= built_for[0]
        return _numbers(self.version) >= _numbers(oldest_driver(built_for))

    def words(self) -> str:
        """The driver in words."""
        return f"NVIDIA driver {self.version}" + (" serves CUDA {}.{}".format(*self.cuda) if self.cuda else "")


def oldest_driver(built_for: tuple[int, int]) -> str:
    """The oldest driver for a CUDA. One that is newer than this table needs at least the table's last driver."""
    return _OLDEST.get(built_for[0]) or _OLDEST[max(_OLDEST) if built_for[0] > max(_OLDEST) else min(_OLDEST)]


def driver_here() -> NvidiaDriver | None:
    """The driver of this machine; None if none is loaded, or if a container does not show it."""
    return _driver_by_nvml() or _driver_by_kernel_module()


def served_cuda(nvml: Any) -> tuple[int, int]:
    """The CUDA of the driver's library that programs load: a newer one may stand before the driver's own (cuda-compat)."""
    try:
        number = nvml.nvmlSystemGetCudaDriverVersion_v2()
    except nvml.NVMLError:
        number = nvml.nvmlSystemGetCudaDriverVersion()
    number = int(number)
    return number // 1000, number % 1000 // 10


def torch_cuda() -> tuple[int, int] | None:
    """The CUDA that the installed torch was built for, read from its version file; None for a CPU build."""
    match = re.search(r"^cuda\b[^=\n]*= '(\d+)\.(\d+)", _torch_facts(), re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else None


def torch_version() -> str:
    """The version of the installed torch, from its version file; `unknown` without torch."""
    match = re.search(r"^__version__\b[^=\n]*= '([^']+)'", _torch_facts(), re.MULTILINE)
    return match[1] if match else "unknown"


def driver_fault(driver: NvidiaDriver | None, built_for: tuple[int, int] | None, torch: str) -> str | None:
    """What keeps this torch from the GPUs of a machine with this driver, with the remedy; None if nothing does."""
    if built_for is None:
        return f"torch {torch} is a CPU build, and a GPU is asked for: install the packages of requirements/gpu.txt there"
    needs = (
        f"torch {torch} needs driver {oldest_driver(built_for)} or newer, since it was built for {built_for[0]}.{built_for[1]}"
    )
    if driver is None:
        return f"it shows no NVIDIA driver, and {needs}: install it, and give a container the GPUs (docker run --gpus all)"
    if not driver.serves(built_for):
        return f"{driver.words()}, and {needs}: update the driver, or start the machine from an image that has it"
    return None


def driver_fault_here() -> str | None:
    """`driver_fault` of this machine."""
    return driver_fault(driver_here(), torch_cuda(), torch_version())


def _driver_by_nvml() -> NvidiaDriver | None:
    try:
        import pynvml  # comes with vLLM's GPU build
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return NvidiaDriver(version=str(pynvml.nvmlSystemGetDriverVersion()), cuda=served_cuda(pynvml))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _driver_by_kernel_module() -> NvidiaDriver | None:
    try:
        text = _KERNEL_MODULE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text)
    return NvidiaDriver(version=match[1], cuda=None) if match else None


def _torch_facts() -> str:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    return (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
