"""Memory of an engine: what it holds, whether that fits, and what to change if it does not."""

from dataclasses import dataclass, replace

from stj.config import Config, EngineConfig, ModelConfig
from stj.models.shapes import DTYPE_BYTES, Shape, shape_of
from stj.text import data_size

GB = 1e9
_ENGINE_GB = 2.0
"""GB of an engine on each GPU besides weights, KV cache and activations: libraries, graphs, and the sampler."""
_BATCHED_TOKENS = 8192
_BATCHED_TOKENS_OF_LARGE = 16_384
_LARGE_GB = 70 * 2**30 / GB
"""Tokens of the largest batch that vLLM reads offline (UsageContext.LLM_CLASS in vllm/engine/arg_utils.py), and the memory of a
GPU from which on it reads more. On an A100 of 80 GB it reads 8,192 as well; the plan leaves a little too much room there."""
_TENSOR_PARALLEL_SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class RolePlan:
    """One model in its role, as an engine serves it."""

    role: str
    model: str
    gpus: int
    """GPUs of one engine; 0 on a CPU and for a model behind an API."""
    parameters: int | None
    """None if the model's shape is unknown."""
    weights_gb: float = 0
    """GB of weights on each GPU."""
    kv_bytes_per_token: int = 0
    """Bytes over all GPUs of one engine."""
    kv_room_tokens: int = 0
    """Tokens that the KV cache of one engine holds."""
    behind_api: bool = False
    fits: bool = True
    remedy: str = ""

    def line(self) -> str:
        """This role as a line of the printed plan."""
        if self.behind_api:
            return f"{self.role:<12} {self.model}: behind an API, so it takes no GPU"
        if self.parameters is None:
            why = "no config.json of a known family here, and none known for this id"
            unknown = f"{self.role:<12} {self.model}: unknown shape ({why})"
            return unknown if self.fits else f"{unknown}: {verdict(self.fits, self.remedy)}"
        size = data_size(self.weights_gb * GB)
        where = f"{self.gpus} x GPU, each {size}" if self.gpus else f"CPU, {size}"
        return (
            f"{self.role:<12} {self.model}: {count(self.parameters)} parameters on {where} of weights; "
            f"KV cache of {max(0, self.kv_room_tokens):,} tokens at {self.kv_bytes_per_token:,} bytes: "
            f"{verdict(self.fits, self.remedy)}"
        )


def role_plan(setting: str, model: ModelConfig, config: Config) -> RolePlan:
    """What an engine of the model of a setting holds. It fits if the KV cache has room for one sequence of full length."""
    role = setting.removeprefix("models.")
    if model.endpoint:
        return RolePlan(role=role, model=model.label, gpus=0, parameters=None, behind_api=True)
    shape = shape_of(model)
    gpus = model.gpus if config.engine.device == "gpu" else 0
    if shape is None:
        fault = _too_many_gpus(setting, model, config)
        return RolePlan(role=role, model=model.path, gpus=gpus, parameters=None, fits=not fault, remedy=fault)
    room = kv_room(shape, model, config)
    remedy = _engine_remedy(setting, shape, model, config)
    return RolePlan(
        role=role,
        model=model.path,
        gpus=gpus,
        parameters=shape.parameters,
        weights_gb=shape.parameters * DTYPE_BYTES[model.dtype] / max(1, gpus) / GB,
        kv_bytes_per_token=shape.kv_bytes(model.dtype),
        kv_room_tokens=room,
        fits=not remedy,
        remedy=remedy,
    )


def kv_room(shape: Shape, model: ModelConfig, config: Config, tensor_parallel: int | None = None) -> int:
    """Tokens that the KV cache of one engine holds; negative if not even the weights fit."""
    per_token = shape.kv_bytes(model.dtype)
    if config.engine.device == "cpu":
        return int(config.engine.kv_cache_gib * 2**30 / per_token)
    tp = tensor_parallel or model.tensor_parallel_size
    weights = shape.parameters * DTYPE_BYTES[model.dtype] / (tp * model.pipeline_parallel_size)
    other = _ENGINE_GB * GB + _activation_bytes(shape, model, config, tp)
    free = config.hardware.gpu_memory_gb * config.engine.gpu_memory_utilization * GB - other - weights
    return int(free * model.pipeline_parallel_size * min(tp, shape.kv_heads) / per_token)


def fewest_gpus(shape: Shape, model: ModelConfig, config: Config) -> int | None:
    """The fewest GPUs of a machine that share each layer of a model and leave room for one sequence of full length.

    None if all of them together have no room.
    """
    sizes = (size for size in _TENSOR_PARALLEL_SIZES if size <= config.hardware.gpus and _divides(size, shape))
    return next((size for size in sizes if kv_room(shape, model, config, size) >= model.max_model_len), None)


