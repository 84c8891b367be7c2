"""Locates a model: a local directory, a URI, a directory of this package, or an id on the hub.

A model may be an adapter (stj/models/adapter.py). Then the facts about its layers are those of its base.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from stj.config import ModelConfig
from stj.errors import ConfigError, ModelError, StjError, StorageFailed
from stj.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter, has_tokenizer, read_adapter
from stj.models.copies import (
    WITHOUT_WEIGHTS,
    exported_shards,
    filling,
    held_files,
    hub_record,
    locked_copy,
    make_room,
    model_copies,
    recorded_snapshot,
)
from stj.models.removed import removal_note
from stj.storage.artifacts import MANIFEST
from stj.storage.digest import FileDigest
from stj.storage.folder import PACKAGE_SCHEME, Folder, absolute_path, content_identity, package_path
from stj.storage.holds import hold
from stj.storage.probe import existing, probe
from stj.text import gigabytes

_HUB_ID = re.compile(r"(?!.*(--|\.\.))[\w-][\w.-]*/[\w-][\w.-]*")
_OURS = Path(os.environ.get("STJ_CACHE") or "~/.cache/stj").expanduser().absolute()
_CACHE = _OURS / "models"
_LINKS = _OURS / "links"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@=,~-]*")
_HUB_S = 10.0  # Longest wait for the hub's list of sizes.
_FILES_AT_ONCE = 8  # Fetch this many files at the same time.
_WEIGHTS = "*.safetensors"
_WHOLE = ("model.safetensors", "model.safetensors.index.json")  # Beside these, adapter_config.json is only a note.
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
)
_SCALED_BEYOND = ("linear", "dynamic")
"""Kinds of RoPE scaling whose factor the stated context does not include."""
_OLD_WEIGHTS = (".bin", ".pt", ".pth")
_INDEX = "model.safetensors.index.json"
_READ_BESIDE = (
    *("config.json", "generation_config.json", "*.index.json", "chat_template*", "*.jinja"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken"),
    *("*tekken*.json", "*.model.v*", "params.json", "processor_config.json", "preprocessor_config.json"),
    *("adapter_config.json", "adapter_model.safetensors", "hf_quant_config.json", "quantize_config.json", "quant_config.json"),
)
_FILES_BESIDE = ("*.json", "*.jinja", "*.model", "*.model.v*", "*.txt")


def is_hub_id(location: str) -> bool:
    """Whether a location is an id on the hub; an existing local path is not."""
    return bool(_HUB_ID.fullmatch(location)) and not Path(location).exists()


def model_identity(model: ModelConfig) -> str:
    """The identity of a model's weights, for keys.

    For a model behind an API: its name there and the address. For the hub: id and revision. For local files: a hash of those
    that are loaded. For a URI: a hash of its manifest, or if it has none, of its config.json and its loaded files' names, sizes
    and times. An adapter's identity holds that of its base too, except on the hub. Raises ModelError if a directory is missing
    or holds no model.
    """
    if model.endpoint:
        return model.label
    if is_hub_id(model.path):
        return f"{model.path}@{model.revision or 'main'}"
    folder = _folder(model.path)
    if folder.local:
        files = content_identity(folder.local, [folder.local / name for name in loaded_files(folder)])
    else:
        files = f"{model.path} {_content_digest(folder)}"
    adapter = adapter_of(model)
    return f"{files} on {model_identity(adapter.base)}" if adapter else files


def loaded_files(folder: Folder) -> list[str]:
    """Names of the files in a model's directory that an engine or a training reads, sorted: a README is none of them.

    Where an index names the shards of the weights, other weights beside them are not read. Weights of other formats count only
    if there are no safetensors.
    """
    names = folder.names()
    beside = [name for name in names if any(fnmatch(name, pattern) for pattern in _READ_BESIDE)]
    weights = _indexed_shards(folder, names) or [name for name in names if fnmatch(name, _WEIGHTS)]
    weights = weights or [name for name in names if name.endswith(_OLD_WEIGHTS)]
    return sorted({*beside, *weights})


def _indexed_shards(folder: Folder, names: Sequence[str]) -> list[str]:
    """The shards in the index of the weights; empty without an index, or if it is damaged (loading will say so)."""
    if _INDEX not in names:
        return []
    try:
        shards = set(json.loads(folder.read(_INDEX))["weight_map"].values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    return [name for name in names if name in shards]


def loading_settings(model: ModelConfig) -> dict[str, Any]:
    """Settings of an engine, besides the weights, that change its answers: part of every pass's key."""
    if model.endpoint:
        return {"fixed_sampling": model.fixed_sampling, **chat_settings(model)}
    random = {"load_format": model.load_format} if model.load_format != "auto" else {}  # noise: no other pass may reuse it
    return {"dtype": model.dtype, "max_model_len": model.max_model_len, **random, **chat_settings(model)}


