"""The memory in which the workers of a CPU engine exchange tensors: files in /dev/shm, 4 MiB for each worker.

vLLM's workers remove their files only if their process ends by `exit`. A forked worker does not, nor does one that is killed.
So the names of the files go as soon as all workers have mapped them. The memory itself lives as long as a worker does.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

_FOLDER = Path("/dev/shm")
_FILES = "vllm_dist_*-cpushm_*"


def remove_names() -> None:
    """Removes the names of files that descendants of this process have mapped, and of those that nobody has.

    The engine of this process must have started, or failed to. A worker maps its file in the moment in which it makes it. So a
    file that nobody has mapped is what a killed engine left.
    """
    users = _users()
    family = _descendants(os.getpid())
    for file in _FOLDER.glob(_FILES):
        if users.get(str(file), set()) <= family:
            with suppress(FileNotFoundError, PermissionError):  # another engine removes it, or it is another user's
                file.unlink()


def _users() -> dict[str, set[int]]:
    """The processes that have mapped each file in the folder, as far as this user may know."""
    mapping = re.compile(rf"{_FOLDER}/\S+$", re.MULTILINE)
    users: dict[str, set[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            for file in mapping.findall((folder / "maps").read_text()):
                users.setdefault(file, set()).add(int(folder.name))
    return users


def _descendants(ancestor: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    family = {ancestor}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    return family - {ancestor}
