"""Where a model is: a local directory, a URI, a part of this package, or an id on the hub."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from stj.config import ModelConfig
from stj.errors import ModelError, StjError
from stj.storage.artifacts import MANIFEST
from stj.storage.digest import FileDigest
from stj.storage.folder import PACKAGE_SCHEME, Folder, content_identity, package_path

_HUB_ID = re.compile(r"(?!.*(--|\.\.))[\w-][\w.-]*/[\w-][\w.-]*")
_CACHE = Path("~/.cache/stj/models").expanduser()
_FILES_AT_ONCE = 8
_MAY_BE_LOADING_S = 3600
_LOOK = "-without-weights"
_WEIGHTS = "*.safetensors"
_FILES_BESIDE = ("*.json", "*.jinja", "*.model", "*.txt")


def is_hub_id(location: str) -> bool:
    """Whether a location names a model on the hub rather than files that are there already."""
    return bool(_HUB_ID.fullmatch(location)) and not Path(location).exists()


def model_identity(model: ModelConfig) -> str:
    """What the weights are, for keys: a hub id and revision, a hash of local files, or a URI and a hash of
    its manifest, without one of its files' names, sizes and times.

    Raises ModelError where a named directory is missing or holds no model.
    """
    if is_hub_id(model.path):
        return f"{model.path}@{model.revision or 'main'}"
    folder = _folder(model.path)
    if folder.local:
        return content_identity(folder.local)
    return f"{model.path} {_content_stamp(folder)}"


def loading_settings(model: ModelConfig) -> dict[str, Any]:
    """Settings of an engine, besides the weights, that change what it answers: a part of every pass's key."""
    return {"dtype": model.dtype, "max_model_len": model.max_model_len}


def model_in(folder: Folder, like: ModelConfig) -> ModelConfig:
    """The trained model in a folder, loaded like the one that it was trained from."""
    return replace(like, path=folder.uri, revision=None)


def local_model(model: ModelConfig, *, weights: bool = True) -> Path:
    """A directory on this machine with the model's files; a hub id or a URI is fetched once per machine.

    Without `weights` all the other files may do: a driver looks at the tokenizer of a 70B, and has no room for 141 GB.

    What is fetched from a URI is held against the manifest that stj wrote beside it, or else against the sizes there.

    Raises ModelError where the model is missing, is not as it was written, or the hub cannot be reached.
    """
    if is_hub_id(model.path):
        return _from_hub(model, (*_FILES_BESIDE, _WEIGHTS) if weights else _FILES_BESIDE)
    folder = _folder(model.path)
    return folder.local or _fetched(folder, weights=weights)


def within_context(model: ModelConfig) -> ModelConfig:
    """The model with its engine's context cut to what it was made for, as its config.json says.

    Raises ModelError as `local_model` does; of a model that is elsewhere only its config.json is fetched.
    """
    own = _own_config(model).get("max_position_embeddings")
    return replace(model, max_model_len=min(model.max_model_len, own)) if isinstance(own, int) else model


def check_division(model: ModelConfig) -> None:
    """Raises ModelError where tensor_parallel_size does not divide what the engine would share out: the attention heads.

    Of a model that is elsewhere only its config.json is fetched, and nothing where there is nothing to divide.
    """
    size = model.tensor_parallel_size
    if size == 1:
        return
    config = _own_config(model)
    text = config.get("text_config", config)
    heads = text.get("num_attention_heads")
    groups = text.get("num_key_value_heads") or heads
    if isinstance(heads, int) and (heads % size or max(groups, size) % min(groups, size)):
        right = [n for n in range(1, heads + 1) if not heads % n and not max(groups, n) % min(groups, n)]
        raise ModelError(
            f"model {model.path}: tensor_parallel_size={size} GPUs cannot share its {heads} attention heads and {groups} "
            f"key-value heads evenly: set it to one of {', '.join(map(str, right))}"
        )


def _own_config(model: ModelConfig) -> dict[str, Any]:
    if is_hub_id(model.path):
        text = (_from_hub(model, ["config.json"]) / "config.json").read_bytes()
    else:
        text = _folder(model.path).read("config.json")
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"model {model.path}: its config.json is not JSON, or no object")
    return config


