"""Ways to merge two models that count from the base of both, as mergekit computes them.

What a model has learned is its weights less those of the base. `task_arithmetic` adds both, weighted. TIES keeps the largest
numbers of each, and of these the ones with the sign that has more weight; DARE keeps random ones. mergekit scales what DARE
keeps to the sum of absolute values before; DARE's authors divide by the density. Names, papers and code:
https://github.com/arcee-ai/mergekit
"""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from stj.errors import ConfigError
from stj.randomness import request_seed
from stj.use_config import MergeConfig


def check_method(config: MergeConfig) -> None:
    """Raises ConfigError if the method's library is not installed."""
    if config.method != "linear" and find_spec("mergekit") is None:
        raise ConfigError(
            f"method={config.method}: mergekit computes it, and is not installed: install the extra stj[merge], or set "
            "method=linear"
        )


def mix_from_base(parts: Sequence[Tensor], name: str, config: MergeConfig) -> Tensor:
    """A whole tensor of two models, merged from that of their base; `parts` holds the two and then the base.

    It is computed in float32 and rounded once, to the first one's dtype. What is random depends on the seed and the tensor's
    name alone. Takes 6 to 11 times the tensor's memory in float32.
    """
    from mergekit.merge_methods.api import merge_tensors

    first, second, base = parts
    weights = {1: config.weight, 2: 1 - config.weight}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(request_seed(config.seed, name, "merge", 0))
        merged: Tensor = merge_tensors(
            (base, first, second),
            config.method,
            parameters={"weight": weights, "density": config.density},
            base_index=0,
            name=name,
            dtype=torch.float32,
        )
    return merged.to(first.dtype)
