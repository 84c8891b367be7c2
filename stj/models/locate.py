"""Locates a model: a local directory, a URI, a directory of this package, or an id on the hub.

A model may be an adapter (stj/models/adapter.py). Then the facts about its layers are those of its base.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter, read_adapter
from stj.models.hub import WEIGHTS, from_hub, is_hub_id
from stj.models.removed import removal_note
from stj.package_files import PACKAGE_SCHEME, package_path
from stj.storage.artifacts import MANIFEST
from stj.storage.folder import Folder, absolute_path
from stj.storage.known_digests import content_identity

_WHOLE = ("model.safetensors", "model.safetensors.index.json")  # Beside these, adapter_config.json is only a note.
_OLD_WEIGHTS = (".bin", ".pt", ".pth")
_INDEX = "model.safetensors.index.json"
_READ_BESIDE = (
    *("config.json", "generation_config.json", "*.index.json", "chat_template*", "*.jinja"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken"),
    *("*tekken*.json", "*.model.v*", "params.json", "processor_config.json", "preprocessor_config.json"),
    *("adapter_config.json", "adapter_model.safetensors", "hf_quant_config.json", "quantize_config.json", "quant_config.json"),
)


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
    folder = model_folder(model.path)
    if folder.local:
        files = content_identity(folder.local, [folder.local / name for name in loaded_files(folder)])
    else:
        files = f"{model.path} {content_digest(folder)}"
    adapter = adapter_of(model)
    return f"{files} on {model_identity(adapter.base)}" if adapter else files


def loaded_files(folder: Folder, missing: Collection[str] = ()) -> list[str]:
    """Names of the files in a model's directory that an engine or a training reads, sorted: a README is none of them.

    `missing` names files that should be there too.

    Where an index names the shards of the weights, other weights beside them are not read. Weights of other formats count only
    if there are no safetensors.
    """
    names = sorted({*folder.names(), *missing})
    beside = [name for name in names if any(fnmatch(name, pattern) for pattern in _READ_BESIDE)]
    weights = _indexed_shards(folder, names) or [name for name in names if fnmatch(name, WEIGHTS)]
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
        Folder.at(from_hub(model, (ADAPTER_CONFIG, "config.json", *_WHOLE[1:])))
        if is_hub_id(model.path)
        else model_folder(model.path)
    )
    if not is_adapter(folder):
        return None
    adapter = read_adapter(folder.read(ADAPTER_CONFIG), model)
    if not is_hub_id(model.path) and not folder.exists(ADAPTER_WEIGHTS):
        raise ModelError(f"model {model.path} is an adapter without {ADAPTER_WEIGHTS}; copy or save it again, as safetensors")
    if not is_hub_id(adapter.base.path):
        try:
            base = model_folder(adapter.base.path)
        except ModelError as error:
            raise ModelError(f"model {model.path} is an adapter, and its base is not there: {error}") from None
        if is_adapter(base):
            raise ModelError(f"model {model.path}: its base {adapter.base.path} is an adapter too; merge that one first")
    return adapter


def whole_model(model: ModelConfig) -> ModelConfig:
    """The model itself, or an adapter's base. Raises ModelError as `adapter_of` does."""
    adapter = adapter_of(model)
    return adapter.base if adapter else model


def model_folder(location: str) -> Folder:
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


def is_adapter(folder: Folder) -> bool:
    return folder.exists(ADAPTER_CONFIG) and not any(folder.exists(name) for name in _WHOLE)


def content_digest(folder: Folder) -> str:
    """A hash of a remote model: of its manifest if stj wrote it, else of its config.json and file listing."""
    written_by_stj = folder.exists(MANIFEST)
    loaded, config = loaded_files(folder), ADAPTER_CONFIG if is_adapter(folder) else "config.json"
    listing = [entry for entry in folder.listing() if entry[0] in loaded]
    content = folder.read(MANIFEST) if written_by_stj else folder.read(config) + repr(listing).encode()
    return hashlib.sha256(folder.uri.encode() + content).hexdigest()[:24]
