"""Whether a machine's disks have the room that a run takes: each phase's files are counted on the disk where they go.

It is looked at on the machine itself: the driver's own, or each machine of a cluster.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from stj.config import Config
from stj.models.fetch import cache_places, removable_here, weights_here
from stj.plan.memory import GB
from stj.plan.room import HUB, JUDGES, OURS, SCRATCH, TRAINING, DiskPart, PhaseRoom, room_plan
from stj.storage.folder import existing
from stj.text import data_size

_RUN_ROOT = "run_root"
_SHM = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class MachineRoom:
    """The phases that a machine may have to do, with what each writes to its disks."""

    phases: tuple[PhaseRoom, ...]
    run_root: str = ""
    """The run's directory, if it counts as a part of this machine's disk."""

    def fault(self) -> str | None:
        """Which phase does not fit, even when unused copies of models have given way, and what fills the disk; or None."""
        return self._disk_fault() or self._shm_fault()

    def _shm_fault(self) -> str | None:
        """A container has 64 MB of /dev/shm by default, and vLLM's workers die of a bus error there."""
        free = disk_usage(_SHM).free if _SHM.is_dir() else 0
        needed, phase = max(((phase.shm_gb, phase.phase) for phase in self.phases), default=(0.0, ""))
        if needed * GB <= free:
            return None
        return (
            f"the engines of {phase} take {data_size(needed * GB)} of {_SHM}, and {data_size(free)} are free there: "
            "free it, or start the container with a larger --shm-size"
        )

    def _disk_fault(self) -> str | None:
        for phase in self.phases:
            for disk, parts in self._by_disk(phase).items():
                size = sum(part.size for part in parts)
                free, removable = disk_usage(disk).free, removable_here(disk, [part.what for part in phase.parts])
                if size > free + removable:
                    also = f" and {data_size(removable)} in copies of models that may go" if removable else ""
                    return (
                        f"{phase.phase} writes {_words(parts)}; together {data_size(size)}, and {data_size(free)} are free on "
                        f"the disk of {disk}{also}: free space, or name directories on a larger disk"
                    )
        return None

    def words(self) -> str:
        """The phase that still writes the most to one disk."""
        sizes = [
            (sum(part.size for part in parts), phase.phase, _words(parts), disk_usage(disk).free)
            for phase in self.phases
            for disk, parts in self._by_disk(phase).items()
        ]
        size, phase, words, free = max(sizes, default=(0, "", "", 0))
        return f"{phase} writes {words}; {data_size(free)} are free" if size else "nothing must be fetched to this machine"

    def _by_disk(self, phase: PhaseRoom) -> dict[Path, list[DiskPart]]:
        """What a phase has still to write on each disk of this machine, by a directory of the disk."""
        hub, ours = cache_places()
        places = {
            HUB: hub,
            OURS: ours,
            SCRATCH: Path(tempfile.gettempdir()),
            _RUN_ROOT: Path(os.path.expanduser(self.run_root)),
        }
        disks: dict[int, Path] = {}
        parts: dict[Path, list[DiskPart]] = defaultdict(list)
        for part in phase.parts:
            directory = existing(Path(os.path.realpath(places[part.place])))  # a link may lead to a disk that is not there
            disk = disks.setdefault(directory.stat().st_dev, directory)
            if (left := part.size - weights_here(part.what)) > 0:
                parts[disk].append(DiskPart(what=part.what, place=part.place, size=left))
        return parts


def machine_room(
    config: Config, engine_models: Collection[str] | None, trainings: int, *, in_run_root: int = 0
) -> MachineRoom | None:
    """What is left of a run for a machine; None if the seed's shape is unknown.

    `engine_models` are the paths of the models that still start engines, None if all may. `in_run_root` are bytes that go to
    run_root: on a single machine it may lie on the same disk.
    """
    planned = room_plan(config)
    if planned is None:
        return None
    written = (DiskPart(what="models and checkpoints", place=_RUN_ROOT, size=in_run_root),) if in_run_root else ()
    roles = {model.path for model in config.named_models.values()}

    def is_left(phase: PhaseRoom) -> bool:
        if phase.phase == TRAINING:
            return trainings > 0
        if engine_models is None:
            return True
        return bool(set(engine_models) - roles) if phase.phase == JUDGES else phase.model in engine_models

    left = [phase for phase in planned.phases if is_left(phase)]
    return MachineRoom(phases=tuple(phase.beside(written) for phase in left), run_root=config.run_root)


def _words(parts: Collection[DiskPart]) -> str:
    return ", ".join(part.words() for part in parts)
