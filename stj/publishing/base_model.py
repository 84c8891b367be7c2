"""The model that a judge was trained from: its name for others, and its licence as far as its own files say.

README.md      the front matter of its card: license, license_name, license_link
config.json    license, which some models have there
neither        unknown, and the card says so
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stj.config import ModelConfig
from stj.errors import StjError
from stj.models.adapter import ADAPTER_CONFIG
from stj.models.hub import from_hub, is_hub_id
from stj.package_files import PACKAGE_SCHEME, package_path
from stj.storage.folder import Folder

_CARD = "README.md"
_CONFIG = "config.json"
_FENCE = "---"
_LICENCE_FIELDS = ("license", "license_name", "license_link")
_LEGAL = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING")
_UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model, for a card."""

    name: str
    """Its id on the hub, or the last part of its path: the path itself belongs to the machine."""
    on_hub: bool
    licence: Mapping[str, str]
    """`license`, `license_name` and `license_link` as on the hub; empty if unknown."""
    legal_files: tuple[Path, ...] = ()
    """Its licence and notices, which must go where its weights go."""

    @property
    def licence_words(self) -> str:
        """The licence for a reader; empty if unknown."""
        named = self.licence.get("license_name") or self.licence.get("license", "")
        link = self.licence.get("license_link")
        return f"[{named}]({link})" if named and link and link.startswith("https://") else named


def base_model(location: str | None, revision: str | None = None) -> BaseModel | None:
    """The base at a path, a URI or an id on the hub; None if it is not known.

    It need not be there any more: then its licence is unknown.
    """
    if not location:
        return None
    on_hub = is_hub_id(location) and not location.startswith(PACKAGE_SCHEME)
    name = location if on_hub else Path(location.rstrip("/")).name
    place = _folder(location, revision, on_hub=on_hub)
    if place is None:
        return BaseModel(name=name, on_hub=on_hub, licence={})
    return BaseModel(name=name, on_hub=on_hub, licence=_licence(place), legal_files=legal_files(place))


def legal_files(folder: Folder) -> tuple[Path, ...]:
    """The files of a directory that say on what terms it may be used."""
    if folder.local is None:
        return ()
    return tuple(folder.local / name for name in folder.names() if name.upper().startswith(_LEGAL))


def _folder(location: str, revision: str | None, *, on_hub: bool) -> Folder | None:
    try:
        if on_hub:
            asked = (_CARD, _CONFIG, ADAPTER_CONFIG, *(f"{name}*" for name in _LEGAL))
            return Folder.at(from_hub(ModelConfig(path=location, revision=revision), asked))
        folder = Folder.at(package_path(location))
        return folder if folder.exists() else None
    except StjError:  # The hub does not answer, or the path is one of another machine.
        return None


def _licence(folder: Folder) -> dict[str, str]:
    for read in (_front_matter, _config):
        values = read(folder)
        named = {key: str(values[key]).strip() for key in _LICENCE_FIELDS if isinstance(values.get(key), str | int)}
        if named.get("license") and named["license"].lower() != _UNKNOWN:
            return named
    return {}


def _front_matter(folder: Folder) -> Mapping[str, Any]:
    """The YAML at the head of a card; empty if there is none, or if it cannot be read."""
    lines = _text(folder, _CARD).splitlines()
    if not lines or lines[0].strip() != _FENCE or _FENCE not in map(str.strip, lines[1:]):
        return {}
    end = [line.strip() for line in lines].index(_FENCE, 1)
    try:
        values = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _config(folder: Folder) -> Mapping[str, Any]:
    try:
        values = json.loads(_text(folder, _CONFIG) or "{}")
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _text(folder: Folder, name: str) -> str:
    try:
        return folder.read(name).decode(errors="replace").lstrip("\ufeff") if folder.exists(name) else ""
    except StjError:
        return ""
