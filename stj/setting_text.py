"""Settings as they are written: the values of a YAML file, or of a `key=value` word, by the types of a dataclass.

YAML 1.1 guesses a type from a value's spelling: it reads 010 as 8, 2024_05_01 as 20240501, 8601e45 as a number and `no` as
false. Here the type of the setting decides. Text stays as it is written, and OmegaConf converts the text of a number.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from stj.errors import ConfigError

_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_YAML_TAGS = "tag:yaml.org,2002:"  # Python's own tags, which name functions to call, begin with this and "python/".
_NULLS = ("", "~", "null", "Null", "NULL")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # No path or file in UTF-8 can hold these.
_FREE: Any = object()
"""The type of a value that no dataclass describes: a value of a `dict[str, Any]`, or of an unknown key."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting as a user wrote it."""

    path: tuple[str, ...]
    """The keys from the top: ("train", "lr")."""
    value: Any
    """Text, None, a list of such values, or a mapping."""
    place: str = ""
    """Its file and line for errors; empty for a word, whose key says enough."""

    @property
    def key(self) -> str:
        """The key as a word of the command line has it: `train.lr`."""
        return ".".join(self.path)

    @property
    def where(self) -> str:
        """Place and key, with which an error begins."""
        return f"{self.place}: {self.key}" if self.place else self.key


def settings_in_file(content: bytes, name: str, schema: type) -> list[Setting]:
    """The settings of a YAML file. A key may be nested or flat: `train: {lr: 1e-6}` and `train.lr: 1e-6` are the same.

    Raises ConfigError if it is not YAML, holds no mapping, or sets a key twice.
    """
    root = _node(content, name)
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{name}: not a mapping of keys to values, as in `train: {{lr: 1e-6}}`")
    try:
        return _each_once(list(_Reader(name).group(root, (), schema)))
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply, or an alias inside its own anchor") from None


def setting_in_word(word: str, schema: type) -> list[Setting]:
    """The settings of a `key=value` word: more than one if the value is a group, as in `train={lr: 1e-6, workers: 2}`.

    Text is everything behind the first equals sign. The value of a list or a group is YAML, also inside a mapping. Raises
    ConfigError.
    """
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{word}': not a setting; write key=value, as in train.lr=1e-6")
    path, where = tuple(key.split(".")), f"'{word}'"
    hint = _type_at(path, schema)
    required = _required(hint)
    if get_origin(required) in (tuple, list, dict) or is_dataclass(required) or (hint is _FREE and _is_collection(text)):
        node = _node(text.encode(errors="surrogatepass"), where)
        if isinstance(node, yaml.ScalarNode) and node.tag != _NULL and is_dataclass(required):
            raise _not_a_group(where, key)
        try:
            return _each_once(list(_Reader(where, lines=False).setting(path, node, hint)))
        except RecursionError:
            raise ConfigError(f"{where}: nested too deeply") from None
    if hint is _FREE:
        return [Setting(path=path, value=_free_value(_text(text, where)))]
    null = text in _NULLS and (text != "" or required is not hint)
    return [Setting(path=path, value=None if null else _text(text, where))]


def fields_of(hint: Any) -> Mapping[str, Any]:
    """The settings of a group, with their types; nothing for a type that is no group. `X | None` has those of X."""
    return _hints(_required(hint))


def is_setting(path: Sequence[str], schema: type) -> bool:
    """Whether there is a setting or a group at a path; inside a mapping any key is one, at any depth."""
    above = [_required(_type_at(path[:length], schema)) for length in range(len(path))]
    return path[-1] in fields_of(above[-1]) or any(get_origin(hint) is dict for hint in above)


def is_switch(path: Sequence[str], schema: type) -> bool:
    """Whether the setting at a path is true or false."""
    return _required(_type_at(path, schema)) is bool


def is_group(path: Sequence[str], schema: type) -> bool:
    """Whether other settings, or a mapping's values, are under this path."""
    required = _required(_type_at(path, schema))
    return is_dataclass(required) or get_origin(required) is dict


def _type_at(path: Sequence[str], hint: Any) -> Any:
    for name in path:
        required = _required(hint)
        hint = _value_type(required) if get_origin(required) is dict else _type_in(required, name)
    return hint


