"""The ranks of a training, seen as the processes of machines."""

import os

import torch.distributed as dist


def first_ranks() -> list[int]:
    """The first rank of each machine; all ranks must call it."""
    return [rank for rank, local_rank in enumerate(_local_ranks()) if local_rank == 0]


def ranks_in_turns() -> list[int]:
    """All ranks, the first of each machine before the second of any; all ranks must call it."""
    local_ranks = _local_ranks()
    return sorted(range(len(local_ranks)), key=lambda rank: (local_ranks[rank], rank))


def _local_ranks() -> list[int]:
    """The number of each rank on its machine."""
    local_ranks = [0] * dist.get_world_size()
    dist.all_gather_object(local_ranks, int(os.environ["LOCAL_RANK"]))
    return local_ranks
