"""Whether this machine's disks have the room that a run takes: each phase's files are counted on the disk where they go."""

import os
import tempfile
from collections import defaultdict
from pathlib import Path
from shutil import disk_usage

from stj.config import Config
from stj.errors import ConfigError
from stj.models.locate import cache_places, removable_here, weights_here
from stj.plan.disk import DiskPlan
from stj.plan.room import HUB, OURS, SCRATCH, DiskPart, PhaseRoom, RoomPlan
from stj.storage.probe import existing
from stj.text import gigabytes


def check_room_here(config: Config, planned: RoomPlan, written: DiskPlan) -> str:
    """The room of the phase that needs the most, in words. `written` is what the rest of the run writes to run_root.

    Raises ConfigError if a phase does not fit even when unused copies of models have given way; it names what fills the disk.
    """
    fullest = (0, "nothing is fetched to this machine")
    for phase in planned.phases:
        for disk, parts in _by_disk(config, planned, phase, written).items():
            size, words = sum(part.size for part in parts), ", ".join(part.words() for part in parts)
            free, removable = disk_usage(disk).free, removable_here(disk, [part.what for part in phase.parts])
            if size > free + removable:
                also = f" and {gigabytes(removable)} in copies that may go" if removable else ""
                raise ConfigError(
                    f"{phase.phase} writes {words}; together {gigabytes(size)}, and {gigabytes(free)} are free on that disk"
                    f"{also}: free space, or name directories on another disk"
                )
            fullest = max(fullest, (size, f"{phase.phase} writes {words}; {gigabytes(free)} are free"))
    return fullest[1]


def _by_disk(config: Config, planned: RoomPlan, phase: PhaseRoom, written: DiskPlan) -> dict[Path, list[DiskPart]]:
    """What a phase has still to write on each disk of this machine, by a directory of the disk."""
    hub, ours = cache_places()
    places = {HUB: hub, OURS: ours, SCRATCH: Path(tempfile.gettempdir()), "run_root": Path(os.path.expanduser(config.run_root))}
    in_run_root = [] if planned.remote else [DiskPart(what="models and checkpoints", place="run_root", size=written.total)]
    disks: dict[int, Path] = {}
    parts: dict[Path, list[DiskPart]] = defaultdict(list)
    for part in (*phase.parts, *in_run_root):
        directory = existing(places[part.place])
        disk = disks.setdefault(directory.stat().st_dev, directory)
        if (left := part.size - weights_here(part.what)) > 0:
            parts[disk].append(DiskPart(what=part.what, place=part.place, size=left))
    return parts
