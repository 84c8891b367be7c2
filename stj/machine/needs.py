"""What a run needs of each of its machines, in one value that travels to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stj.machine.driver import driver_fault_here
from stj.machine.packages import ExpectedPackages
from stj.machine.place import SharedPlace

_NAMED = 3  # Name this many machines; an image's fault is the same on all of them.


@dataclass(frozen=True, kw_only=True)
class MachineNeeds:
    """What each machine must have."""

    packages: ExpectedPackages | None = None
    """Versions of packages; None if none are compared."""
    place: SharedPlace | None = None
    """A directory that it reads and writes."""
    gpu: bool = False
    """Whether torch must be able to use its GPUs."""

    def fault(self) -> str | None:
        """The first thing that this machine lacks, with the remedy; None if it lacks nothing."""
        return (
            (self.packages.fault() if self.packages else None)
            or (driver_fault_here() if self.gpu else None)
            or (self.place.fault() if self.place else None)
        )

    def without_gpu(self) -> "MachineNeeds":
        """What a machine without GPUs must have."""
        return replace(self, gpu=False)


def machine_words(machines: Sequence[str]) -> str:
    """Machines in words: `machine 10.0.0.7`, `machines 10.0.0.7, 10.0.0.8`, with a count if there are many."""
    listed = list(dict.fromkeys(machines))
    named, more = ", ".join(listed[:_NAMED]), len(listed) - _NAMED
    return f"machine{'s' if len(listed) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")
