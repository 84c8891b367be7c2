"""How an embedding model makes one vector of a text: the files that sentence-transformers writes beside its weights.

vLLM reads them too. Where it does not know what they name, or finds none, it takes its own default for the architecture without
a word, and the vectors are not the model's. So all that it would pass over is refused here first.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stj.config import ModelConfig
from stj.errors import ModelError
from stj.models.config_json import context_of, read_config
from stj.models.fetch import local_model
from stj.models.hub import is_hub_id
from stj.models.locate import model_identity
from stj.models.weights import read_tensors
from stj.storage.folder import Folder, is_store
from stj.storage.known_digests import content_identity

MODULES = "modules.json"
"""What every model in sentence-transformers' layout has: the parts through which a text goes."""
_PACKAGE = "sentence_transformers."
_POOLING = ("sentence_transformers.models.Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling")
_DENSE = ("sentence_transformers.models.Dense", "sentence_transformers.base.modules.dense.Dense")
_ANY_NAME = ("Transformer", "Normalize")
"""Parts that need no name that vLLM knows: the model itself, and what is done here too."""
_DENSE_KEYS = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding", "use_residual": False}
"""Settings of a dense layer that vLLM does not read, with the only values for which it computes what the model's maker did."""
_TORCH = "torch.nn.modules."
_ACTIVATIONS = ("identity", "gelu", "relu", "sigmoid", "silu", "tanh")
_MODES = ("cls", "mean", "lasttoken")
_OLD_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "lasttoken"}
_OLD = "pooling_mode_"
_LENGTHS = "sentence_*_config.json"
"""Files that say how long a text may be, and if it is made of small letters."""
_LENGTH = "max_seq_length"
_AFTER_PADDING = ("camembert", "data2vec-text", "roberta", "xlm-roberta", "xlm-roberta-xl", "xmod")
"""Types of models whose first token has the position behind that of the padding: they reach fewer positions than they have."""
_DENSE_WEIGHTS = "model.safetensors"
_REMEDY = "name an embedding model in sentence-transformers' layout, such as Qwen/Qwen3-Embedding-0.6B"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a model reads a text."""

    tokens: int | None
    """Most tokens of a text; None if its files do not say."""
    lowers: bool
    """Whether it is made of small letters first."""


def pooled_directory(model: ModelConfig, *, weights: bool) -> Path:
    """`local_model` of an embedding model. Raises ModelError too if it lies in an object store: only the top of a model's
    directory is fetched from there, and the files that say how to pool lie below."""
    if is_store(model.path):
        raise ModelError(
            f"model {model.path}: an embedding model has directories of its own, which are not fetched from an object store: "
            "copy it to a disk that the machines share, or name its id on the hub"
        )
    return local_model(model, weights=weights)


def pooling_of(directory: Path, name: str, *, weights: bool = True) -> str:
    """How the vectors of a text's tokens become one: "cls", "mean" or "lasttoken".

    `weights` also looks at those of dense layers, which must be here then.

    Raises ModelError if the model in the directory does not say, or names a way or a part that vLLM does not have.
    """
    if not (directory / MODULES).is_file():
        raise ModelError(f"model {name}: it has no {MODULES}, which says how its vectors are pooled: {_REMEDY}")
    parts = _read(directory / MODULES, name)
    listed = parts if isinstance(parts, list) else []
    named = [(part.get("type"), part.get("path")) for part in listed if isinstance(part, dict)]
    for kind, _ in named:
        if not _is_computed(kind):
            raise ModelError(f"model {name}: its {MODULES} has a part {kind}, which vLLM does not compute: {_REMEDY}")
    places = [place for kind, place in named if kind in _POOLING]
    if len(places) != 1 or not isinstance(places[0], str):
        raise ModelError(f"model {name}: its {MODULES} names {len(places) or 'no'} pooling: {_REMEDY}")
    for kind, place in named:
        if kind in _DENSE:
            _check_dense(directory, str(place or ""), name, weights=weights)
    mode = _mode(_part_config(directory, places[0], "which says how its vectors are pooled", name))
    if mode not in _MODES:
        raise ModelError(
            f"model {name}: its {places[0]}/config.json pools by {mode}, and vLLM by one of {', '.join(_MODES)}: {_REMEDY}"
        )
    return mode


def reading_of(directory: Path, model: ModelConfig) -> Reading:
    """How long a text may be for the embedding model in the directory, and whether it is made of small letters.

    Raises ModelError if a file names a length that is none, on which vLLM stumbles.
    """
    context, kind = context_of(model), read_config(model).get("model_type")
    if context is not None and kind in _AFTER_PADDING:
        padding = read_config(model).get("pad_token_id")
        context -= 1 + (padding if isinstance(padding, int) else 1)
    lengths, lowers = [] if context is None else [context], False
    for file in sorted(directory.glob(_LENGTHS)):
        settings = _read(file, model.path)
        if not isinstance(settings, dict):
            raise ModelError(f"model {model.path}: its {file.name} is no JSON object; copy or save the model again")
        lowers = lowers or settings.get("do_lower_case") is True
        if _LENGTH in settings:
            length = settings[_LENGTH]
            if type(length) is not int or length < 1:
                raise ModelError(
                    f"model {model.path}: its {file.name} names {_LENGTH}={json.dumps(length)}, which vLLM cannot read: write "
                    "the number of tokens there, in a copy of the model"
                )
            lengths.append(length)
    return Reading(tokens=min(lengths, default=None), lowers=lowers)


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


def _is_computed(kind: Any) -> bool:
    """Whether vLLM computes a part of this type; it passes over others, and over those under names that it does not know."""
    if not isinstance(kind, str) or not kind.startswith(_PACKAGE):
        return False
    return kind in (*_POOLING, *_DENSE) or kind.rpartition(".")[2] in _ANY_NAME


def _check_dense(directory: Path, place: str, name: str, *, weights: bool) -> None:
    """Raises ModelError if vLLM would pass over a dense layer, or compute another one."""
    file = f"{place}/config.json"
    config = _part_config(directory, place, "which describes a dense layer", name)
    settings = config if isinstance(config, dict) else {}
    activation = str(settings.get("activation_function") or f"{_TORCH}linear.Identity")
    if not all(type(settings.get(key)) is int for key in ("in_features", "out_features")):
        raise ModelError(f"model {name}: its {file} does not name in_features and out_features; save the model again")
    if not activation.startswith(_TORCH) or activation.rpartition(".")[2].lower() not in _ACTIVATIONS:
        raise ModelError(f"model {name}: its {file} has the activation {activation}, which vLLM does not compute: {_REMEDY}")
    for key, value in _DENSE_KEYS.items():
        if settings.get(key, value) != value:
            raise ModelError(f"model {name}: its {file} has {key}={settings[key]}, which vLLM does not compute: {_REMEDY}")
    if not weights:
        return
    folder = Folder.at(directory / place)
    if not folder.exists(_DENSE_WEIGHTS):
        raise ModelError(
            f"model {name}: its {place} has no {_DENSE_WEIGHTS}, and without it vLLM leaves the dense layer out: load the "
            "model with sentence-transformers and save it again, which writes that file"
        )
    if not any(tensor.endswith("weight") for tensor in read_tensors(folder, _DENSE_WEIGHTS, f"{name}, {place}")):
        raise ModelError(f"model {name}: its {place}/{_DENSE_WEIGHTS} holds no weight; save the model again")


def _part_config(directory: Path, place: str, what: str, name: str) -> Any:
    file = directory / place / "config.json"
    if not file.is_file():
        raise ModelError(f"model {name}: its {place}/config.json is missing, {what}: copy it too")
    return _read(file, name)


def _mode(config: Any) -> str:
    """The way that a part's config.json names, under its new name; several ones are joined, which no engine has.

    A list is one of these: vLLM does not read it, even if it holds one way.
    """
    if not isinstance(config, dict):
        return "nothing"
    old = [_OLD_MODES.get(key, key) for key, used in config.items() if used is True and key.startswith(_OLD)]
    new = config.get("pooling_mode")
    if isinstance(new, list):
        return f"a list ({'+'.join(map(str, new))})"
    modes: dict[str, None] = dict.fromkeys(map(str, [*old, *([] if new is None else [new])]))
    return "+".join(modes) or "nothing"


def _read(file: Path, name: str) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise ModelError(f"model {name}: its {file.name} is not JSON; copy or save the model again") from None
