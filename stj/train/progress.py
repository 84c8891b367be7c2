"""What the ranks and Ray Train's controller leave for the driver to show: two small files beside the checkpoints.

    checkpoints/progress.json   what the ranks do now, all steps, and the last checkpoint; the controller writes it before they
                                start, then rank 0
    checkpoints/restarts.json   one line for each restart of the ranks, with its cause; the controller writes it

They are files because the logs of other processes do not reach the driver. Files work on a disk and in an object store, from
any machine. A store that does not answer for a moment is no reason to lose a training: the file is left out. A full disk is: no
checkpoint would fit either. The files do not slow a training: it writes about five of them and one for each checkpoint, some
50 ms each in an object store.
They go with the checkpoints when the training is done.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from stj.errors import StjError, StorageFailed
from stj.storage.folder import Folder
from stj.train.job import CHECKPOINTS

PROGRESS = "progress.json"
RESTARTS = "restarts.json"
STARTING = "starting ranks"
TAKING_STEPS = "training"
"""From the first step to the last: the last line of metrics.jsonl says more."""
EXPORTING = "exporting the model"


def write_progress(folder: Folder, activity: str, steps: int = 0, checkpoint: int = 0) -> None:
    """Writes what the ranks do now, how many steps the training has, and after which step its last checkpoint was written.

    Both are 0 if unknown; `folder` is that of the job.
    """
    _write(folder, PROGRESS, {"activity": activity, "steps": steps, "checkpoint": checkpoint})


def write_restarts(folder: Folder, lines: Sequence[str]) -> None:
    """Writes all restarts of a run so far."""
    _write(folder, RESTARTS, {"restarts": list(lines)})


def clear_progress(folder: Folder) -> None:
    """Deletes what an earlier run left."""
    with suppress(StjError, OSError):
        for name in (PROGRESS, RESTARTS):
            (folder / CHECKPOINTS).delete(name)


def _write(folder: Folder, name: str, record: dict[str, Any]) -> None:
    """Writes a file. Raises StorageFailed if the disk is full: ranks would start again and again, and nobody would see it."""
    try:
        (folder / CHECKPOINTS).write_json(name, record)
    except StorageFailed:
        raise
    except (StjError, OSError):
        pass
