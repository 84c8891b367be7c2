"""The one way from YAML files and `key=value` to the dataclasses of config.py; every error is one line that names its key."""

import copy
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from stj.config import Config, ModelConfig, installed_engine
from stj.errors import ConfigError
from stj.package_files import conf_path, names_conf
from stj.setting_text import Setting, fields_of, is_group, is_setting, is_switch, setting_in_word, settings_in_file
from stj.storage.folder import is_secret_name
from stj.use_config import AnnotateConfig, MergeConfig, UseConfig

Schema = TypeVar("Schema")

_LONGEST_SHOWN = 200  # Characters of a value in an error.
_ONE_WORD = ("source", "keep_out"), "all"
"""A setting whose list may be this word alone."""
_A_MAPPING = "must be a mapping, as in {name: value}"
_SWITCH = "must be true or false"
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")
_NUMBER = re.compile(r"\s*[-+]?[\d_]+\s*")
_WANTED = {"Integer": "a whole number", "Float": "a number"}


def load(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """The config of a run: the defaults, then the files from left to right, then `key=value` words. Later ones win.

    Raises ConfigError, which names the key, the value and the remedy.
    """
    return _load(Config, files, overrides)


def load_eval(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """The config of an evaluation, in the same way. A file is the config of a run; without any, a judge in use is the default.

    That is: engines for the device that vLLM was built for, on this machine, and on one GPU unless the model needs more
    (passes/model_here.py). `model.KEY=value` is short for `models.seed.KEY=value`: the judge is loaded like the seed.

    Raises ConfigError.
    """
    use = {"engine": asdict(installed_engine()), "ray": {"address": "local"}, "models": {"seed": {"tensor_parallel_size": 1}}}
    defaults = {} if files else use
    return _load(Config, files, [re.sub(r"^model\.", "models.seed.", word) for word in overrides], defaults)


def load_use(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> UseConfig:
    """The config of a judge in use, in the same way.

    `model=PATH` is short for `model.path=PATH`, and `rubric=NAME` for `rubric=[NAME]`.

    Raises ConfigError, for example if no model is named.
    """
    config = _load(UseConfig, files, [_short_rubric(_short_model(word)) for word in overrides])
    model = load_model(config.model.path, replace(config.model, path=""))
    if not model.path and not model.endpoint:
        raise ConfigError("model.path is empty; name a model, as in model=runs/mini/iteration_3/model")
    return replace(config, model=model)


def load_merge(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> MergeConfig:
    """The settings of a merge, in the same way. Raises ConfigError."""
    return _load(MergeConfig, files, overrides)


def load_annotate(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> AnnotateConfig:
    """The settings of a file of labels, in the same way. Raises ConfigError."""
    return _load(AnnotateConfig, files, overrides)


def load_model(word: str, like: ModelConfig) -> ModelConfig:
    """The model that a word names: a file NAME.yaml or conf:NAME of its settings, or a path, loaded like another model.

    Raises ConfigError.
    """
    if names_conf(word):
        return _load(ModelConfig, [word], [])
    return replace(like, path=word, endpoint=None, name=None) if word else like


def from_plain(values: dict[str, Any]) -> Config:
    """The config that a run wrote to its directory.

    Raises ConfigError if it holds a `${...}`, which OmegaConf would resolve.
    """
    if "${" in json.dumps(values):
        raise ConfigError("config.json of the run holds a ${...}, and stj writes none; check who changed the file")
    try:
        merged: Any = OmegaConf.unsafe_merge(_defaults(Config), values)
    except OmegaConfBaseException as error:
        raise ConfigError(f"config.json: {_first_line(error)} (key {error.full_key or 'at the top'!s})") from None
    return _to_config(merged, Config)


def _short_model(word: str) -> str:
    """The word, with the path of a model for a model: `model={path: M}` is a group."""
    return re.sub(r"^model=(?!\{)", "model.path=", word)


def _short_rubric(word: str) -> str:
    """The word, with a list of one rubric for a rubric: `rubric=[a, b]` is a list."""
    name, _, value = word.partition("=")
    return f"rubric={json.dumps([value])}" if name == "rubric" and value and not value.startswith("[") else word


def _load(
    schema: type[Schema], files: Sequence[str | Path], overrides: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> Schema:
    merged = OmegaConf.unsafe_merge(_defaults(schema), defaults or {})
    layers = [settings_in_file(_read(conf_path(file)), str(file), schema) for file in files]
    _check_machine_comes_first([str(file) for file in files], layers)
    for settings in layers:
        merged = _merge(_with_machine_renamed(_with_models_moved(merged, settings, schema), settings), settings, schema)
    words = [setting_in_word(word, schema) for word in overrides]
    layer = [setting for word in words for setting in word]
    merged = _with_machine_renamed(_with_models_moved(merged, layer, schema), layer)
    for word in words:
        merged = _merge(merged, word, schema)
    return _to_config(merged, schema)


def _defaults(schema: type) -> Any:
    """The defaults in OmegaConf, free to be changed: a copy takes 4 ms, a new reading of the dataclasses 20 ms."""
    return copy.deepcopy(_read_once(schema))


@cache
def _read_once(schema: Any) -> Any:
    return OmegaConf.structured(schema)


def _with_models_moved(base: Any, layer: Sequence[Setting], schema: type) -> Any:
    """`base`, changed: it loses the place of each model, `path` or `endpoint`, that a layer of settings replaces by the other.

    The defaults name a path for each role, so a file that gives an endpoint need not empty it. All words of a command are one
    layer. A layer that gives both places is left as it is, to be refused.
    """
    given = {setting.path for setting in layer if setting.value}
    for model in _models(schema):
        places = [name for name in ("path", "endpoint") if (*model, name) in given]
        if len(places) == 1:
            other = {"path": ""} if places == ["endpoint"] else {"endpoint": None, "name": None}
            base = OmegaConf.unsafe_merge(
                base, _nested([Setting(path=(*model, name), value=value) for name, value in other.items()])
            )
    return base


def _with_machine_renamed(base: Any, layer: Sequence[Setting]) -> Any:
    """`base`, changed: a layer that names another machine does not inherit the network and disks of the one before it."""
    if any(setting.path == ("hardware", "name") for setting in layer):
        return OmegaConf.unsafe_merge(base, {"hardware": {"network_gbs": None, "disk_gb": None}})
    return base


def _check_machine_comes_first(files: Sequence[str], layers: Sequence[Sequence[Setting]]) -> None:
    """Raises ConfigError if a file changes a part of a machine, as a network's does, and a later file names another machine.

    The later file would replace the part in silence.
    """
    parts: dict[str, str] = {}
    for file, layer in zip(files, layers, strict=True):
        here = [setting.path[1] for setting in layer if setting.path[0] == "hardware" and len(setting.path) > 1]
        if "name" not in here:
            parts |= dict.fromkeys(here, file)
        elif lost := [part for part in parts if part in {*here, "network_gbs", "disk_gb"}]:
            keys = ", ".join(f"hardware.{part} of {parts[part]}" for part in lost)
            last = " and ".join(dict.fromkeys(parts[part] for part in lost))
            raise ConfigError(f"{file} names a machine, and replaces {keys}: put {last} last")


def _models(schema: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all models in a config."""
    for name, hint in fields_of(schema).items():
        if hint is ModelConfig:
            yield (*prefix, name)
        else:
            yield from _models(hint, (*prefix, name))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such config file; stj brings conf:mini, conf:small, conf:paper and others") from None
    except OSError as error:
        raise ConfigError(f"{file}: not a YAML file: {error.strerror or error}") from None


def _merge(base: Any, settings: Sequence[Setting], schema: type) -> Any:
    """`base`, changed: the config with these settings.

    A merge into a copy takes 8 ms, a merge in place 0.4 ms. The settings are merged together, and one by one only for an error.
    """
    for setting in settings:
        _check_key(setting, schema)
        _check_switch(setting, schema)
        if "???" in (setting.value if isinstance(setting.value, list) else [setting.value]):
            raise ConfigError(f"{setting.where}=??? is OmegaConf's word for no value; write a value or leave it out")
    try:
        return OmegaConf.unsafe_merge(base, _nested(settings))
    except (OmegaConfBaseException, TypeError):
        for setting in settings:
            base = _merge_one(base, setting, schema)
        return base


def _merge_one(base: Any, setting: Setting, schema: type) -> Any:
    try:
        return OmegaConf.unsafe_merge(base, _nested([setting]))
    except OmegaConfBaseException as error:
        wanted = _wanted(error, schema) or _first_line(error)
    except TypeError:  # OmegaConf's answer to a list where a mapping is wanted, or a mapping where a list is
        wanted = "must be a list, as in [a, b]" if isinstance(setting.value, dict) else _A_MAPPING
    raise ConfigError(f"{setting.where}={_shown(setting.value)}: {wanted}")


def _nested(settings: Sequence[Setting]) -> dict[str, Any]:
    """The settings as mappings inside mappings."""
    root: dict[str, Any] = {}
    for setting in settings:
        place = root
        for name in setting.path[:-1]:
            place = place.setdefault(name, {})
        place[setting.path[-1]] = [setting.value] if (setting.path, setting.value) == _ONE_WORD else setting.value
    return root


def _to_config(merged: DictConfig, schema: type[Schema]) -> Schema:
    _refuse_secret_variables(OmegaConf.to_container(merged, resolve=False))
    try:
        config = OmegaConf.to_object(merged)
    except InterpolationResolutionError as error:
        raise ConfigError(
            f"{error.full_key}: {_first_line(error)}; ${{...}} names another setting, as ${{seed}} does"
        ) from None
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error
        raise ConfigError(str(cause).splitlines()[0]) from None
    assert isinstance(config, schema)
    _refuse_references(OmegaConf.to_container(merged, resolve=True))
    return config


def _refuse_secret_variables(values: Any) -> None:
    """Raises ConfigError if a setting takes its value from a variable that holds a secret: a run stores its settings."""
    for key, value in _leaves(values):
        names = _VARIABLE.findall(value) if isinstance(value, str) else []
        for name in filter(is_secret_name, names):
            raise ConfigError(
                f"{key}=${{oc.env:{name}}}: settings are stored with the run and printed, and {name} sounds like a secret: stj "
                "and its libraries read keys from the environment themselves (models behind an API: key_variable)"
            )


def _refuse_references(values: Any) -> None:
    """Raises ConfigError if a text holds `${`: the run's config.json could not be read again."""
    for key, value in _leaves(values):
        if isinstance(value, str) and "${" in value:
            raise ConfigError(f"{key}={value}: no setting may hold the characters ${{, with which a reference begins")


def _leaves(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _leaves(value, key)
    else:
        yield key, values


def _wanted(error: OmegaConfBaseException, schema: type) -> str | None:
    """What a setting must be, from OmegaConf's message; None for a message that is not known."""
    message = str(error)
    if match := re.search(r"could not be converted to (Integer|Float)", message):
        return f"must be {_WANTED[match[1]]}"
    if "is not a valid bool" in message:
        return _SWITCH
    if match := re.search(r"expected one of \[(.*?)\]", message):
        return f"must be one of {match[1]}"
    no_value = "is not Optional" in message
    if "Incompatible value 'None'" in message or (no_value and not is_group(str(error.full_key).split("."), schema)):
        return "must have a value; in quotes, 'null' is text"
    if no_value:
        return "is an empty group; write settings under it, or leave it out"
    if match := re.search(r"length \d+ does not match type hint length (\d+)", message):
        return f"must be a list of {match[1]} values"
    if "to Dict" in message:
        return _A_MAPPING
    if "Invalid value assigned" in message:
        return "must be a list, as in [a, b]"
    return "must be text, not a list or a group" if "to string" in message else None


def _shown(value: Any) -> str:
    text = "null" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].replace("$VALUE", "a value")


def _check_key(setting: Setting, schema: type) -> None:
    """Raises ConfigError for an unknown key, which names the nearest known one."""
    for length in range(1, len(setting.path) + 1):
        if not is_setting(setting.path[:length], schema):
            key = ".".join(setting.path[:length])
            place = f"{setting.place}: " if setting.place else ""
            raise ConfigError(f"{place}unknown key '{key}'{_nearest(key, schema)}")


def _check_switch(setting: Setting, schema: type) -> None:
    """Raises ConfigError for a number in place of true or false: OmegaConf takes each but 0 for true."""
    if is_switch(setting.path, schema) and isinstance(setting.value, str) and _NUMBER.fullmatch(setting.value):
        raise ConfigError(f"{setting.where}={setting.value}: {_SWITCH}")


def _nearest(key: str, schema: type) -> str:
    close = difflib.get_close_matches(key, list(_keys(schema)), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; the keys at the top are {', '.join(fields_of(schema))}"


def _keys(schema: Any, prefix: str = "") -> Iterator[str]:
    for name, hint in fields_of(schema).items():
        yield prefix + name
        yield from _keys(hint, f"{prefix}{name}.")
