"""The time that an optimizer in host memory takes (train.offload=optimizer). GPUs wait for the update.

T are the trained parameters, R the ranks, N the machines. DeepSpeed keeps the sums of gradients on the host. In each
micro-step the GPU fetches them, adds to them and sends them back (partition_grads in deepspeed/runtime/zero/stage3.py):

    each micro-step   4T/R bytes from a GPU to the host, and as many back
    each update       4T/R bytes to the host; 28T/N bytes of its memory for AdamW and 6T/N for rounding; 2T/R bytes back

AdamW reads weight, gradient and two moments in fp32, and writes all but the gradient.
"""

from dataclasses import dataclass

from stj.cluster_config import HardwareConfig
from stj.plan.memory import GB
from stj.train_config import TrainConfig

_LINK_SHARE = 0.8
"""Share of a link's speed that copies reach from locked memory."""
_MEMORY_SHARE = 0.5
"""Share of the host's memory bandwidth that torch's fused AdamW reaches on all cores. Measured on two cores alone: 10 GB/s a
core, 0.3 to 0.8 of a plain sum."""


@dataclass(frozen=True, kw_only=True)
class HostTimes:
    """Seconds of the host's part in a training; 0 if the optimizer is on the GPUs."""

    exchange: float = 0.0
    """Of each micro-step, on the links between GPUs and host."""
    update: float = 0.0
    """Of each step, after its micro-steps."""

    @classmethod
    def of(cls, trained: int, machines: int, train: TrainConfig, hardware: HardwareConfig) -> "HostTimes":
        """The times for this many trained parameters on this many machines."""
        if train.offload != "optimizer":
            return cls()
        part = trained / train.workers / GB
        link, memory = hardware.pcie_gbs * _LINK_SHARE, hardware.host_gbs * _MEMORY_SHARE
        return cls(exchange=8 * part / link, update=6 * part / link + 34 * trained / machines / GB / memory)
