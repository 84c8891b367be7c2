"""The one way from YAML files and `key=value` to the dataclasses of config.py; every error is one line that names its key."""

import difflib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from stj.config import Config, ModelConfig, UseConfig
from stj.errors import ConfigError

Schema = TypeVar("Schema")


def load(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """The config of a run: the defaults, then the files from left to right, then `key=value` words. Later ones win.

    Raises ConfigError, which names the key, the value and the remedy.
    """
    return _load(Config, files, overrides)


def load_use(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> UseConfig:
    """The config of a judge in use, in the same way; `model=MODEL` is short for `model.path=MODEL`, as `load_model` reads it.

    Raises ConfigError, for example if no model is named.
    """
    config = _load(UseConfig, files, [re.sub(r"^model=", "model.path=", word) for word in overrides])
    model = load_model(config.model.path, replace(config.model, path=""))
    if not model.path and not model.endpoint:
        raise ConfigError("model.path is empty; name a model, as in model=runs/mini/iteration_3/model")
    return replace(config, model=model)


def load_model(word: str, like: ModelConfig) -> ModelConfig:
    """The model that a word names: a file NAME.yaml of its settings, or a path, loaded like another model.

    Raises ConfigError.
    """
    if Path(word).suffix in {".yaml", ".yml"}:
        return _to_config(_merge(OmegaConf.structured(ModelConfig), _read(Path(word)), word), ModelConfig)
    return replace(like, path=word, endpoint=None, name=None) if word else like


def _load(schema: type[Schema], files: Sequence[str | Path], overrides: Sequence[str]) -> Schema:
    merged: DictConfig = OmegaConf.structured(schema)
    for file in files:
        content = _read(Path(file))
        _move_models(merged, content)
        merged = _merge(merged, content, str(file))
    moved: set[str] = set()
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{override}': not a setting; write key=value, as in train.lr=1e-6")
        parsed = _parsed(override, merged)
        moved |= _move_models(merged, parsed, moved)
        merged = _merge(merged, parsed, f"'{override}'")
    return _to_config(merged, schema)


def _move_models(base: DictConfig, extra: Any, but: Collection[str] = ()) -> set[str]:
    """Makes a layer of settings clear the place of each model, `path` or `endpoint`, that it replaces by the other.

    The defaults name a path for each role, so a file that gives an endpoint need not empty it. A layer that gives both is left
    as it is, to be refused; all words of a command are one layer, and `but` holds the models that earlier words have placed.
    Returns the models that the layer places.
    """
    placed = set()
    for key in _models(base):
        places = [name for name in ("path", "endpoint") if _given(extra, f"{key}.{name}")]
        if places:
            placed.add(key)
        if key not in but and len(places) == 1:
            other = {"path": ""} if places == ["endpoint"] else {"endpoint": None, "name": None}
            OmegaConf.update(extra, key, other)
    return placed


def _given(layer: Any, key: str) -> bool:
    """Whether a layer of settings gives a key a value; a layer of another form gives none, and is refused later."""
    try:
        return bool(OmegaConf.is_dict(layer) and OmegaConf.select(layer, key))
    except OmegaConfBaseException:
        return False


def _models(node: DictConfig, prefix: str = "") -> list[str]:
    """The keys of all models in a config."""
    keys = []
    for name, child in ((str(name), OmegaConf.select(node, str(name))) for name in node):
        if isinstance(child, DictConfig):
            keys += [prefix + name] if OmegaConf.get_type(child) is ModelConfig else _models(child, f"{prefix}{name}.")
    return keys


def from_plain(values: dict[str, Any]) -> Config:
    """The config that a run wrote to its directory.

    Raises ConfigError if it holds a `${...}`, which OmegaConf would resolve.
    """
    if "${" in json.dumps(values):
        raise ConfigError("config.json of the run holds a ${...}, and stj writes none; check who changed the file")
    return _to_config(_merge(OmegaConf.structured(Config), OmegaConf.create(values), "config.json"), Config)


def _read(file: Path) -> Any:
    try:
        return OmegaConf.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such config file; conf/ has mini.yaml, small.yaml and paper.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file}: not a YAML file: {' '.join(str(error).split())}") from None


def _to_config(merged: DictConfig, schema: type[Schema]) -> Schema:
    try:
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error
        raise ConfigError(str(cause).splitlines()[0]) from None
    assert isinstance(config, schema)
    return config


def _parsed(override: str, base: DictConfig) -> Any:
    """The setting as YAML reads its value; text stays as it is written, as `010` or `yes` in a path."""
    key, _, text = override.partition("=")
    try:
        parsed = OmegaConf.from_dotlist([override])
        if isinstance(OmegaConf.select(parsed, key), bool | int | float) and isinstance(OmegaConf.select(base, key), str):
            OmegaConf.update(parsed, key, text)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"'{override}': the value cannot be read: {' '.join(str(error).split())}") from None
    return parsed


def _merge(base: DictConfig, extra: Any, where: str) -> DictConfig:
    if OmegaConf.is_config(extra) and (missing := OmegaConf.missing_keys(extra)):  # A merge would leave them out silently.
        raise ConfigError(f"{where}: {min(missing)}=??? is OmegaConf's word for no value; write a value or leave it out")
    try:
        merged = OmegaConf.merge(base, extra)
    except ConfigKeyError as error:
        key = str(error.full_key)
        raise ConfigError(f"{where}: unknown key '{key}'{_nearest(key, base)}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {_reason(error)} (key {error.full_key or 'at the top'!s})") from None
    except TypeError:
        raise ConfigError(f"{where}: not a mapping of keys to values, as in `train: {{lr: 1e-6}}`") from None
    assert isinstance(merged, DictConfig)
    return merged


def _reason(error: OmegaConfBaseException) -> str:
    """OmegaConf's message, reworded for users."""
    message = str(error).splitlines()[0].replace("$VALUE", "a value")
    return "one value instead of a group of settings" if "is not a subclass of" in message else message


def _nearest(key: str, base: DictConfig) -> str:
    close = difflib.get_close_matches(key, list(_keys(base)), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; the keys at the top are {', '.join(str(name) for name in base)}"


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in node:
        name = prefix + str(key)
        child = OmegaConf.select(node, str(key))
        keys.append(name)
        if isinstance(child, DictConfig):
            keys += _keys(child, f"{name}.")
    return keys
