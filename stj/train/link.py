"""Whether machines can sum tensors together, as ranks do at each layer; one process on each machine calls `all_reduce`."""

from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist

_NUMBERS = 1 << 20  # 4 MB: large enough for the path that real gradients take, not only for small messages.


def all_reduce(rank: int, machines: int, address: str, timeout_s: float, device: Literal["gpu", "cpu"]) -> bool:
    """Whether the sum over all machines is right; by NCCL on GPUs, by gloo on CPUs.

    `address` is host:port of rank 0. Raises RuntimeError if the machines do not reach each other.
    """
    backend, place = ("nccl", "cuda") if device == "gpu" else ("gloo", "cpu")
    dist.init_process_group(
        backend, init_method=f"tcp://{address}", rank=rank, world_size=machines, timeout=timedelta(seconds=timeout_s)
    )
    try:
        numbers = torch.full((_NUMBERS,), float(rank + 1), device=place)
        dist.all_reduce(numbers)
        return bool((numbers == machines * (machines + 1) / 2).all())
    finally:
        dist.destroy_process_group()
