"""vLLM's settings for a model and its devices, under vLLM's names: fields of EngineArgs and `--flags` of its server."""

from pathlib import Path
from typing import Any

from stj.config import EngineConfig, ModelConfig
from stj.models.adapter import Adapter, has_tokenizer
from stj.models.tokenizer import tokenizer_mode

_CPU_BLOCK_TOKENS = 32
"""Samples of one prompt share only whole blocks. With vLLM's 128 on a CPU, a judge reads half of a 243-token prompt again for
each sample. With 32 the same judgments took 20 s instead of 29 s."""

_ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM has room for; an adapter of another rank takes the next one."""


def engine_settings(path: str, model: ModelConfig, config: EngineConfig, seed: int) -> dict[str, Any]:
    """Arguments of vLLM's engine for the model at a path; None leaves the choice to vLLM."""
    return {
        "model": path,
        "dtype": model.dtype,
        "load_format": model.load_format,
        "tokenizer_mode": tokenizer_mode(Path(path)),
        "seed": seed,
        "max_model_len": model.max_model_len,
        "tensor_parallel_size": model.tensor_parallel_size,
        "pipeline_parallel_size": model.pipeline_parallel_size,
        "max_num_seqs": config.slots,
        "enable_prefix_caching": False if config.deterministic else None,  # what is cached decides how a prompt is computed
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "kv_cache_memory_bytes": int(config.kv_cache_gib * 2**30) if config.device == "cpu" else None,
        "distributed_executor_backend": "uni" if config.device == "cpu" and model.gpus == 1 else None,
        "block_size": _CPU_BLOCK_TOKENS if config.device == "cpu" else None,
        "enforce_eager": config.enforce_eager,
        "generation_config": "vllm",  # sampling comes from our config only, not from the model's generation_config.json
    }


def adapter_settings(adapter: Adapter | None, path: str) -> dict[str, Any]:
    """More arguments for an engine of the base of the adapter at a path; none for a whole model."""
    if adapter is None:
        return {}
    room = next(rank for rank in _ADAPTER_RANKS if rank >= adapter.rank)
    tokenizer = path if has_tokenizer(path) else None
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": room, "tokenizer": tokenizer}
