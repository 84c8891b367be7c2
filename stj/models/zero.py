"""How ZeRO-3 gathers the weights of a model and sums their gradients: sizes in parameters, from the size of its layers.

DeepSpeed's defaults fit layers of a few hundred million parameters. A layer that is larger than what DeepSpeed keeps for reuse
is gathered three times in a step instead of twice: backward computes it again, drops its weights, and needs them once more. If
what may be gathered is little more than a layer, nothing is fetched ahead, and the GPU waits for the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stj.train_config import TrainConfig

CHECKPOINT_BYTES = 12
"""Bytes of a trained parameter in a checkpoint: weight and two moments in fp32. What is frozen is not in it."""
SNAPSHOT_SHARE = 0.5
"""Share of the free host memory that copies of a checkpoint may take: the rest is for what the disk has not taken yet, and for
other processes."""
_MACHINES_SHOWN = 8
"""Machines whose numbers of ranks an error lists one by one."""
_LAYERS = 2.2
"""Layers that may be gathered at once: the one at work, the next one on its way, and their norms."""
_AHEAD = 1.0
"""Share of the next layer that is fetched while a layer is at work: ZeRO-3 gathers layers as a whole (train/model.py)."""
_ADAPTERS_BUCKET = 50_000_000
"""Gradients that DeepSpeed sums at once if only adapters have any. A GPU holds this bucket all the time: 0.2 GB in fp32 instead
of the 2 GB of DeepSpeed's default."""


@dataclass(frozen=True, kw_only=True)
class ZeroSizes:
    """Sizes of ZeRO-3, each as DeepSpeed names it."""

    stage3_max_live_parameters: int
    """Parameters that may be gathered at once."""
    stage3_max_reuse_distance: int
    """Parameters that may be used before the next use of a gathered one, for it to be kept until then."""
    stage3_prefetch_bucket_size: int
    """Parameters that are fetched ahead of their use."""
    reduce_bucket_size: int
    """Gradients that are summed over the ranks at once."""
    sub_group_size: int
    """Parameters that are updated at once."""

    @classmethod
    def of(cls, layer: int, train: TrainConfig) -> "ZeroSizes":
        """The sizes for a model whose largest layer has this many parameters; `train.deepspeed` replaces them.

        None is below DeepSpeed's default, except the bucket if only adapters are trained.
        """
        gathered = max(1_000_000_000, round(_LAYERS * layer))
        sizes = {
            "stage3_max_live_parameters": gathered,
            "stage3_max_reuse_distance": gathered,
            "stage3_prefetch_bucket_size": max(50_000_000, round(_AHEAD * layer)),
            "reduce_bucket_size": _ADAPTERS_BUCKET if train.lora else 500_000_000,
            "sub_group_size": 1_000_000_000,
        }
        given: dict[str, Any] = train.deepspeed.get("zero_optimization", {})
        return cls(**{name: int(given.get(name, size)) for name, size in sizes.items()})


def needs_even_ranks(train: TrainConfig) -> bool:
    """Whether a setting groups ranks by their numbers, a machine's equal share of them in each group."""
    return train.shard_within_machine or train.gradient_dtype == "bf16"


def uneven_ranks(train: TrainConfig, of_machines: Sequence[int]) -> str:
    """Why a training that needs equally many ranks on each machine is refused on machines with these, in words."""
    without = {"train.shard_within_machine=true": "train.shard_within_machine=false"} if train.shard_within_machine else {}
    if train.gradient_dtype == "bf16":
        without["train.gradient_dtype=bf16"] = "train.gradient_dtype=fp32"
    few = len(of_machines) <= _MACHINES_SHOWN
    ranks = ", ".join(map(str, of_machines)) if few else f"{min(of_machines)} to {max(of_machines)}"
    return (
        f"{' and '.join(without)} need{'s' * (len(without) == 1)} equally many ranks on each machine, and "
        f"train.workers={sum(of_machines)} have {ranks} ranks on theirs: set train.workers to a "
        f"multiple of a machine's GPUs, or {' and '.join(without.values())}"
    )
