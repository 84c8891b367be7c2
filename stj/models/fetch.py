"""A model's files on this machine: fetched once from the hub or an object store, checked, and held while they are used.

stj/models/copies.py says where fetched models lie, and which of them go when room is short.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from stj.config import ModelConfig
from stj.errors import ConfigError, ModelError, StjError, StorageFailed
from stj.models.adapter import has_tokenizer
from stj.models.copies import (
    WITHOUT_WEIGHTS,
    exported_shards,
    files_by_digest,
    filling,
    hub_record,
    locked_copy,
    make_room,
    model_copies,
    recorded_snapshot,
)
from stj.models.digests import is_copy, refuse_damaged, write_fetched, written_digests
from stj.models.hub import WEIGHTS, from_hub, hub_is_offline, hub_size, hub_snapshots, is_hub_id
from stj.models.locate import adapter_of, content_digest, model_folder
from stj.storage.artifacts import MANIFEST
from stj.storage.digest import FileDigest
from stj.storage.folder import Folder, existing
from stj.storage.holds import hold
from stj.storage.known_digests import remember_digest
from stj.storage.location import cache_root
from stj.storage.probe import probe
from stj.text import data_size

_CACHE = cache_root() / "models"
_LINKS = cache_root() / "links"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@=,~-]*")
_FILES_AT_ONCE = 8  # Fetch this many files at the same time.
_FILES_BESIDE = ("*.json", "*.jinja", "*.model", "*.model.v*", "*.txt")


def local_model(model: ModelConfig, *, weights: bool = True) -> Path:
    """A directory on this machine with the model's files; a hub id or a URI is fetched once per machine.

    `weights=False` fetches only the other files: a driver needs the tokenizer of a 70B, and has no room for 141 GB.

    All files are checked against the hashes that came with them (stj/models/digests.py), and those from a URI without any
    against the listed sizes.

    Raises ModelError if the model is missing or damaged, or if the hub cannot be reached.
    """
    copied = False
    if is_hub_id(model.path):
        directory = from_hub(model, (*_FILES_BESIDE, WEIGHTS) if weights else _FILES_BESIDE)
    else:
        folder = model_folder(model.path)
        copied = folder.local is None
        directory = folder.local or _cached_copy(folder, weights=weights)
    refuse_damaged(directory, model.path, weights=weights, copied=copied)
    return directory


def held_model(model: ModelConfig) -> Path:
    """`local_model` with weights, held by this process and those that it starts: until they end, nothing removes the model.

    Raises ModelError as `local_model` does, and StorageFailed if the disk has too little room.
    """
    copied = False
    if is_hub_id(model.path):
        directory = _held_from_hub(model)
    else:
        folder = model_folder(model.path)
        copied = folder.local is None
        if folder.local:
            hold(folder.local / MANIFEST)
            model_folder(model.path)  # it may have been removed just before it was held
        directory = folder.local or _cached_copy(folder, weights=True, held=True)
    refuse_damaged(directory, model.path, weights=True, copied=copied)
    return directory


def _held_from_hub(model: ModelConfig) -> Path:
    """A model in the hub's own cache, which `stj` uses and never copies; records what is fetched, so that it may go again."""
    fetch, snapshots = partial(from_hub, model, (*_FILES_BESIDE, WEIGHTS)), hub_snapshots(model.path)
    record = hub_record(_CACHE, model.path)
    if not _is_writable(record.parent):
        return fetch()
    with locked_copy(record, model.path, held=True):
        if not weights_here(model.path):
            _require_room(model.path, hub_size(model), existing(snapshots))
        return recorded_snapshot(record, snapshots, fetch)


def tokenizer_directory(model: ModelConfig) -> Path:
    """The directory of the tokenizer that a model is asked with: an adapter's own if it has one, otherwise its base's.

    Fetches no weights. Raises ModelError as `local_model` does.
    """
    directory, adapter = local_model(model, weights=False), adapter_of(model)
    return local_model(adapter.base, weights=False) if adapter and not has_tokenizer(directory) else directory


