"""How an embedding model makes one vector of a text: the files that sentence-transformers writes beside its weights.

vLLM reads them too. Where it does not know what they name, or finds none, it takes its own default for the architecture without
a word, and the vectors are not the model's. So all that it would pass over is refused here first.
"""

import json
from pathlib import Path
from typing import Any

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.fetch import local_model
from stj.models.hub import is_hub_id
from stj.models.locate import model_identity
from stj.storage.folder import is_store
from stj.storage.known_digests import content_identity

MODULES = "modules.json"
"""What every model in sentence-transformers' layout has: the parts through which a text goes."""
_POOLING = ("sentence_transformers.models.Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling")
_PARTS = ("Transformer", "Pooling", "Dense", "Normalize")
"""The parts that vLLM computes, by the last part of their names; it passes over any other."""
_MODES = ("cls", "mean", "lasttoken")
_OLD_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "lasttoken"}
_OLD = "pooling_mode_"
_REMEDY = "name an embedding model in sentence-transformers' layout, such as Qwen/Qwen3-Embedding-0.6B"


def pooled_directory(model: ModelConfig, *, weights: bool) -> Path:
    """`local_model` of an embedding model. Raises ModelError too if it lies in an object store: only the top of a model's
    directory is fetched from there, and the files that say how to pool lie below."""
    if is_store(model.path):
        raise ModelError(
            f"model {model.path}: an embedding model has directories of its own, which are not fetched from an object store: "
            "copy it to a disk that the machines share, or name its id on the hub"
        )
    return local_model(model, weights=weights)


def pooling_of(directory: Path, name: str) -> str:
    """How the vectors of a text's tokens become one: "cls", "mean" or "lasttoken".

    Raises ModelError if the model in the directory does not say, or names a way or a part that vLLM does not have.
    """
    if not (directory / MODULES).is_file():
        raise ModelError(f"model {name}: it has no {MODULES}, which says how its vectors are pooled: {_REMEDY}")
    parts = _read(directory / MODULES, name)
    named = {part.get("type"): part.get("path") for part in parts if isinstance(part, dict)} if isinstance(parts, list) else {}
    for kind in named:
        if not (isinstance(kind, str) and kind.startswith("sentence_transformers.") and kind.endswith(_PARTS)):
            raise ModelError(f"model {name}: its {MODULES} has a part {kind}, which vLLM does not compute: {_REMEDY}")
    place = next((named[kind] for kind in _POOLING if kind in named), None)
    if not isinstance(place, str):
        raise ModelError(f"model {name}: its {MODULES} names no pooling: {_REMEDY}")
    file = directory / place / "config.json"
    if not file.is_file():
        raise ModelError(
            f"model {name}: its {place}/config.json is missing, which says how its vectors are pooled: copy it too"
        )
    mode = _mode(_read(file, name))
    if mode not in _MODES:
        raise ModelError(
            f"model {name}: its {place}/config.json pools by {mode}, and vLLM by one of {', '.join(_MODES)}: {_REMEDY}"
        )
    return mode


def pooling_identity(model: ModelConfig) -> str:
    """What the vectors of an embedding model depend on, for keys: every file of a directory, or id and revision of the hub.

    Raises ModelError if the directory is missing or holds no model.
    """
    identity = model_identity(model)
    if is_hub_id(model.path):
        return identity
    directory = pooled_directory(model, weights=True)
    return content_identity(directory, sorted(path for path in directory.rglob("*") if path.is_file()))


def refuse_other_files(model: ModelConfig, identity: str) -> None:
    """Raises ModelError if the files of a local embedding model are not those that the driver found at the start."""
    if not is_hub_id(model.path) and pooling_identity(model) != identity:
        raise ModelError(
            f"model {model.path}: its files were changed meanwhile, or this machine has others than the driver's. Bring back "
            "those that the run began with"
        )


def _mode(config: Any) -> str:
    """The way that a part's config.json names, under its new name; several ones are joined, which no engine has."""
    if not isinstance(config, dict):
        return "nothing"
    old = [_OLD_MODES.get(key, key) for key, used in config.items() if used is True and key.startswith(_OLD)]
    modes = config.get("pooling_mode", old)
    return "+".join(map(str, modes)) or "nothing" if isinstance(modes, list) else str(modes)


def _read(file: Path, name: str) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise ModelError(f"model {name}: its {file.name} is not JSON; copy or save the model again") from None
