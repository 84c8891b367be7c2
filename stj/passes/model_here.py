"""A judge in use, loaded without a word on its size: with its own context, on the GPUs of this machine that it needs."""

from dataclasses import replace

from stj.cluster_config import RayConfig
from stj.config import Config, EngineConfig, ModelConfig
from stj.machine.gpus import Gpus, gpus_here
from stj.models.config_json import within_context
from stj.models.shapes import shape_of
from stj.passes.check import on_this_machine
from stj.plan.memory import fewest_gpus


def model_here(model: ModelConfig, engine: EngineConfig, ray: RayConfig | None = None) -> ModelConfig:
    """The model with max_model_len cut to its context, and on several GPUs of this machine if one cannot hold it.

    A model that names several GPUs keeps them. GPUs of a cluster, and of a machine where NVIDIA's library is not installed, are
    not known here: there one stays one.

    `ray` is None if the engine starts without Ray. Raises ModelError if the model is missing or its config.json is damaged.
    """
    model = within_context(model)
    elsewhere = ray is not None and not on_this_machine(ray)
    if model.endpoint or engine.device == "cpu" or model.gpus > 1 or elsewhere:
        return model
    gpus = gpus_here()
    return model if gpus is None else on_gpus(model, engine, gpus)


def on_gpus(model: ModelConfig, engine: EngineConfig, gpus: Gpus) -> ModelConfig:
    """The model on the fewest of a machine's GPUs that hold it and one sequence of full length.

    It stays as it is if its shape is unknown, or if all GPUs together have no room: the engine's error then says more.
    """
    shape, plain = shape_of(model), Config()
    if shape is None:
        return model
    hardware = replace(plain.hardware, gpus=len(gpus.names), gpu_memory_gb=gpus.memory_gb)
    needed = fewest_gpus(shape, model, replace(plain, engine=engine, hardware=hardware))
    return model if needed is None else replace(model, tensor_parallel_size=needed)