def _type_in(group: Any, name: str) -> Any:
    """The type of a key of a group. A group without fields has any key, whose value is text."""
    fields = fields_of(group)
    return fields.get(name, _FREE) if fields or not is_dataclass(group) else str


def _value_type(mapping: Any) -> Any:
    """The type of a mapping's values: text, or none that is declared."""
    return str if get_args(mapping)[1] is str else _FREE


class _Reader:
    """Reads YAML nodes by types, and gives every setting its place."""

    def __init__(self, name: str, *, lines: bool = True) -> None:
        self._name = name
        self._lines = lines

    def group(self, node: yaml.MappingNode, path: tuple[str, ...], hint: Any) -> Iterator[Setting]:
        """The settings of a mapping whose keys are fields of a dataclass, or any keys if it has no fields."""
        for key, value in self._pairs(node):
            names = tuple(key.split(".")) if fields_of(hint) else (key,)
            yield from self.setting((*path, *names), value, _type_at(names, hint))

    def setting(self, path: tuple[str, ...], node: yaml.Node | None, hint: Any) -> Iterator[Setting]:
        """The settings of one key: itself, or those of its group."""
        required = _required(hint)
        place = self._where(node) if self._lines else ""
        if not is_dataclass(required) or node is None or node.tag == _NULL:
            yield Setting(path=path, value=None if node is None else self._value(node, required), place=place)
        elif not isinstance(node, yaml.MappingNode):
            raise _not_a_group(self._where(node), ".".join(path))
        elif node.value:
            yield from self.group(node, path, required)
        else:
            yield Setting(path=path, value={}, place=place)

    def _value(self, node: yaml.Node, hint: Any) -> Any:
        self._check_tag(node)
        if fields_of(hint) and isinstance(node, yaml.MappingNode):
            return self._group_in_list(node, hint)
        if isinstance(node, yaml.MappingNode):
            inner = _value_type(hint) if get_origin(hint) is dict else _FREE
            return {key: self._value(value, inner) for key, value in self._unlike(self._pairs(node))}
        if isinstance(node, yaml.SequenceNode):
            item = get_args(hint)[0] if get_origin(hint) in (tuple, list) else _FREE
            if is_dataclass(item):
                return [self._group_in_list(member, item) for member in node.value]
            for member in node.value:
                if item is str and not isinstance(member, yaml.ScalarNode):
                    raise ConfigError(f"{self._where(member)}: a list of texts holds a list or a group, which is no text")
            return [self._value(member, _required(item)) for member in node.value]
        if node.tag == _NULL:
            return None
        text = _text(node.value, self._where(node))
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return _free_value(text) if hint is _FREE and plain else text

    def _group_in_list(self, node: yaml.Node, group: Any) -> dict[str, Any]:
        """The settings of one member of a list of groups, or of a group in it. Raises ConfigError for an unknown key."""
        known = fields_of(group)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{self._where(node)}: a list of groups of settings, as in [{{{next(iter(known))}: ...}}]")
        given = dict(self._unlike(self._pairs(node)))
        for key, value in given.items():
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                guess = f"did you mean '{close[0]}'?" if close else f"the keys are {', '.join(known)}"
                raise ConfigError(f"{self._where(value)}: unknown key '{key}' in a list of groups; {guess}")
        return {key: self._value_in_list(key, value, known[key]) for key, value in given.items()}

    def _value_in_list(self, key: str, node: yaml.Node, hint: Any) -> Any:
        """The value of a setting in a list of groups. Raises ConfigError for one value in place of a group."""
        if node.tag == _NULL:
            return None
        if fields_of(hint) and not isinstance(node, yaml.MappingNode):
            raise _not_a_group(self._where(node), key)
        return self._value(node, _required(hint))

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[str, yaml.Node]]:
        """Keys and values; those of a merged mapping (`<<: *other`) where the mapping itself has none."""
        self._check_tag(node)
        pairs: list[tuple[str, yaml.Node]] = []
        merged: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{self._where(key)}: a key that is not text")
            if key.tag == _MERGE:
                for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(other, yaml.MappingNode):
                        raise ConfigError(f"{self._where(other)}: `<<` merges a mapping, as in <<: *other")
                    merged = dict(self._pairs(other)) | merged
            else:
                pairs.append((key.value, value))
        given = {key for key, _ in pairs}
        return [*((key, value) for key, value in merged.items() if key not in given), *pairs]

    def _unlike(self, pairs: list[tuple[str, yaml.Node]]) -> list[tuple[str, yaml.Node]]:
        """The pairs. Raises ConfigError if two have the same key."""
        seen: dict[str, yaml.Node] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(
                    f"{self._where(value)}: {key} is set twice; the other is {self._where(seen[key])}. Keep one of them"
                )
            seen[key] = value
        return pairs

    def _check_tag(self, node: yaml.Node) -> None:
        if not node.tag.startswith(_YAML_TAGS) or ":python/" in node.tag:
            raise ConfigError(f"{self._where(node)}: the tag {node.tag} is not read; write the value alone")

    def _where(self, node: yaml.Node | None) -> str:
        return f"{self._name}, line {node.start_mark.line + 1}" if node is not None and self._lines else self._name


