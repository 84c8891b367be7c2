"""The host's cores, for the part of a step that an offloaded optimizer computes there, and its memory.

Ray gives a rank as many threads as it reserves CPUs: one. An update of a 70B on 32 ranks changes 2.2 billion weights of each
rank in host memory, and one core takes seconds for that while the machine's other cores are idle.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stj.train.ranks import ranks_here
from stj.train_config import TrainConfig

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The limit of a container, as `QUOTA PERIOD` in microseconds; `max PERIOD` is none."""
_MEMORY, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
"""The machine's memory, and the files of a container's limit: memory.max, memory.current and memory.stat, in bytes."""


@contextmanager
def updating(config: TrainConfig) -> Iterator[None]:
    """Lets an offloaded optimizer use this rank's share of the machine's cores.

    The threads share out the numbers that they update, so the weights are the same for any number of them.
    """
    before = torch.get_num_threads()
    if config.offload == "optimizer":
        torch.set_num_threads(max(before, cores() // ranks_here()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores(quota: Path = _QUOTA) -> int:
    """Cores that this process may use: those that it may run on, and no more than its container's limit."""
    usable = len(os.sched_getaffinity(0))
    limit, _, period = quota.read_text().partition(" ") if quota.is_file() else ("max", "", "")
    return usable if limit == "max" else max(1, min(usable, int(limit) // int(period)))


def free_memory(machine: Path = _MEMORY, group: Path = _GROUP) -> int:
    """Bytes that processes may still take: what the machine has free, and no more than is left of the container's limit.

    Copies of files that memory holds count as free.
    """
    free = int(_field(machine, "MemAvailable:")) << 10
    limit = (group / "memory.max").read_text().strip() if (group / "memory.max").is_file() else "max"
    if limit == "max":
        return free
    used = int((group / "memory.current").read_text()) - int(_field(group / "memory.stat", "inactive_file"))
    return min(free, max(0, int(limit) - used))


def _field(file: Path, name: str) -> str:
    """The value in the line of a file that begins with this name."""
    return next(line.split()[1] for line in file.read_text().splitlines() if line.split()[0] == name)