def chat_settings(model: ModelConfig) -> dict[str, Any]:
    """Settings of the chat template that differ from their defaults: part of the key of whatever is prompted or trained."""
    default = ModelConfig()
    names = ("thinking", "chat_template_kwargs", "template_date")
    return {name: getattr(model, name) for name in names if getattr(model, name) != getattr(default, name)}


def with_absolute_path(model: ModelConfig) -> ModelConfig:
    """The model with a path that processes in other working directories understand."""
    return replace(model, path=absolute_path(model.path)) if model.path else model


def model_in(folder: Folder, like: ModelConfig) -> ModelConfig:
    """The trained model in a folder, loaded like the one that it was trained from."""
    return replace(like, path=folder.uri, revision=None)


def adapter_of(model: ModelConfig) -> Adapter | None:
    """The adapter that a model is; None if it is whole. Fetches no weights.

    Raises ModelError if the model or the adapter's base is missing, or if the base is an adapter too.
    """
    folder = (
        Folder.at(_from_hub(model, (ADAPTER_CONFIG, "config.json", *_WHOLE[1:])))
        if is_hub_id(model.path)
        else _folder(model.path)
    )
    if not _is_adapter(folder):
        return None
    adapter = read_adapter(folder.read(ADAPTER_CONFIG), model)
    if not is_hub_id(model.path) and not folder.exists(ADAPTER_WEIGHTS):
        raise ModelError(f"model {model.path} is an adapter without {ADAPTER_WEIGHTS}; copy or save it again, as safetensors")
    if not is_hub_id(adapter.base.path):
        try:
            base = _folder(adapter.base.path)
        except ModelError as error:
            raise ModelError(f"model {model.path} is an adapter, and its base is not there: {error}") from None
        if _is_adapter(base):
            raise ModelError(f"model {model.path}: its base {adapter.base.path} is an adapter too; merge that one first")
    return adapter


def whole_model(model: ModelConfig) -> ModelConfig:
    """The model itself, or an adapter's base. Raises ModelError as `adapter_of` does."""
    adapter = adapter_of(model)
    return adapter.base if adapter else model


def local_model(model: ModelConfig, *, weights: bool = True) -> Path:
    """A directory on this machine with the model's files; a hub id or a URI is fetched once per machine.

    `weights=False` fetches only the other files: a driver needs the tokenizer of a 70B, and has no room for 141 GB.

    Files from a URI are checked against the manifest that stj wrote beside them, or against the listed sizes if there is none.

    Raises ModelError if the model is missing or damaged, or if the hub cannot be reached.
    """
    if is_hub_id(model.path):
        return _from_hub(model, (*_FILES_BESIDE, _WEIGHTS) if weights else _FILES_BESIDE)
    folder = _folder(model.path)
    return folder.local or _cached_copy(folder, weights=weights)


def held_model(model: ModelConfig) -> Path:
    """`local_model` with weights, held by this process and those that it starts: until they end, nothing removes the model.

    Raises ModelError as `local_model` does, and StorageFailed if the disk has too little room.
    """
    if is_hub_id(model.path):
        return _held_from_hub(model)
    folder = _folder(model.path)
    if folder.local:
        hold(folder.local / MANIFEST)
        _folder(model.path)  # it may have been removed just before it was held
    return folder.local or _cached_copy(folder, weights=True, held=True)


