"""The settings of a run: first those that differ from the defaults, with the default beside them, then all others."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from stj.config import Config
from stj.loop.report.words import written
from stj.storage.artifacts import plain

_LONGEST = 300  # characters of a value that are shown: rubrics and lists of sources are long, and report.json has all of them
_PLACES = ("run_root",)
"""Settings that say where, not how."""
_NO_DEFAULT = object()


class Setting(NamedTuple):
    """One setting as a reader meets it."""

    name: str
    """The whole key, as in `train.lr`."""
    value: str
    default: str | None
    """None if there is no such setting among the defaults: another version wrote it."""


class Settings(NamedTuple):
    """All settings of a run."""

    changed: list[Setting]
    same: list[tuple[str, list[Setting]]]
    """Those at their defaults, by group."""


def settings_of(config: Mapping[str, Any]) -> Settings:
    """The settings of a resolved config, as JSON values."""
    changed, same = [], dict[str, list[Setting]]()
    for name, value in _flat(config):
        default = _defaults().get(name, _NO_DEFAULT)
        setting = Setting(name, _shown(value), None if default is _NO_DEFAULT else _shown(default))
        if value == default:
            same.setdefault(name.partition(".")[0] if "." in name else "run", []).append(setting)
        elif name not in _PLACES:
            changed.append(setting)
    return Settings(changed, list(same.items()))


@cache
def _defaults() -> dict[str, Any]:
    return dict(_flat(plain(Config())))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting under its dotted name; one that is an empty group is itself a value."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: object) -> str:
    text = written(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
