"""The GPUs of this machine and their driver, as NVIDIA's management library reports them; no CUDA is started."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from stj.config import Config
from stj.errors import CheckFailed
from stj.machine.driver import NvidiaDriver, driver_fault, driver_here, torch_version
from stj.models.shapes import shape_of
from stj.plan.memory import GB, role_plan
from stj.plan.training import training_plan

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
    return Gpus(names=_visible(names), memory_gb=min(of_gpu.total for of_gpu in memory) / GB, driver=driver, busy=busy)


def check_gpus(gpus: Gpus | None, built_for: tuple[int, int] | None, needs: Mapping[str, int]) -> str:
    """Facts on the machine's GPUs in words.

    Raises CheckFailed if there are too few, if others use them, or if the driver is too old. `needs` holds the number that
    each setting asks for.
    """
    if gpus is None:
        raise CheckFailed(
            "this machine shows no NVIDIA GPU: install the driver, set engine.device=cpu and train.device=cpu for a small "
            "model, or name a cluster with GPUs in ray.address"
        )
    count = len(gpus.names)
    for setting, needed in needs.items():
        if needed > count:
            raise CheckFailed(
                f"{setting} asks for {needed} GPUs, and this machine has {count}: lower it, or name a cluster in ray.address"
            )
        if needed > count - gpus.busy:
            raise CheckFailed(
                f"{setting} asks for {needed} GPUs, and others use the memory of {gpus.busy} of this machine's {count}: wait "
                "until they end (nvidia-smi names them), or set CUDA_VISIBLE_DEVICES to free ones"
            )
    if fault := driver_fault(gpus.driver, built_for, torch_version()):
        raise CheckFailed(f"this machine: {fault}")
    return f"{count} x {gpus.names[0]}, {gpus.memory_gb:.0f} GB each, driver {gpus.driver.version}"


def check_memory(gpus: Gpus, config: Config, *, trains: bool) -> str:
    """What fits on this machine's GPUs, in words.

    `trains` says whether a training is left to do. Raises CheckFailed if a model does not fit, or if a rank of the training
    needs more than the whole memory of a GPU.
    """
    here = replace(config, hardware=replace(config.hardware, gpus=len(gpus.names), gpu_memory_gb=gpus.memory_gb))
    for role in ("generator", "first_judge", "seed"):
        planned = role_plan(role, getattr(config.models, role), here)
        if not planned.fits:
            raise CheckFailed(f"models.{role} does not fit on GPUs of {gpus.memory_gb:.0f} GB: {planned.remedy}")
    shape = shape_of(config.models.seed)
    if not trains or shape is None or config.train.device != "gpu":
        return f"all models fit on GPUs of {gpus.memory_gb:.0f} GB"
    training = training_plan(shape, here)
    if training.rank_gb > gpus.memory_gb:
        raise CheckFailed(
            f"the training of models.seed takes {training.rank_gb:.0f} GB on each of train.workers={config.train.workers} "
            f"GPUs, which have {gpus.memory_gb:.0f} GB: {training.remedy}"
        )
    return f"all models and the training fit on GPUs of {gpus.memory_gb:.0f} GB"


def _visible(of_gpus: Sequence[_T]) -> tuple[_T, ...]:
    """The facts of those GPUs that CUDA_VISIBLE_DEVICES leaves, by their numbers; all if it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(of_gpus)
    words = [word.strip() for word in visible.split(",") if word.strip() not in ("", "-1")]
    if all(word.isdigit() for word in words):
        return tuple(of_gpus[int(word)] for word in words if int(word) < len(of_gpus))
    return tuple(of_gpus[: len(words)])