def _activation_bytes(shape: Shape, model: ModelConfig, config: Config, tensor_parallel: int) -> float:
    """Bytes of the largest batch on each GPU, which vLLM reads once at the start and leaves free from then on.

    A layer holds most in its MLP: the hidden states and their residual on every GPU, and a share of gate and input and of their
    product. Qwen3-8B on an RTX 4090 shows it: 8,192 tokens in place of 2,048 left 0.552 GB less for the KV cache
    (vllm-project/vllm pull request 48322); this says 0.554.
    """
    large = config.hardware.gpu_memory_gb >= _LARGE_GB
    tokens = min(_BATCHED_TOKENS_OF_LARGE if large else _BATCHED_TOKENS, config.engine.max_num_seqs * model.max_model_len)
    mlp = shape.active_experts * (max(2 * shape.mlp / tensor_parallel, shape.hidden) + shape.mlp / tensor_parallel)
    return tokens * DTYPE_BYTES[model.dtype] * (2 * shape.hidden + mlp)


def count(number: float) -> str:
    """A number with a suffix: 70.6B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _engine_remedy(setting: str, shape: Shape, model: ModelConfig, config: Config) -> str:
    if fault := _too_many_gpus(setting, model, config) or _uneven_parts(setting, shape, model):
        return fault
    full = kv_room(shape, model, config) < model.max_model_len
    if config.engine.device == "cpu":
        held = shape.parameters * DTYPE_BYTES[model.dtype] + config.engine.kv_cache_gib * 2**30
        if held > config.hardware.host_memory_gb * GB:
            return "take a machine with more memory"
        return "raise engine.kv_cache_gib" if full else ""
    return _room_remedy(setting, shape, model, config) if full else ""


def _too_many_gpus(setting: str, model: ModelConfig, config: Config) -> str:
    """An engine is one process group on one machine; empty if its GPUs fit there."""
    if config.engine.device == "cpu" or model.gpus <= config.hardware.gpus:
        return ""
    tensors = f"{setting}.tensor_parallel_size={model.tensor_parallel_size}"
    layers = f"{setting}.pipeline_parallel_size={model.pipeline_parallel_size}"
    asked = tensors if model.pipeline_parallel_size == 1 else f"{tensors} x {layers} are {model.gpus}"
    return f"{asked} GPUs, and a machine has {config.hardware.gpus}: lower it or take larger machines"


def _uneven_parts(setting: str, shape: Shape, model: ModelConfig) -> str:
    """Why vLLM cannot share the model over this many GPUs; empty if it can."""
    if not _divides(model.tensor_parallel_size, shape):
        heads = f"{shape.heads} attention heads and {shape.kv_heads} KV heads"
        return f"{setting}.tensor_parallel_size={model.tensor_parallel_size} must divide the model's {heads}"
    if model.pipeline_parallel_size > shape.layers:
        parts = f"{setting}.pipeline_parallel_size={model.pipeline_parallel_size}"
        return f"{parts} is more than the model's {shape.layers} layers: lower it"
    return ""


def _divides(tensor_parallel: int, shape: Shape) -> bool:
    """GPUs share KV heads, or each KV head is on several GPUs."""
    shared = shape.kv_heads % tensor_parallel == 0 or tensor_parallel % shape.kv_heads == 0
    return shape.heads % tensor_parallel == 0 and shared


def _room_remedy(setting: str, shape: Shape, model: ModelConfig, config: Config) -> str:
    """What makes room for the KV cache: more GPUs of a machine, or the usual share of their memory."""
    share = EngineConfig.gpu_memory_utilization  # The default.
    usual = replace(config, engine=replace(config.engine, gpu_memory_utilization=share))
    most = config.hardware.gpus // model.pipeline_parallel_size
    sizes = [size for size in _TENSOR_PARALLEL_SIZES if model.tensor_parallel_size < size <= most and _divides(size, shape)]

    def enough(changed: Config) -> str | None:
        fitting = (size for size in sizes if kv_room(shape, model, changed, size) >= model.max_model_len)
        return next((f"{setting}.tensor_parallel_size={size}" for size in fitting), None)

    larger = f"engine.gpu_memory_utilization={share}" if config.engine.gpu_memory_utilization < share else None
    alone = larger and kv_room(shape, model, usual) >= model.max_model_len
    if ways := [way for way in (enough(config), larger if alone else None) if way]:
        return f"set {', or '.join(ways)}"
    if larger and (gpus := enough(usual)):
        return f"set {gpus} and {larger}"
    return f"take larger machines, or lower {setting}.max_model_len"


def verdict(fits: bool, remedy: str) -> str:
    """Whether it fits, in words, and if not, what to change."""
    return "fits" if fits else f"DOES NOT FIT: {remedy}"
