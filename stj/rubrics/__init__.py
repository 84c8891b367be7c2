"""A rubric: what one response is graded by. It has a criterion, a scale with a description of each point, and inputs.

    name: faithfulness
    criterion: Is every statement of the response supported by the context?
    scale: 1-3                                 binary, 1-3, 1-5 or 1-10
    inputs: [instruction, context, response]   by default instruction and response
    points:
      1: A statement contradicts the context, or most have no support there.
      2: ...
      3: ...

It lies in a file of YAML or JSON, or in the library of this package (library/, docs/rubrics.md). Texts lose the spaces around
them. A setting holds the rubric itself, packed as JSON, once it is loaded: so it reaches the actors on other machines, and a
key holds what was asked.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stj.errors import ConfigError
from stj.package_files import package_path
from stj.setting_text import settings_in_file
from stj.text import shows_something

SCALES: Mapping[str, tuple[int, ...]] = {
    "binary": (0, 1),
    "1-3": (1, 2, 3),
    "1-5": (1, 2, 3, 4, 5),
    "1-10": tuple(range(1, 11)),
}
"""The scales by name, with their points from the lowest to the highest."""
INPUTS = ("instruction", "context", "reference", "response")
"""What a judge can see beside the rubric."""
_PACKED = '{"criterion": '  # How a packed rubric begins; no name of a file does.
_SHOWN = 60  # characters of a value in an error
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # As in setting_text: no setting can hold these.
_LONGEST_PLACE = 200  # characters of the name of a rubric or file in an error
_DEFAULT_INPUTS = ("instruction", "response")


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """A criterion with a scale.

    Raises ConfigError if the scale is unknown, a point has no description, or the inputs lack the response.
    """

    name: str
    criterion: str
    scale: str
    """One of SCALES."""
    descriptions: tuple[str, ...]
    """What each point of the scale means, from the lowest to the highest."""
    inputs: tuple[str, ...] = _DEFAULT_INPUTS
    """What must be given for a grade; of INPUTS."""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ConfigError(f"rubric {self.name}: scale is {_shown(self.scale)}; it must be one of {', '.join(SCALES)}")
        described = len([text for text in self.descriptions if shows_something(text)])
        if described != len(self.points) or described != len(self.descriptions):
            raise ConfigError(f"rubric {self.name}: {described} descriptions; describe each point of the scale {self.scale}")
        if "response" not in self.inputs or not set(self.inputs) <= set(INPUTS):
            raise ConfigError(f"rubric {self.name}: inputs are {_shown(self.inputs)}; name response, and others of {INPUTS}")

    @property
    def points(self) -> tuple[int, ...]:
        """The points of the scale, from the lowest to the highest."""
        return SCALES[self.scale]

    @property
    def packed(self) -> str:
        """The rubric as a setting holds it."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of all but its name, which no judge sees, in hex."""
        shown = {name: value for name, value in asdict(self).items() if name != "name"}
        return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PointsFile:
    """A key for each point of the scale. Its fields are not declared: which there must be depends on the scale."""


@dataclass(frozen=True, kw_only=True)
class RubricFile:
    """The keys of a rubric's file."""

    name: str = ""
    criterion: str = ""
    scale: str = ""
    inputs: tuple[str, ...] = _DEFAULT_INPUTS
    points: PointsFile = field(default_factory=PointsFile)


def rubric(word: str, key: str) -> Rubric:
    """The rubric of a setting: of the library by its name, of a file, or packed.

    `key` names the setting. Raises ConfigError if there is no such rubric, or if it is not whole.
    """
    if word.startswith(_PACKED):
        return _unpacked(word, key)
    if word in library():
        return _of_library(word)
    where = f"{key}={word if word.isprintable() and len(word) <= _LONGEST_PLACE else _shown(word)}"
    path = Path(package_path(word))
    try:
        path = path.expanduser()
        if path.is_dir():
            raise ConfigError(f"{where}: is a directory; name the file of a rubric")
        content = path.read_bytes() if path.is_file() else None
    except (OSError, ValueError, RuntimeError) as error:  # ~NAME of no user, a name with NUL
        raise ConfigError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if content is None:
        close = difflib.get_close_matches(word, library(), n=1)
        guess = f" (did you mean '{close[0]}'?)" if close else ""
        raise ConfigError(f"{where}: no such rubric or file{guess}; known are {', '.join(library())}; or name a file")
    return _read(content, word, path.stem)


@cache
def library() -> tuple[str, ...]:
    """The names of the library's rubrics."""
    return tuple(sorted(Path(file.name).stem for file in _LIBRARY.iterdir() if file.name.endswith(".yaml")))


