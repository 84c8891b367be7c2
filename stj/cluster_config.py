"""Settings of the Ray cluster, and of one of its machines for the plan."""

import math
from dataclasses import dataclass

from stj.setting_checks import above_0, at_least, check


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The Ray cluster. Inside a Ray job the job's own cluster is always used."""

    address: str = "auto"
    """`local` starts Ray on this machine and ignores any running cluster. `auto` joins the running cluster. host:port joins the
    cluster there."""
    capacity_deadline_s: float = 1800
    """Seconds to wait for a cluster to grow or to replace a lost machine. After that the run fails with CapacityError."""
    stop_notice_s: float | None = None
    """Seconds between SIGTERM and the kill, in which training may write a checkpoint. `null` reads RAY_JOB_STOP_WAIT_TIME_S
    from the environment. If that is not set, it is 3 in a Ray job, which is Ray's default, and 30 elsewhere."""

    def __post_init__(self) -> None:
        at_least(0, "ray.", self, "capacity_deadline_s", "stop_notice_s")


_SPEED = "in one direction; divide Gbit/s by 8, and MB/s by 1000"
_HARDWARE_LIMITS = {
    "gpus": (0, 256, "GPUs", "of one machine, not of the cluster"),
    "gpu_memory_gb": (0.1, 2000, "GB", "of one GPU; divide MB by 1000"),
    "host_memory_gb": (0.1, 100_000, "GB", "of one machine; divide MB by 1000"),
    "disk_gb": (1, 10_000_000, "GB", "of one machine; multiply TB by 1000, and divide MB by 1000"),
    "gpu_tflops": (0.01, 20_000, "TFLOP/s", "dense in bf16; divide GFLOP/s by 1000"),
    "gpu_bandwidth_gbs": (1, 50_000, "GB/s", "of one GPU's memory; multiply TB/s by 1000"),
    "network_gbs": (0.01, 1500, "GB/s", _SPEED),
    "nvlink_gbs": (0.01, 3600, "GB/s", _SPEED),
    "pcie_gbs": (0.1, 1000, "GB/s", _SPEED),
    "host_gbs": (1, 10_000, "GB/s", "of one machine's memory; multiply TB/s by 1000"),
    "disk_gbs": (0.01, 1000, "GB/s", _SPEED),
    "fetch_gbs": (0.001, 1000, "GB/s", _SPEED),
    "dollars_per_gpu_hour": (0, 1000, "dollars", "of one GPU for an hour, not of a machine or in cents"),
}
"""The least and the most of each number, its unit, and what to do with a number in another one. The limits are some times
beyond the machines of 2026, so that they refuse wrong units and no machine."""


def _check_hardware(hardware: "HardwareConfig") -> None:
    for name, (least, most, unit, remedy) in _HARDWARE_LIMITS.items():
        value = getattr(hardware, name)
        possible = value is None or least <= value <= most
        check(possible, f"hardware.{name}={value} {unit}: must be {least:g} to {most:g} {unit} {remedy}")


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """One machine of the cluster, for the printed plan and costs."""

    name: str = "8 x H100 80 GB"
    """Name in the printed plan."""
    gpus: int = 8
    """Number of GPUs; 0 is a machine without GPUs."""
    gpu_memory_gb: float = 80
    """Memory of one GPU, in GB (10^9 bytes)."""
    host_memory_gb: float = 2000
    """Main memory of the machine, in GB (10^9 bytes)."""
    disk_gb: float | None = None
    """Disk of the machine for fetched models and scratch files (HF_HOME, stj's cache, TMPDIR), in GB (10^9 bytes). `null` does
    not check whether they fit."""
    gpu_tflops: float = 989
    """Dense bf16 peak of one GPU, in TFLOP/s."""
    gpu_bandwidth_gbs: float = 3350
    """Memory bandwidth of one GPU, in GB/s."""
    training_share: float = 0.56
    """Share of `gpu_tflops` that a training with long micro-batches reaches on one machine, from 0 to 1. The default is that of
    published runs on H100 (docs/costs.md)."""
    network_gbs: float | None = 400
    """What a machine sends to other machines, in GB/s in each direction, of all its network cards together. 100 Gbit/s is 12.5
    GB/s. `null` is not known, and no plan spans two machines then. A file that gives `hardware.name` starts from `null`, here
    and in `disk_gb`."""
    nvlink_gbs: float = 450
    """What a GPU sends to the GPUs of its machine, in GB/s in each direction."""
    pcie_gbs: float = 50
    """What a GPU sends to its machine's main memory, in GB/s in each direction. Only `train.offload=optimizer` needs it."""
    host_gbs: float = 400
    """Bandwidth of the machine's main memory, in GB/s. Only `train.offload=optimizer` needs it."""
    disk_gbs: float = 6
    """What a machine reads from its local disks, or writes to them, in GB/s."""
    fetch_gbs: float = 2
    """What a machine reads from the hub and from `run_root`, or writes there, in GB/s, if `run_root` is not a local disk."""
    dollars_per_gpu_hour: float | None = None
    """Price of one GPU, in dollars an hour; `null` shows no costs in dollars."""

    def __post_init__(self) -> None:
        at_least(0, "hardware.", self, "gpus", "dollars_per_gpu_hour")
        above_0("hardware.", self, "gpu_memory_gb", "host_memory_gb", "disk_gb", "gpu_tflops", "gpu_bandwidth_gbs")
        check(
            math.isfinite(self.training_share) and 0 < self.training_share <= 1,
            f"hardware.training_share={self.training_share}: must be a share of gpu_tflops, above 0 and up to 1; 0.56 is 56%",
        )
        _check_hardware(self)
