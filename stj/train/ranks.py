"""The ranks of a training, seen as the processes of machines."""

import os

import torch.distributed as dist


def first_ranks() -> list[int]:
    """The first rank of each machine; all ranks must call it."""
    local_ranks = [0] * dist.get_world_size()
    dist.all_gather_object(local_ranks, int(os.environ["LOCAL_RANK"]))
    return [rank for rank, local_rank in enumerate(local_ranks) if local_rank == 0]
