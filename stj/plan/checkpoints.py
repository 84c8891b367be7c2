"""How long checkpoints keep the GPUs of a training waiting (stj/train/checkpoint_writer.py).

Steps stop while each of R ranks copies its part, 12T/R bytes for T trained parameters, to the host's memory. A machine without
room for the copies writes its part instead. The rest happens behind the next steps. What they do not hide is waited for, before
the next checkpoint or at the end of the training:

    behind      the machine's part is written, hashed, and sent to `run_root`
    remainder   behind - steps to the next checkpoint, or to the end, x seconds of a step; at least 0
"""

import math
from dataclasses import dataclass

from stj.cluster_config import HardwareConfig
from stj.plan.memory import GB
from stj.plan.ranks import Ranks
from stj.plan.storage import Seconds, added, hashing, scaled, writing

_COPY_GBS = 3.0
"""GB/s at which each of a machine's 8 ranks copies from its GPU to usual memory. Pull request 5301 of DeepSpeed finds a fifth
to a fourth of pinned memory's 20 to 25 GB/s; the first copy is slower, because its pages are new."""


@dataclass(frozen=True, kw_only=True)
class CheckpointPlan:
    """The checkpoints of one training."""

    every: int
    """Steps from one to the next."""
    steps: float
    """All steps of the training."""
    step_seconds: float
    ends: bool
    """Whether the ranks end after each checkpoint, as they do if it is judged."""
    stop: Seconds
    """In which the steps stop for one checkpoint."""
    behind: Seconds
    """In which the rest of it is done."""

    @property
    def count(self) -> int:
        """How many there are: none after the last step, after which the model itself is written."""
        return max(0, math.ceil(self.steps) - 1) // self.every

    @property
    def remainder(self) -> float:
        """Seconds of `behind` that the steps do not hide, of all checkpoints together."""
        if not self.count:
            return 0.0
        gaps = [float(self.every)] * (self.count - 1) + [self.steps - self.count * self.every]
        whole = sum(self.behind.values())
        return sum(max(0.0, whole - gap * self.step_seconds * (not self.ends)) for gap in gaps)

    def waiting(self) -> Seconds:
        """Seconds in which the GPUs wait for all checkpoints, by what limits them."""
        share = self.remainder / sum(self.behind.values())
        return added(scaled(self.stop, self.count), scaled(self.behind, share))


def written_behind(
    size: float, ranks: Ranks, hardware: HardwareConfig, *, remote: bool, copied: bool
) -> tuple[Seconds, Seconds]:
    """The stop for a checkpoint of this many bytes, and what happens behind the steps; `copied` if memory has room for it."""
    part, of_rank = size / ranks.machines, size / ranks.count
    written = writing(part, 1 if remote else ranks.machines, hardware, remote=False)
    sent = {"network": part / GB / hardware.fetch_gbs} if remote else {}
    rest = added(hashing(of_rank), sent)
    return ({"memory": of_rank / GB / _COPY_GBS}, added(written, rest)) if copied else (written, rest)
