"""Whether the GPUs of this machine hold what a run asks of them."""

from collections.abc import Mapping
from dataclasses import replace

from stj.config import Config
from stj.errors import CheckFailed
from stj.machine.driver import driver_fault, torch_version
from stj.machine.gpus import Gpus
from stj.models.shapes import shape_of
from stj.plan.memory import role_plan
from stj.plan.training import training_plan


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
    for setting, model in config.named_models.items():
        planned = role_plan(setting, model, here)
        if not planned.fits:
            raise CheckFailed(f"{setting} does not fit on GPUs of {gpus.memory_gb:.0f} GB: {planned.remedy}")
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
