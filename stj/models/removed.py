"""Trained models whose weights were removed, because no later step of their run needs them.

manifest.json   stays: the training is done, and is not done again
removed.json    why the weights are gone; written first, so that a killed removal is known and finished
"""

from contextlib import nullcontext

from stj.errors import ArtifactError
from stj.models.adapter import ADAPTER_CONFIG
from stj.storage.artifacts import MANIFEST, STARTED
from stj.storage.folder import Folder
from stj.storage.holds import unheld
from stj.storage.sealed import read_sealed, write_sealed

REMOVED = "removed.json"
_STAY = (MANIFEST, STARTED, REMOVED)
_SHOWS_A_MODEL = ("config.json", ADAPTER_CONFIG)


def removal_note(folder: Folder) -> str | None:
    """Why the weights of a model are gone; None if they are not, or were not removed by `stj`."""
    if not folder.exists(REMOVED) or any(folder.exists(name) for name in _SHOWS_A_MODEL):
        return None
    try:
        return str(read_sealed(folder, REMOVED, "", fields=("why",))["why"])
    except ArtifactError:
        return f"its {REMOVED} is damaged and does not say why"


def files_to_remove(folder: Folder) -> dict[str, int]:
    """The files of a model that go with its weights, with their bytes; empty if they are gone."""
    return {name: size for name, size in folder.sizes().items() if name not in _STAY}


def remove_weights(folder: Folder, why: str) -> int | None:
    """Removes all files of a model except its manifest; returns their bytes, None if a process uses the model.

    The config goes first: what a kill leaves is no model.
    """
    sizes = files_to_remove(folder)
    if not sizes:
        return 0
    local = folder.local
    with unheld(local / MANIFEST) if local else nullcontext(True) as free:
        if not free:
            return None
        write_sealed(folder, REMOVED, {"why": why})
        for name in sorted(sizes, key=lambda name: name not in _SHOWS_A_MODEL):
            folder.delete(name)
        return sum(sizes.values())
