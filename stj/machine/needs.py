"""What a run needs of each of its machines, in one value that travels to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from stj.machine.driver import driver_fault_here
from stj.machine.packages import ExpectedPackages
from stj.machine.place import SharedPlace

_NAMED = 3  # Name this many machines; an image's fault is the same on all of them.


class Need(Protocol):
    """What a room above asks of each machine, such as room on its disk."""

    def fault(self) -> str | None:
        """What this machine lacks, with the remedy; None if it lacks nothing."""


@dataclass(frozen=True, kw_only=True)
class MachineNeeds:
    """What each machine must have."""

    packages: ExpectedPackages | None = None
    """Versions of packages; None if none are compared."""
    place: SharedPlace | None = None
    """A directory that it reads and writes."""
    gpu: bool = False
    """Whether torch must be able to use its GPUs."""
    room: Need | None = None
    """Room on its disks."""

    def fault(self) -> str | None:
        """The first thing that this machine lacks, with the remedy; None if it lacks nothing."""
        return (
            (self.packages.fault() if self.packages else None)
            or (driver_fault_here() if self.gpu else None)
            or (self.place.fault() if self.place else None)
            or (self.room.fault() if self.room else None)
        )

    def without_gpu(self) -> "MachineNeeds":
        """What a machine without GPUs must have; if the run needs GPUs, it does nothing that fills its disk."""
        return replace(self, gpu=False, room=None if self.gpu else self.room)


def machine_words(machines: Sequence[str]) -> str:
    """Machines in words: `machine 10.0.0.7`, `machines 10.0.0.7, 10.0.0.8`, with a count if there are many."""
    listed = list(dict.fromkeys(machines))
    named, more = ", ".join(listed[:_NAMED]), len(listed) - _NAMED
    return f"machine{'s' if len(listed) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")
