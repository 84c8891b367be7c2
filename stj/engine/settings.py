"""vLLM's settings for a model and its devices, under vLLM's names: fields of EngineArgs and `--flags` of its server."""

from typing import Any

from stj.config import EngineConfig, ModelConfig

_CPU_BLOCK_TOKENS = 32
"""Samples of one prompt share only whole blocks. With vLLM's 128 on a CPU, a judge reads half of a 243-token prompt again for
each sample. With 32 the same judgments took 20 s instead of 29 s."""


def engine_settings(path: str, model: ModelConfig, config: EngineConfig, seed: int) -> dict[str, Any]:
    """Arguments of vLLM's engine for the model at a path; None leaves the choice to vLLM."""
    return {
        "model": path,
        "dtype": model.dtype,
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