def _held_from_hub(model: ModelConfig) -> Path:
    """A model in the hub's own cache, which `stj` uses and never copies; records what is fetched, so that it may go again."""
    fetch, snapshots = partial(_from_hub, model, (*_FILES_BESIDE, _WEIGHTS)), _snapshots(model.path)
    record = hub_record(_CACHE, model.path)
    if not _is_writable(record.parent):
        return fetch()
    with locked_copy(record, model.path, held=True):
        if not weights_here(model.path):
            _require_room(model.path, _size_on_hub(model), existing(snapshots))
        return recorded_snapshot(record, snapshots, fetch)


def _size_on_hub(model: ModelConfig) -> int:
    """Bytes of a model's weights on the hub; 0 if it does not say, as the fetch itself will say why."""
    from huggingface_hub import HfApi

    with suppress(Exception):  # the client's errors, and those of the HTTP library that it happens to use
        files = HfApi().model_info(model.path, revision=model.revision, files_metadata=True, timeout=_HUB_S).siblings
        return sum(file.size or 0 for file in files or () if fnmatch(file.rfilename, _WEIGHTS))
    return 0


def _snapshots(model: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    return Path(HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model") / "snapshots"


def _is_writable(directory: Path) -> bool:
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        return os.access(directory, os.W_OK)
    return False


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


def cache_places() -> tuple[Path, Path]:
    """Where this machine keeps the models that it fetches: the hub's cache, and that of `stj` for models at URIs."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE), _CACHE


def weights_here(model: str) -> int:
    """Bytes of weights that this machine holds of a model, by its id on the hub or its URI."""
    files = {file for copy in model_copies(_CACHE) if copy.model == model for file in copy.files}
    if is_hub_id(model):
        files |= set(_snapshots(model).glob(f"*/{_WEIGHTS}"))
    return sum(file.stat().st_size for file in {file.resolve() for file in files} if file.exists())


def removable_here(place: Path, spared: Collection[str]) -> int:
    """Bytes of copies of models, other than the spared ones, that give way on the disk of a directory."""
    device = place.stat().st_dev
    copies = [copy for copy in model_copies(_CACHE) if copy.model not in spared]
    return sum(copy.size for copy in copies if copy.device == device)


def tokenizer_directory(model: ModelConfig) -> Path:
    """The directory of the tokenizer that a model is asked with: an adapter's own if it has one, otherwise its base's.

    Fetches no weights. Raises ModelError as `local_model` does.
    """
    directory, adapter = local_model(model, weights=False), adapter_of(model)
    return local_model(adapter.base, weights=False) if adapter and not has_tokenizer(directory) else directory


def check_cache(model: ModelConfig) -> str:
    """Facts on where this machine keeps the weights of a fetched model; empty if they are here already.

    Raises ConfigError if they are still to be fetched, and the place cannot be written or has too little room. The size of
    those on the hub is not known.
    """
    if is_hub_id(model.path):
        return "" if any(local_model(model, weights=False).glob(_WEIGHTS)) else _check_hub_cache(model)
    folder = _folder(model.path)
    if folder.local or (_CACHE / _content_digest(folder)).exists():
        return ""
    free, size = probe(str(_CACHE), "STJ_CACHE") or 0, sum(folder.sizes().values())
    kept = sum(file.stat().st_size for file in _CACHE.rglob(_WEIGHTS)) if _CACHE.exists() else 0
    if size > free + kept:  # Older copies give way.
        raise ConfigError(
            f"model {model.path}: {size:,} bytes are to be fetched to {_CACHE}, and {free:,} are free there: free space, or "
            "set STJ_CACHE to a directory on a larger disk"
        )
    return f"{size:,} bytes are fetched to {_CACHE}"


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


def _check_hub_cache(model: ModelConfig) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    if hub_is_offline():
        raise ModelError(
            f"model {model.path}: its weights are not on this machine, and HF_HUB_OFFLINE forbids to fetch them: unset it, or "
            f"fetch them first with `hf download {model.path}`"
        )
    probe(HF_HUB_CACHE, "HF_HOME")
    return f"the weights are fetched to {HF_HUB_CACHE}"


def within_context(model: ModelConfig) -> ModelConfig:
    """The model with max_model_len cut to the context that its config.json states.

    A model behind an API stays as it is. Fetches only the config from the hub or a URI. Raises ModelError as `local_model`
    does.
    """
    if model.endpoint:
        return model
    context = context_of(model)
    return model if context is None else replace(model, max_model_len=min(model.max_model_len, context))


def context_of(model: ModelConfig) -> int | None:
    """The context that a model's config.json states, in tokens, as vLLM derives it; None if it states none.

    A linear or dynamic scaling of RoPE multiplies it; with the other kinds, and in Gemma 3, the stated number includes it.

    Raises ModelError as `read_config` does, or if the number or the factor is none.
    """
    text = text_config(read_config(model))
    stated = [text[key] for key in _CONTEXT_KEYS if type(text.get(key)) is int]
    if not stated:
        return None
    factor = _rope_factor(text)
    if min(stated) < 1 or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise ModelError(
            f"model {model.path}: its config.json states a context of {min(stated)} tokens with a RoPE factor of {factor!r}: "
            "both must be above 0; save the model again"
        )
    return int(min(stated) * factor)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that describes the text model: its text_config, or all of it."""
    text = config.get("text_config")
    return text if isinstance(text, Mapping) and text else config


def _rope_factor(text: Mapping[str, Any]) -> Any:
    """The factor by which RoPE's scaling lengthens the stated context; from a file, so it may be anything."""
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if not isinstance(scaling, Mapping) or "gemma3" in str(text.get("model_type")):
        return 1
    factor = scaling.get("factor") if scaling.get("rope_type", scaling.get("type")) in _SCALED_BEYOND else None
    return 1 if factor is None else factor


def check_division(model: ModelConfig) -> None:
    """Raises ModelError if tensor_parallel_size GPUs cannot share the model's attention heads evenly.

    Fetches only the config from the hub or a URI, and nothing for a single GPU.
    """
    size = model.tensor_parallel_size
    if size == 1 or model.endpoint:
        return
    config = read_config(model)
    text: Any = text_config(config)
    heads = text.get("num_attention_heads")
    groups = text.get("num_key_value_heads") or heads
    if isinstance(heads, int) and (heads % size or max(groups, size) % min(groups, size)):
        sizes = [n for n in range(1, heads + 1) if not heads % n and not max(groups, n) % min(groups, n)]
        raise ModelError(
            f"model {model.path}: tensor_parallel_size={size} GPUs cannot share its {heads} attention heads and {groups} "
            f"key-value heads evenly: set it to one of {', '.join(map(str, sizes))}"
        )


def read_config(model: ModelConfig) -> dict[str, Any]:
    """A model's config.json, or that of an adapter's base; fetches only small files from the hub or a URI.

    Raises ModelError if the model is missing, or if the file is no JSON object.
    """
    model = whole_model(model)
    if is_hub_id(model.path):
        text = (_from_hub(model, ["config.json"]) / "config.json").read_bytes()
    else:
        text = _folder(model.path).read("config.json")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"model {model.path}: its config.json is not a JSON object; save the model again")
    return config


def _folder(location: str) -> Folder:
    folder = Folder.at(package_path(location))
    if not folder.exists("config.json") and not folder.exists(ADAPTER_CONFIG):
        if note := removal_note(folder):
            raise ModelError(
                f"model {location}: its weights were removed, {note}. Name another model; or delete this directory and run the "
                "run's command again with keep_models=all, which trains it again"
            )
        problem = "holds no config.json" if folder.exists() else "does not exist"
        raise ModelError(
            f"model {location}: the directory {problem}. Give a directory in Hugging Face's layout, a URI, "
            f"{PACKAGE_SCHEME}mini/seed_model, or an id on the hub"
        )
    if folder.local and (pipes := folder.pipes()):
        raise ModelError(f"model {location}: {pipes[0]} is no file but a pipe or a device: put the file itself there")
    return folder


def _is_adapter(folder: Folder) -> bool:
    return folder.exists(ADAPTER_CONFIG) and not any(folder.exists(name) for name in _WHOLE)


def hub_is_offline() -> bool:
    """Whether the user's HF_HUB_OFFLINE forbids to ask the hub."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def hub_files(model: ModelConfig) -> list[str]:
    """The names of a hub model's files; fetches none. Raises ModelError if the hub does not list them."""
    from huggingface_hub import HfApi

    try:
        names: list[str] = HfApi().list_repo_files(model.path, revision=model.revision)
    except Exception as error:  # the client's errors, and those of the HTTP library that it happens to use
        raise _not_delivered(model, error) from None
    return names


def _from_hub(model: ModelConfig, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=list(patterns)))
    except Exception as error:  # the client's errors, and those of the HTTP library that it happens to use
        raise _not_delivered(model, error) from None