def rubric_of(
    values: Mapping[str, Any], where: str, name: str = "rubric", *, places: Mapping[str, str] = MappingProxyType({})
) -> Rubric:
    """The rubric of a mapping with the keys of its file; `name` is its name if it has none.

    Raises ConfigError if a key is missing, unknown or of another type. The error begins with the key's place, a file and a
    line, if `places` has it, and with `where` otherwise.
    """
    given = _Given({**values, "name": name if values.get("name") is None else values["name"]}, where, places)
    given.check_keys()
    scale = given.text("scale", given.values.get("scale"), "give the scale of the rubric")
    if scale not in SCALES:
        raise given.fault("scale", f"scale is {_shown(scale)}; it must be one of {', '.join(SCALES)}")
    return Rubric(
        name=given.name(),
        criterion=given.text("criterion", given.values.get("criterion"), "ask one question about the response"),
        scale=scale,
        descriptions=given.descriptions(scale),
        inputs=given.inputs(),
    )


_LIBRARY = files(__name__) / "library"


@cache
def _of_library(name: str) -> Rubric:
    return _read((_LIBRARY / f"{name}.yaml").read_bytes(), f"{name}.yaml", name)


@cache
def _unpacked(word: str, key: str) -> Rubric:
    """A packed rubric, which a saved config may hold. Raises ConfigError if it is damaged."""
    try:
        values = json.loads(word)
        points = dict(zip(map(str, SCALES[values["scale"]]), _as_list(values.pop("descriptions")), strict=True))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{key} holds no packed rubric: {_shown(word)}; name a rubric or a file") from None
    return rubric_of(values | {"points": points}, key)


def _as_list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} instead of a list")
    return value


def _read(content: bytes, file: str, name: str) -> Rubric:
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for setting in settings_in_file(content, file, RubricFile):
        group, *point = setting.path
        places |= {group: places.get(group, setting.place), setting.key: setting.place}
        if group == "points" and point:
            values.setdefault("points", {})[".".join(point)] = setting.value
        else:
            values[setting.key] = setting.value
    return rubric_of(values, file, name, places=places)


@dataclass(frozen=True)
class _Given:
    """The keys and values of a rubric as they are given, with the place of each key that has one."""

    values: Mapping[str, Any]
    where: str
    places: Mapping[str, str]

    def fault(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.places.get(key, self.where)}: {message}")

    def check_keys(self) -> None:
        known = tuple(RubricFile.__dataclass_fields__)
        for key in self.values:
            if key not in known:
                raise self.fault(str(key), f"unknown key {_shown(key)}; a rubric has {', '.join(known)}")

    def text(self, key: str, value: object, remedy: str) -> str:
        """A text without the spaces around it."""
        if value is not None and not isinstance(value, str):
            raise self.fault(key, f"{key} is {_shown(value)}, not text; put it in quotes if it is meant as text")
        if bad := _NO_TEXT.search(value or ""):
            raise self.fault(key, f"{key} holds the character U+{ord(bad[0]):04X}, which is no text; leave it out")
        if not value or not shows_something(value):
            raise self.fault(key, f"no {key}: {remedy}")
        if "${" in value:
            raise self.fault(key, f"{key} holds the characters ${{, which no setting may hold; leave them out")
        return value.strip()

    def name(self) -> str:
        name = self.text("name", self.values["name"], "give the rubric a name")
        if len(name.splitlines()) > 1:
            raise self.fault("name", f"name is {_shown(name)}; it must be one line")
        return name

    def descriptions(self, scale: str) -> tuple[str, ...]:
        """The description of each point, from a mapping of points, which are numbers or texts, to texts."""
        points = self.values.get("points")
        if not isinstance(points, Mapping) or not points:
            raise self.fault("points", f"no points: describe each point of the scale {scale}, as in points: {{1: ..., 2: ...}}")
        wanted = [str(point) for point in SCALES[scale]]
        texts: dict[str, object] = {}
        for point, text in points.items():
            if str(point) not in wanted:
                raise self.fault(f"points.{point}", f"points describes {_shown(point)}, which is no point of the scale {scale}")
            if str(point) in texts:
                raise self.fault("points", f"points describes {point} twice")
            texts[str(point)] = text
        remedy = f"describe each point of the scale {scale}"
        if missing := [point for point in wanted if point not in texts]:
            raise self.fault("points", f"points has no description of {missing[0]}: {remedy}")
        return tuple(self.text(f"points.{point}", texts[point], remedy) for point in wanted)

    def inputs(self) -> tuple[str, ...]:
        given = self.values.get("inputs", _DEFAULT_INPUTS)
        if not isinstance(given, list | tuple) or not all(name in INPUTS for name in given):
            raise self.fault("inputs", f"inputs is {_shown(given)}; it must be a list of {', '.join(INPUTS)}")
        if "response" not in given:
            raise self.fault("inputs", "inputs lacks response, which is what is graded")
        return tuple(name for name in INPUTS if name in given)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
