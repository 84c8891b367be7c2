"""NVIDIA's driver on this machine, against the CUDA that the installed torch was built for. No CUDA is started.

A driver has two parts. The kernel's module is one of the machine. The library `libcuda.so.1` is what programs load: a container
may lack it, and a newer one may stand before the driver's own (NVIDIA's cuda-compat). What the library serves counts.
"""

import ctypes
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_OLDEST = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""The oldest driver on Linux for each major version of CUDA, from "Minor Version Compatibility" in NVIDIA's documents."""
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")  # Every container sees it, also one without GPUs. WSL has none.
_LIBRARY = "libcuda.so.1"
_load = ctypes.CDLL


@dataclass(frozen=True, kw_only=True)
class NvidiaDriver:
    """The driver of this machine's GPUs."""

    version: str
    cuda: tuple[int, int] | None
    """The newest CUDA that its library serves, major and minor version; None if programs find no library."""
    restart: bool = False
    """Whether the library and the kernel's module are of different versions: the driver was updated, and the old one runs."""

    def serves(self, built_for: tuple[int, int]) -> bool:
        """Whether it is new enough for this CUDA. Within a major version of CUDA, every driver serves every minor version."""
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
    version, restart = _version_by_nvml()
    version = version or _version_of_kernel_module()
    return NvidiaDriver(version=version, cuda=_library_cuda(), restart=restart) if version else None


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
    in_container = "give a container the GPUs (docker run --gpus all)"
    if driver is None:
        return f"it shows no NVIDIA driver, and {needs}: install it, and {in_container}"
    if driver.restart:
        return f"the {driver.words()} was updated while it ran, and no program can use it: restart the machine"
    if not driver.serves(built_for):
        return f"{driver.words()}, and {needs}: update the driver, or start the machine from an image that has it"
    if driver.cuda is None:
        return f"it has {driver.words()}, but programs find no {_LIBRARY}: {in_container}, with `compute` and `utility`"
    return None


def driver_fault_here() -> str | None:
    """`driver_fault` of this machine."""
    return driver_fault(driver_here(), torch_cuda(), torch_version())


def _version_by_nvml() -> tuple[str, bool]:
    """The driver's version, empty if NVIDIA's library for management is not there; and whether the machine must restart."""
    try:
        import pynvml  # comes with vLLM's GPU build
    except ImportError:
        return "", False
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return "", getattr(error, "value", None) == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    try:
        return str(pynvml.nvmlSystemGetDriverVersion()), False
    except pynvml.NVMLError:
        return "", False
    finally:
        pynvml.nvmlShutdown()


def _version_of_kernel_module() -> str:
    """The version of the module in the kernel, proprietary or open; empty if there is none."""
    try:
        text = _KERNEL_MODULE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)(?=\s|$)", text, re.MULTILINE)
    return match[1] if match else ""


def _library_cuda() -> tuple[int, int] | None:
    """The CUDA of the driver's library, which need not start for that; None if there is none, or one for linking only."""
    number = ctypes.c_int()
    try:
        failed = _load(_LIBRARY).cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    return None if failed or number.value <= 0 else (number.value // 1000, number.value % 1000 // 10)


def _torch_facts() -> str:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    return (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
