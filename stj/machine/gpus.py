"""The GPUs of this machine and their driver, as NVIDIA's management library reports them; no CUDA is started."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from stj.errors import CheckFailed
from stj.machine.driver import NvidiaDriver, driver_here

_T = TypeVar("_T")

_FREE_SHARE = 0.5  # An engine or a rank takes most of a GPU's memory, a desktop a tenth.


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """What this machine has."""

    names: tuple[str, ...]
    memory_gb: float
    """Memory of the smallest GPU, in GB (10^9 bytes)."""
    driver: NvidiaDriver
    busy: int = 0
    """Number of GPUs of whose memory other processes use the larger part."""


def gpus_here() -> Gpus | None:
    """The GPUs of this machine; None if there are none, or if the library is not installed (it comes with vLLM's GPU build).

    Raises CheckFailed if the library does not answer, as after the loss of a GPU.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
        memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
    except pynvml.NVMLError as error:
        raise CheckFailed(f"this machine: NVIDIA's library says nothing of its GPUs ({error}): see nvidia-smi") from None
    finally:
        pynvml.nvmlShutdown()
    driver = driver_here()
    if not names or driver is None:
        return None
    busy = sum(_visible([of_gpu.free < _FREE_SHARE * of_gpu.total for of_gpu in memory]))
    return Gpus(names=_visible(names), memory_gb=min(of_gpu.total for of_gpu in memory) / 1e9, driver=driver, busy=busy)


def _visible(of_gpus: Sequence[_T]) -> tuple[_T, ...]:
    """The facts of those GPUs that CUDA_VISIBLE_DEVICES leaves, by their numbers; all if it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(of_gpus)
    words = [word.strip() for word in visible.split(",") if word.strip() not in ("", "-1")]
    if all(word.isdigit() for word in words):
        return tuple(of_gpus[int(word)] for word in words if int(word) < len(of_gpus))
    return tuple(of_gpus[: len(words)])