def place_for_shards(model: Folder) -> Path | None:
    """Where this machine keeps the shards that it exports to an object store: empty; None for a disk, which needs no copies."""
    if model.local or not _is_writable(_CACHE):
        return None
    place = exported_shards(_CACHE, model.uri)
    with locked_copy(place, model.uri, held=False):
        shutil.rmtree(place, ignore_errors=True)  # of an earlier export
        place.mkdir()
    return place


def make_room_at(place: Path, size: int, done: Collection[str]) -> tuple[int, str]:
    """Removes copies of models on the disk of `place` until `size` bytes are free there; those of `done` models go first.

    Returns the bytes that are free, and in words what fills the disk with copies.
    """
    return make_room(_CACHE, size, place, done), filling(_CACHE)


def require_room_at(target: Path, size: int) -> None:
    """Makes room for `size` bytes that are to be written to a new directory.

    Raises StorageFailed if copies of models that may go are not enough.
    """
    free, filled = make_room_at(existing(target.parent), size, ())
    if free < size:
        raise StorageFailed(
            f"{target}: {data_size(size)} must be written there, and {data_size(free)} are free"
            f"{f'; copies of models take {filled}' if filled else ''}: free space, or name a directory on a larger disk"
        )


def cache_places() -> tuple[Path, Path]:
    """Where this machine keeps the models that it fetches: the hub's cache, and that of `stj` for models at URIs."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE), _CACHE


def weights_here(model: str) -> int:
    """Bytes of weights that this machine holds of a model, by its id on the hub or its URI."""
    files = {file for copy in model_copies(_CACHE) if copy.model == model for file in copy.files}
    if is_hub_id(model):
        files |= set(hub_snapshots(model).glob(f"*/{WEIGHTS}"))
    return sum(file.stat().st_size for file in {file.resolve() for file in files if file.exists()})


def removable_here(place: Path, spared: Collection[str]) -> int:
    """Bytes of copies of models, other than the spared ones, that give way on the disk of a directory."""
    device = place.stat().st_dev
    copies = [copy for copy in model_copies(_CACHE) if copy.model not in spared]
    return sum(copy.size for copy in copies if copy.device == device)


def check_cache(model: ModelConfig) -> str:
    """Facts on where this machine keeps the weights of a fetched model; empty if they are here already.

    Raises ConfigError if they are still to be fetched, and the place cannot be written or has too little room. The size of
    those on the hub is not known.
    """
    if is_hub_id(model.path):
        return "" if any(local_model(model, weights=False).glob(WEIGHTS)) else _check_hub_cache(model)
    folder = model_folder(model.path)
    if folder.local or (_CACHE / content_digest(folder)).exists():
        return ""
    free, size = probe(str(_CACHE), "STJ_CACHE") or 0, sum(folder.sizes().values())
    if size > free + removable_here(existing(_CACHE), [model.path]):
        raise ConfigError(
            f"model {model.path}: {data_size(size)} must be fetched to {_CACHE}, and {data_size(free)} are free there: free "
            "space, or set STJ_CACHE to a directory on a larger disk"
        )
    return f"{data_size(size)} are fetched to {_CACHE}"


def _check_hub_cache(model: ModelConfig) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    if hub_is_offline():
        raise ModelError(
            f"model {model.path}: its weights are not on this machine, and HF_HUB_OFFLINE forbids to fetch them: unset it, or "
            f"fetch them first with `hf download {model.path}`"
        )
    probe(HF_HUB_CACHE, "HF_HOME")
    return f"the weights are fetched to {HF_HUB_CACHE}"


def plain_path(directory: Path) -> Path:
    """The directory, or a link to it if its path has other characters than letters, digits and a few marks of ASCII.

    vLLM looks for weights by patterns, in which `[v2]` matches a `v` or a `2`. Raises ModelError if no link can be made.
    """
    if _PLAIN_PATH.fullmatch(str(directory)):
        return directory
    link = _LINKS / hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:24]
    try:
        _LINKS.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(directory.absolute())
    except OSError as error:
        raise ModelError(
            f"model {directory}: vLLM needs a path in plain ASCII, and {link} cannot be made ({error.strerror}): "
            "rename the directory"
        ) from None
    return link


def _cached_copy(folder: Folder, *, weights: bool, held: bool = False) -> Path:
    """The local copy of a model from an object store; it is complete and checked, or absent.

    The first process of a machine fetches it, and the others (of eight ranks, for instance) wait. A cache that cannot be
    written may hold it too, as in an image: nothing removes it there.

    Raises StorageFailed if the cache can neither be written nor holds the model.
    """
    target = _CACHE / (content_digest(folder) + ("" if weights else WITHOUT_WEIGHTS))
    if not _is_writable(_CACHE):
        if target.exists():
            return target
        raise StorageFailed(
            f"model {folder.uri}: it must be fetched to {_CACHE}, where nothing can be written: set STJ_CACHE to a directory "
            "that can be"
        )
    with locked_copy(target, folder.uri, held=held):
        if not is_copy(target):
            temporary = target.with_suffix(".part")
            _clear(temporary)  # left by an earlier try that was killed
            try:
                digests = _fetch(folder, temporary, weights=weights)
                write_fetched(temporary, digests)
            except StjError:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            _clear(target)  # what a cleaner of old files has left
            temporary.rename(target)
            for name, digest in digests.items():
                remember_digest(target / name, digest)
    return target


def _clear(place: Path) -> None:
    """Deletes whatever lies there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _is_writable(directory: Path) -> bool:
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        return os.access(directory, os.W_OK)
    return False


