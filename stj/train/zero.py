"""The settings of DeepSpeed: ZeRO-3 in bf16 with fp32 master weights, and what a user sets over them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist

from stj.errors import ConfigError, TrainingFailed
from stj.models.zero import ZeroSizes, needs_even_ranks, uneven_ranks
from stj.train.ranks import gathered, rank_here, ranks_here
from stj.train_config import TrainConfig

_NEVER = 1 << 30  # Steps between DeepSpeed's own lines: ours say more.


def deepspeed_settings(
    config: TrainConfig, dtype: torch.dtype = torch.bfloat16, *, layer: int = 0, sharing: int = 1
) -> dict[str, Any]:
    """The settings for DeepSpeed, for a model whose largest layer has `layer` parameters.

    `sharing` ranks of each machine share a second copy of the weights; 1 is none.

    Gradients are exchanged in `train.gradient_dtype`, and summed over micro-batches in fp32. The master weights are fp32,
    because at Table 7's learning rate of 1e-6 an update is below what bf16 can add to a weight.
    """
    adamw = {"lr": config.lr, "betas": list(config.betas), "weight_decay": config.weight_decay}  # lr is set at each step
    settings = {
        "train_micro_batch_size_per_gpu": 1,  # only a label here: a micro-batch is a token budget
        "gradient_accumulation_steps": config.gradient_accumulation,
        "gradient_clipping": config.max_grad_norm or 0.0,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": config.gradient_dtype,
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": config.device == "gpu",
            "zero_hpz_partition_size": sharing,
            **asdict(ZeroSizes.of(layer, config)),
            **({"offload_optimizer": {"device": "cpu", "pin_memory": True}} if config.offload == "optimizer" else {}),
        },
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW runs on the host too, and needs no compiler there
        "optimizer": {"type": "AdamW", "params": {**adamw, "torch_adam": True, "fused": True}},
        "steps_per_print": _NEVER,
    }
    return merged(settings, config.deepspeed)


def merged(settings: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with others over them: mappings are merged key by key, and any other value is replaced."""
    result = dict(settings)
    for name, value in over.items():
        before = result.get(name)
        result[name] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def machine_size(config: TrainConfig) -> int:
    """Ranks of each machine if a setting groups ranks by machine, else 1. All ranks must call this.

    Raises TrainingFailed, on every rank, unless each machine has equally many ranks, with consecutive numbers: DeepSpeed
    groups ranks by their numbers alone.
    """
    if not needs_even_ranks(config):
        return 1
    places = gathered((rank_here(), ranks_here()))
    size = places[0][1]
    if places != [(rank % size, size) for rank in range(len(places))]:
        raise TrainingFailed(uneven_ranks(config, [size for local, size in places if local == 0]))
    return size


def ranks_sharing(config: TrainConfig, size: int) -> int:
    """How many ranks of each machine, of `size` ranks, share a second copy of the weights; 1 if there is none.

    A training on one machine needs none, and neither does one with one rank a machine.
    """
    return size if config.shard_within_machine and size < dist.get_world_size() else 1


def check_deepspeed(config: TrainConfig) -> None:
    """Raises ConfigError if DeepSpeed refuses `train.deepspeed`. It takes seconds, in a process of its own.

    DeepSpeed writes to stdout when it is imported, and keeps the accelerator that it then finds.
    """
    if not config.deepspeed:
        return
    settings = json.dumps(deepspeed_settings(config))
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-m", __name__], input=settings, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise ConfigError(
            f"train.deepspeed={json.dumps(config.deepspeed)}: DeepSpeed refuses it: {ran.stderr.splitlines()[-1]}"
        )


def refusal(settings: dict[str, Any]) -> str:
    """Why DeepSpeed refuses these settings, as one line; empty if it takes them."""
    from deepspeed.runtime.config import DeepSpeedConfig

    try:
        DeepSpeedConfig(settings)
    except Exception as error:  # pydantic's, DeepSpeed's own, and what wrong types raise somewhere inside
        reason = re.sub(r"^\d+ validation errors? for \w+", "", str(error)).split(" [type=")[0]
        return ": ".join(filter(None, map(str.strip, reason.splitlines()))) or type(error).__name__
    return ""


if __name__ == "__main__":
    sys.exit(refusal(json.load(sys.stdin)) or 0)  # an empty text would be an exit code of 1
