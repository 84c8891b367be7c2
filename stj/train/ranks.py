"""The ranks of a training, seen as the processes of machines."""

import os
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from stj.errors import StjError

T = TypeVar("T")


def gathered(value: T) -> list[T]:
    """The values of all ranks, on each rank; all ranks must call it."""
    values = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def on_each_rank(work: Callable[[], T]) -> list[T]:
    """What the work brings on each rank; all ranks must call it. Raises, on all ranks, an StjError that one of them meets."""
    result: T | StjError
    try:
        result = work()
    except StjError as error:
        result = error
    results = gathered(result)
    for other in results:
        if isinstance(other, StjError):
            raise other
    return [other for other in results if not isinstance(other, StjError)]


def ranks_here() -> int:
    """Number of ranks of this machine; 1 in a process that is no rank."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank_here() -> int:
    """The number of this rank on its machine."""
    return int(os.environ["LOCAL_RANK"])


def first_ranks() -> list[int]:
    """The first rank of each machine; all ranks must call it."""
    return [rank for rank, local_rank in enumerate(_local_ranks()) if local_rank == 0]


def ranks_in_turns() -> list[int]:
    """All ranks, the first of each machine before the second of any; all ranks must call it."""
    local_ranks = _local_ranks()
    return sorted(range(len(local_ranks)), key=lambda rank: (local_ranks[rank], rank))


def _local_ranks() -> list[int]:
    """The number of each rank on its machine."""
    return gathered(rank_here())