def _fetch(folder: Folder, to: Path, *, weights: bool) -> dict[str, FileDigest]:
    """Copies a model's files, and returns the digests of the copies.

    Each is checked against the manifest, or against its listed size if no manifest names it.

    What this machine holds already, as it has exported it or fetched it under another name, is linked and not fetched.

    Raises ModelError, which names the first file that differs, and StorageFailed if there is too little room.
    """
    sizes, expected = folder.sizes(), written_digests(folder, folder.uri)
    names = [name for name in sorted({*sizes, *expected}) if weights or not fnmatch(name, WEIGHTS)]
    for name in names:  # checks sizes first, before it copies 141 GB
        _check_size(folder, name, sizes.get(name), expected[name].size if name in expected else sizes[name])
    here = _linked(expected, names, to)
    fetched = [name for name in names if name not in here]
    _require_room(folder.uri, sum(sizes[name] for name in fetched), _CACHE)
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        copies = dict(zip(fetched, pool.map(partial(folder.fetch, to=to), fetched), strict=True))
    for name, digest in copies.items():
        _check_size(folder, name, digest.size, sizes[name])
        if name in expected and digest != expected[name]:
            raise ModelError(
                f"model {folder.uri}: {name} has the SHA-256 {digest.sha256}, but {MANIFEST} says {expected[name].sha256}. "
                "The local copy is deleted: run again. If the error stays, the stored file is damaged: make the model again"
            )
    return copies


def _linked(expected: Mapping[str, FileDigest], names: Sequence[str], to: Path) -> set[str]:
    """Links the files that this machine holds under other names into a directory; returns their names.

    Each is read and hashed again: a damaged one is fetched.
    """
    here = files_by_digest(_CACHE)
    wanted = {name: here[expected[name].sha256] for name in names if name in expected and expected[name].sha256 in here}
    to.mkdir(parents=True, exist_ok=True)

    def link(name: str) -> bool:
        with suppress(OSError):
            os.link(wanted[name], to / name)
            if FileDigest.of_file(to / name) == expected[name]:
                return True
        (to / name).unlink(missing_ok=True)
        return False

    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return {name for name, whole in zip(wanted, pool.map(link, wanted), strict=True) if whole}


def _require_room(model: str, size: int, place: Path) -> None:
    """Makes room for a fetch. Raises StorageFailed, which names what fills the disk, if copies that may go are not enough."""
    free = make_room(_CACHE, size, place)
    if free < size:
        filled = filling(_CACHE)
        raise StorageFailed(
            f"model {model}: {data_size(size)} must be fetched to {place}, and {data_size(free)} are free there"
            f"{f'; copies of models take {filled}' if filled else ''}: free space, or use a larger disk"
        )


def _check_size(folder: Folder, name: str, size: int | None, expected: int) -> None:
    if size != expected:
        problem = (
            f"is missing: it must have {expected:,} bytes" if size is None else f"has {size:,} bytes instead of {expected:,}"
        )
        raise ModelError(f"model {folder.uri}: {name} {problem}; copy or make the model again")
