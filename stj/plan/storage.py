"""How long a machine takes to read weights from where they lie, and to write what a training makes.

the hub, or a URI        fetched at `hardware.fetch_gbs` to the local disk, and read from there at `hardware.disk_gbs`
a path, one machine      on the local disk
a path, more machines    on shared storage, which is read and written at `hardware.fetch_gbs`, without a local copy
"""

from collections.abc import Mapping

from stj.cluster_config import HardwareConfig
from stj.models.hub import is_hub_id
from stj.plan.memory import GB
from stj.storage.folder import is_store

_HASH_GBS = 1.2
"""GB/s of SHA-256 on one core (hashlib, measured)."""
Seconds = Mapping[str, float]
"""Seconds by what limits them: network, disk, memory or engines."""


def is_fetched(model: str) -> bool:
    """Whether a model, by its path, reaches a machine only by a fetch to its disk: from the hub or an object store."""
    return is_hub_id(model) or is_store(model)


def reading(size: float, machines: int, hardware: HardwareConfig, *, remote: bool, held: float = 0.0) -> Seconds:
    """Seconds in which each machine reads this many bytes, of which it holds the share `held`, from 0 to 1.

    A `remote` place needs a fetch; what a machine has fetched or exported before is not fetched again.
    """
    disk, sent = size / GB / hardware.disk_gbs, size / GB / hardware.fetch_gbs
    if remote:
        return {"network": (1 - held) * sent, "disk": disk}
    return {"network": sent} if machines > 1 else {"disk": disk}


def writing(size: float, machines: int, hardware: HardwareConfig, *, remote: bool) -> Seconds:
    """Seconds in which each machine writes this many bytes; to a `remote` place from its disk, where they are written first."""
    return reading(size, machines, hardware, remote=remote)


def hashing(size: float) -> Seconds:
    """Seconds in which one process hashes this many bytes."""
    return {"disk": size / GB / _HASH_GBS}


def added(*parts: Seconds) -> Seconds:
    """The sums of what different steps take, one after the other."""
    limits = dict.fromkeys(limit for part in parts for limit in part)
    return {limit: sum(part.get(limit, 0.0) for part in parts) for limit in limits}


def scaled(seconds: Seconds, by: float) -> Seconds:
    """These seconds, each this many times."""
    return {limit: by * time for limit, time in seconds.items()}