def _not_delivered(model: ModelConfig, error: Exception) -> ModelError:
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"model {model.path}: not a local directory, and the hub does not deliver it ({cause}). "
        "Check the name, the network and HF_TOKEN"
    )


def _cached_copy(folder: Folder, *, weights: bool, held: bool = False) -> Path:
    """The local copy of a model from an object store; it is complete and checked, or absent.

    The first process of a machine fetches it, and the others (of eight ranks, for instance) wait. A cache that cannot be
    written may hold it too, as in an image: nothing removes it there.

    Raises StorageFailed if the cache can neither be written nor holds the model.
    """
    target = _CACHE / (_content_digest(folder) + ("" if weights else WITHOUT_WEIGHTS))
    if not _is_writable(_CACHE):
        if target.exists():
            return target
        raise StorageFailed(
            f"model {folder.uri}: it is to be fetched to {_CACHE}, where nothing can be written: set STJ_CACHE to a directory "
            "that can be"
        )
    with locked_copy(target, folder.uri, held=held):
        if not target.exists():
            temporary = target.with_suffix(".part")
            shutil.rmtree(temporary, ignore_errors=True)  # left by an earlier try that was killed
            try:
                _fetch(folder, temporary, weights=weights)
            except StjError:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            temporary.rename(target)
    return target


