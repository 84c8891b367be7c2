"""Memory and traffic of an export under ZeRO-3: the extra memory of each of two ranks, over the size of one shard.

The model is a Llama of random weights in bf16, partitioned as for training, without an optimizer. `export_peak_over_shard`
measures the second export of the same processes, so one-time costs such as gloo's connections are not in it. plan_check.py
measures the whole memory of a rank that exports after training, with its optimizer.
"""

import tempfile
from pathlib import Path
from typing import Any

from ranks import as_rank, forget_peak, is_rank, on_ranks, peak, shared_folder

SHARD_GB = 0.2


def measure(layers: int = 8) -> dict[str, Any]:
    """The worst rank's extra memory in the second export, over the shard size, and all raw figures."""
    ranks = on_ranks(__file__, layers=layers, shard_gb=SHARD_GB)
    extra = [rank["peak_extra_bytes"] for rank in ranks]
    return {
        "export_peak_over_shard": max(extra) / (SHARD_GB * 1e9),
        "raw": {
            "peak_extra_bytes": extra,
            "shard_bytes": int(SHARD_GB * 1e9),
            **{key: ranks[0][key] for key in ("model_bytes", "largest_parameter_bytes", "gathered_bytes", "files", "seconds")},
        },
    }


def rank(layers: int, shard_gb: float) -> dict[str, Any]:
    """Exports once to warm up, and once measured."""
    import time

    import deepspeed
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from stj.storage.folder import Folder
    from stj.train.export import export_model

    settings = LlamaConfig(
        vocab_size=16384,
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=4,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with deepspeed.zero.Init(config_dict_or_path=_zero3(), dtype=torch.bfloat16):
        model = LlamaForCausalLM(settings)
    gathered = _counted(deepspeed.comm)
    with tempfile.TemporaryDirectory(prefix="stj-benchmark-") as folder:
        seed, target = Path(folder), Folder.at(shared_folder()) / "model"
        settings.save_pretrained(seed)
        export_model(model, seed, target, shard_gb)
        deepspeed.comm.barrier()
        gathered.clear()
        before, started = forget_peak(), time.monotonic()
        export_model(model, seed, target, shard_gb)
        extra, seconds = peak() - before, time.monotonic() - started
        files = sum(name.endswith(".safetensors") for name in target.names())
    sizes = [2 * parameter.ds_numel for parameter in model.parameters()]
    return {
        "peak_extra_bytes": extra,
        "model_bytes": sum(sizes),
        "largest_parameter_bytes": max(sizes),
        "gathered_bytes": sum(gathered),
        "files": files,
        "seconds": round(seconds, 1),
    }


def _zero3() -> dict[str, Any]:
    return {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": True}, "zero_optimization": {"stage": 3}}


def _counted(comm: Any) -> list[int]:
    """A list that gets the bytes of each all-gather, without this rank's part."""
    counted: list[int] = []
    original = comm.all_gather_into_tensor

    def count(output: Any, part: Any, **options: Any) -> Any:
        counted.append(output.nbytes - part.nbytes)
        return original(output, part, **options)

    comm.all_gather_into_tensor = count
    return counted


if __name__ == "__main__":
    if is_rank():
        as_rank(rank)
    else:
        print(measure())