def _node(content: bytes, name: str) -> yaml.Node | None:
    """The root of a YAML document. PyYAML's reader finds the encoding: UTF-8, or UTF-16 with its mark."""
    try:
        node: yaml.Node | None = yaml.compose(_json_as_yaml(content), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeError) as error:
        raise _unread(content, name, error) from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    return node


def _unread(content: bytes, name: str, error: Exception) -> ConfigError:
    """The error for a document that is not YAML. A file of JSON gets that of JSON: YAML would blame its tabs."""
    language = "JSON" if name.lower().endswith(".json") else "YAML"
    if language == "JSON":
        try:
            json.loads(content)
        except (ValueError, RecursionError) as fault:
            error = fault
    return ConfigError(f"{name}: not {language}: {' '.join(str(error).split())}")


def _json_as_yaml(content: bytes) -> bytes:
    """A document of JSON in characters that YAML reads as JSON does; any other content as it is.

    YAML refuses tabs between values, takes U+2028 inside a text for a line break, and knows no UTF-32. In JSON, only texts hold
    characters beyond ASCII, and tabs are never in them. Lines stay lines.
    """
    try:
        json.loads(content)
        text = content.decode(json.detect_encoding(content), "surrogatepass")
    except (ValueError, RecursionError):
        return content
    return text.replace("\t", " ").replace("\x7f", "\\x7f").encode("ascii", "backslashreplace")


def _each_once(settings: list[Setting]) -> list[Setting]:
    """The settings. Raises ConfigError if two set the same key, or one a key and another a part of it."""
    seen: dict[tuple[str, ...], Setting] = {}
    groups: dict[tuple[str, ...], Setting] = {}
    for setting in settings:
        parents = [setting.path[:length] for length in range(1, len(setting.path))]
        other = (
            seen.get(setting.path) or groups.get(setting.path) or next((seen[path] for path in parents if path in seen), None)
        )
        if other is not None:
            raise ConfigError(f"{setting.where} is set twice; the other is {other.where}. Keep one of them")
        seen[setting.path] = setting
        groups |= dict.fromkeys(parents, setting)
    return settings


def _text(text: str, where: str) -> str:
    """The text, with JSON's pairs of surrogates (`\\ud83d\\ude00`) as the characters that they mean."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    if (bad := _NO_TEXT.search(text)) is not None:
        raise ConfigError(f"{where}: holds the character U+{ord(bad[0]):04X}, which no name or path can hold")
    return text


def _is_collection(text: str) -> bool:
    """Whether a value without a declared type is a list or a mapping of YAML, as in `{a: 1}`."""
    try:
        return text.lstrip()[:1] in ("[", "{") and isinstance(yaml.compose(text, Loader=yaml.SafeLoader), yaml.CollectionNode)
    except (yaml.YAMLError, RecursionError, UnicodeError):
        return False


def _free_value(text: str) -> Any:
    """A value without a declared type, as JSON reads it: true, false and numbers. All else is text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float) else text


def _not_a_group(where: str, key: str) -> ConfigError:
    return ConfigError(f"{where}: {key} has one value instead of a group of settings, as in {key}: {{...}}")


def _required(hint: Any) -> Any:
    """X of `X | None`; any other type as it is."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    options = [option for option in get_args(hint) if option is not NoneType]
    return options[0] if len(options) == 1 else hint


@cache
def _hints(hint: Any) -> Mapping[str, Any]:
    """The fields of a dataclass with their types; nothing for another type."""
    return get_type_hints(hint) if is_dataclass(hint) and isinstance(hint, type) else {}