def _folder(location: str) -> Folder:
    folder = Folder.at(package_path(location))
    if not folder.exists("config.json"):
        found = "holds no config.json" if folder.exists() else "does not exist"
        raise ModelError(
            f"model {location}: the directory {found}. Give a directory in Hugging Face's layout, a URI, "
            f"{PACKAGE_SCHEME}mini/seed_model, or an id on the hub"
        )
    return folder


def _from_hub(model: ModelConfig, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=list(wanted)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"model {model.path}: there is no such directory, and the hub does not give it ({str(error).splitlines()[0]}). "
            "Check the name, the network and HF_TOKEN"
        ) from None


def _fetched(folder: Folder, *, weights: bool) -> Path:
    """The local copy of a model that lies in an object store: whole and as it was written, or not there.

    The processes of a machine (eight ranks, say) wait for the first of them to fetch it.
    """
    target = _CACHE / (_content_stamp(folder) + ("" if weights else _LOOK))
    _CACHE.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system when its holder dies
        os.utime(lock.name)
        if not target.exists():
            temporary = target.with_suffix(".part")
            shutil.rmtree(temporary, ignore_errors=True)  # an earlier try was killed
            try:
                _fetch(folder, temporary, weights=weights)
            except StjError:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            temporary.rename(target)
    return target


def _fetch(folder: Folder, to: Path, *, weights: bool) -> None:
    """Copies a model's files, and holds them against its manifest; those that no manifest names, against their sizes there.

    Raises ModelError that names the file which differs.
    """
    sizes, stamps = folder.sizes(), _stamps(folder)
    names = [name for name in sorted({*sizes, *stamps}) if weights or not fnmatch(name, _WEIGHTS)]
    for name in names:  # before 141 GB are copied
        _check_size(folder, name, sizes.get(name), stamps[name].size if name in stamps else sizes[name])
    _make_room(sum(sizes[name] for name in names))
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        found = dict(zip(names, pool.map(partial(folder.fetch, to=to), names), strict=True))
    for name, stamp in found.items():
        _check_size(folder, name, stamp.size, sizes[name])
        if name in stamps and stamp != stamps[name]:
            raise ModelError(
                f"model {folder.uri}: {name} has the SHA-256 {stamp.sha256}, and {MANIFEST} says {stamps[name].sha256}: "
                "the copy here is deleted. Run again; if it stays so, the file there is damaged: make the model again"
            )


def _make_room(size: int) -> None:
    """Deletes other copies, the longest unused first, until there is room for so many bytes: each iteration adds a model.

    A copy that was asked for lately may be what an engine is loading just now; small ones without weights stay.
    """
    for file in sorted(_CACHE.glob("*.lock"), key=lambda file: file.stat().st_mtime):
        if shutil.disk_usage(_CACHE).free > size:
            return
        with file.open("a") as lock, suppress(BlockingIOError):  # one that is being fetched
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            old, temporary = file.with_suffix(""), file.with_suffix(".part")
            unused = time.time() - file.stat().st_mtime > _MAY_BE_LOADING_S
            if old.exists() and unused and not old.name.endswith(_LOOK):
                shutil.rmtree(temporary, ignore_errors=True)
                old.rename(temporary)  # so that a kill leaves nothing that looks whole
                shutil.rmtree(temporary, ignore_errors=True)


def _check_size(folder: Folder, name: str, found: int | None, expected: int) -> None:
    if found != expected:
        what = "is missing, of" if found is None else f"has {found:,} bytes instead of"
        raise ModelError(f"model {folder.uri}: {name} {what} {expected:,} bytes; copy or make the model again")


def _stamps(folder: Folder) -> dict[str, FileDigest]:
    """What the files were when stj wrote them, by its manifest; none for a model that it did not write."""
    if not folder.exists(MANIFEST):
        return {}
    try:
        files = json.loads(folder.read(MANIFEST)).get("model", {}).get("files", {})
        return {name: FileDigest(**facts) for name, facts in files.items()}
    except (ValueError, TypeError, AttributeError):
        raise ModelError(f"model {folder.uri}: its {MANIFEST} is damaged; copy or make the model again") from None


def _content_stamp(folder: Folder) -> str:
    """A name for what a remote folder holds: its manifest's hash where stj wrote it, else that of its config and listing."""
    found = folder.read(MANIFEST) if folder.exists(MANIFEST) else folder.read("config.json") + repr(folder.listed()).encode()
    return hashlib.sha256(folder.uri.encode() + found).hexdigest()[:24]
