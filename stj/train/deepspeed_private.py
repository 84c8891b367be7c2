"""The two private names of DeepSpeed that stj replaces: how ZeRO-3 sums gradients over ranks, and when it drops frozen weights.

DeepSpeed sums in one format on all links. Here the ranks of a machine sum in fp32, over links that are fast, and machines sum
these sums in bf16. So a gradient is rounded once a machine, not once a rank, and half as many bytes leave a machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from deepspeed.comm import reduce_scatter_fn
from deepspeed.runtime.zero import partitioned_param_coordinator, stage3
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn.functional import pad

_deepspeeds = stage3.reduce_scatter_coalesced


@dataclass(frozen=True, kw_only=True)
class MachineGroups:
    """The groups of one rank: rank number n * size + l is the l-th of the n-th machine."""

    size: int
    """Ranks of a machine."""
    inside: ProcessGroup
    """The ranks of this rank's machine."""
    across: ProcessGroup
    """The l-th ranks of all machines."""


def machine_groups(size: int) -> MachineGroups:
    """Groups for machines of `size` ranks; all ranks must call this."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    inside = [dist.new_group(list(range(first, first + size))) for first in range(0, ranks, size)]
    across = [dist.new_group(list(range(first, ranks, size))) for first in range(size)]
    return MachineGroups(size=size, inside=inside[rank // size], across=across[rank % size])


def sum_gradients_by_machine(groups: MachineGroups | None) -> None:
    """Has every engine of this process sum gradients by machine from now on; None restores DeepSpeed's way."""
    stage3.reduce_scatter_coalesced = partial(mean_by_machine, groups=groups) if groups else _deepspeeds


def drop_frozen_weights_with_their_layer() -> None:
    """Has every engine of this process drop a layer's frozen weights after its backward pass.

    If a checkpointed layer is computed again, DeepSpeed books them on the module around the layers. That one's backward pass
    ends last, so all weights of the model would be gathered by then.
    """
    partitioned_param_coordinator.update_recompute_parameters = _book_on_nobody


def _book_on_nobody(*_: object) -> None:
    """Leaves a weight with the module that holds it."""


@torch.no_grad()
def mean_by_machine(tensors: Sequence[Tensor], group: ProcessGroup | None = None, *, groups: MachineGroups) -> list[Tensor]:
    """This rank's part of each tensor's mean over all ranks, in fp32. A tensor is divided into equal parts; the last are short.

    The caller's group must be all ranks.
    """
    ranks, rank = dist.get_world_size(group), dist.get_rank(group)
    machines = ranks // groups.size
    sizes = [-(-tensor.numel() // ranks) for tensor in tensors]
    # (ranks of a machine, machines, parts): what the l-th rank of each machine sums is in one piece
    parts = torch.empty(groups.size, machines, sum(sizes), dtype=torch.float32, device=tensors[0].device)
    for tensor, part in zip(tensors, torch.split(parts, sizes, dim=2), strict=True):
        whole = pad(tensor.flatten(), (0, ranks * part.shape[2] - tensor.numel()))
        part.copy_(whole.view(machines, groups.size, -1).transpose(0, 1))
    parts /= ranks
    of_machine = torch.empty_like(parts[0])
    reduce_scatter_fn(of_machine.view(-1), parts.view(-1), group=groups.inside)
    mean = of_machine[0] if machines == 1 else _sum_in_bf16(of_machine, groups.across)
    lengths = [max(0, min(size, tensor.numel() - rank * size)) for tensor, size in zip(tensors, sizes, strict=True)]
    return [part[:length] for part, length in zip(torch.split(mean, sizes), lengths, strict=True)]


def _sum_in_bf16(of_machine: Tensor, across: ProcessGroup) -> Tensor:
    """The sum over machines of this rank's row of (machines, parts), in fp32 after sums in bf16."""
    sums = torch.empty_like(of_machine[0], dtype=torch.bfloat16)
    reduce_scatter_fn(sums, of_machine.bfloat16().view(-1), group=across)
    return sums.float()