def _fetch(folder: Folder, to: Path, *, weights: bool) -> None:
    """Copies a model's files and checks each against the manifest, or against its listed size if no manifest names it.

    What this machine holds already, as it has exported it or fetched it under another name, is linked and not fetched.

    Raises ModelError, which names the first file that differs, and StorageFailed if there is too little room.
    """
    sizes, expected = folder.sizes(), _expected_digests(folder)
    names = [name for name in sorted({*sizes, *expected}) if weights or not fnmatch(name, _WEIGHTS)]
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


def _linked(expected: Mapping[str, FileDigest], names: Sequence[str], to: Path) -> set[str]:
    """Links the files that this machine holds under other names into a directory; returns their names.

    Each is read and hashed again: a damaged one is fetched.
    """
    here = held_files(_CACHE)
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
            f"model {model}: {gigabytes(size)} are to be fetched to {place}, and {gigabytes(free)} are free there"
            f"{f'; copies of models take {filled}' if filled else ''}: free space, or use a larger disk"
        )


def _check_size(folder: Folder, name: str, size: int | None, expected: int) -> None:
    if size != expected:
        problem = (
            f"is missing: it must have {expected:,} bytes" if size is None else f"has {size:,} bytes instead of {expected:,}"
        )
        raise ModelError(f"model {folder.uri}: {name} {problem}; copy or make the model again")


def _expected_digests(folder: Folder) -> dict[str, FileDigest]:
    """The digests in the manifest that stj wrote beside a model; empty for a model from elsewhere."""
    if not folder.exists(MANIFEST):
        return {}
    try:
        files = json.loads(folder.read(MANIFEST)).get("model", {}).get("files", {})
        return {name: FileDigest(**facts) for name, facts in files.items()}
    except (ValueError, TypeError, AttributeError):
        raise ModelError(f"model {folder.uri}: its {MANIFEST} is damaged; copy or make the model again") from None


def _content_digest(folder: Folder) -> str:
    """A hash of a remote model: of its manifest if stj wrote it, else of its config.json and file listing."""
    written_by_stj = folder.exists(MANIFEST)
    loaded, config = loaded_files(folder), ADAPTER_CONFIG if _is_adapter(folder) else "config.json"
    listing = [entry for entry in folder.listing() if entry[0] in loaded]
    content = folder.read(MANIFEST) if written_by_stj else folder.read(config) + repr(listing).encode()
    return hashlib.sha256(folder.uri.encode() + content).hexdigest()[:24]
