"""The memory in which the workers of a CPU engine exchange tensors: files in /dev/shm, 4 MiB for each worker.

vLLM's workers remove their files only if their process ends by `exit`. A forked worker does not, nor does one that is killed.
So the names of the files go as soon as all workers have mapped them. The memory itself lives as long as a worker does.
"""

import os
import re
from pathlib import Path

_SEGMENT = re.compile(r"/dev/shm/vllm_dist_\S+-cpushm_\d+$", re.MULTILINE)


def remove_names() -> None:
    """Removes the names of all such files that descendants of this process have mapped. Its engine must have started."""
    for process in _descendants(os.getpid()):
        try:
            segments = _SEGMENT.findall(Path(f"/proc/{process}/maps").read_text())
        except OSError:  # it has ended
            continue
        for segment in segments:
            Path(segment).unlink(missing_ok=True)


def _descendants(ancestor: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {ancestor}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    return family - {ancestor}
