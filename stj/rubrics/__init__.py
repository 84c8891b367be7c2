"""A rubric: what one response is graded by, with a description of each point of its scale, and what the judge must see.

    name: faithfulness
    criterion: Is every statement of the response supported by the context?
    scale: 1-3                                 binary, 1-3, 1-5 or 1-10
    inputs: [instruction, context, response]   by default instruction and response
    points:
      1: A statement contradicts the context, or most have no support there.
      2: ...
      3: ...

It lies in a file of YAML or JSON, or in the library of this package (library/, docs/rubrics.md). A setting holds the rubric
itself, packed as JSON, once it is loaded: so it reaches the actors on other machines, and a key holds what was asked.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from stj.errors import ConfigError
from stj.setting_text import settings_in_file

SCALES: Mapping[str, tuple[int, ...]] = {
    "binary": (0, 1),
    "1-3": (1, 2, 3),
    "1-5": (1, 2, 3, 4, 5),
    "1-10": tuple(range(1, 11)),
}
"""The scales by name, with their points from the worst to the best."""
INPUTS = ("instruction", "context", "reference", "response")
"""What a judge can see beside the rubric."""
_PACKED = '{"criterion": '  # How a packed rubric begins; no name of a file does.
_SHOWN = 60  # characters of a value in an error


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """A criterion with a scale."""

    name: str
    criterion: str
    scale: str
    """One of SCALES."""
    descriptions: tuple[str, ...]
    """What each point of the scale means, from the worst to the best."""
    inputs: tuple[str, ...] = ("instruction", "response")
    """What must be given for a grade; of INPUTS."""

    @property
    def points(self) -> tuple[int, ...]:
        """The points of the scale, from the worst to the best."""
        return SCALES[self.scale]

    @property
    def packed(self) -> str:
        """The rubric as a setting holds it."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of all that a judge is told by it, in hex; its name is not told."""
        told = {name: value for name, value in asdict(self).items() if name != "name"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RubricFile:
    """The keys of a rubric's file."""

    name: str = ""
    criterion: str = ""
    scale: str = ""
    inputs: tuple[str, ...] = ("instruction", "response")
    points: dict[str, str] = field(default_factory=dict)


def rubric(word: str, key: str) -> Rubric:
    """The rubric of a setting: of the library by its name, of a file, or packed.

    `key` names the setting. Raises ConfigError if there is no such rubric, or if it is not whole.
    """
    if word.startswith(_PACKED):
        return _unpacked(word, key)
    if word in library():
        return _of_library(word)
    path = Path(word)
    try:
        path = path.expanduser()
        content = path.read_bytes() if path.is_file() else None
    except (OSError, ValueError, RuntimeError) as error:  # ~NAME of no user, a name with NUL
        raise ConfigError(f"{key}={word}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if content is None:
        close = difflib.get_close_matches(word, library(), n=1)
        guess = f" (did you mean '{close[0]}'?)" if close else ""
        raise ConfigError(f"{key}={word}: no such rubric or file{guess}; known are {', '.join(library())}; or name a file")
    return _read(content, word, path.stem)


@cache
def library() -> tuple[str, ...]:
    """The names of the library's rubrics."""
    return tuple(sorted(Path(file.name).stem for file in _LIBRARY.iterdir() if file.name.endswith(".yaml")))


def rubric_of(values: Mapping[str, Any], where: str, name: str = "rubric") -> Rubric:
    """The rubric of a mapping with the keys of its file; `name` is its name if it has none.

    Raises ConfigError, which begins with `where`, if a key is missing, unknown or of another type.
    """
    _check_keys(values, where)
    given = {key: values.get(key) for key in ("criterion", "scale")} | {"name": values.get("name") or name}
    for key, value in given.items():
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: no {key}: give the {key} of the rubric as text")
    scale, inputs = str(given["scale"]), values.get("inputs", ("instruction", "response"))
    if scale not in SCALES:
        raise ConfigError(f"{where}: scale is {_shown(scale)}; it must be one of {', '.join(SCALES)}")
    return Rubric(
        name=str(given["name"]),
        criterion=str(given["criterion"]).strip(),
        scale=scale,
        descriptions=_descriptions(values.get("points"), scale, where),
        inputs=_inputs(inputs, where),
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
        points = dict(zip(map(str, SCALES[values["scale"]]), values.pop("descriptions"), strict=True))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{key} holds no packed rubric: {_shown(word)}; name a rubric or a file") from None
    return rubric_of(values | {"points": points}, key)


def _read(content: bytes, file: str, name: str) -> Rubric:
    values: dict[str, Any] = {}
    for setting in settings_in_file(content, file, RubricFile):
        if setting.path[0] == "points" and len(setting.path) == 2:
            values.setdefault("points", {})[setting.path[1]] = setting.value
        else:
            values[setting.key] = setting.value
    return rubric_of(values, file, name)


def _check_keys(values: Mapping[str, Any], where: str) -> None:
    known = tuple(RubricFile.__dataclass_fields__)
    if unknown := [str(key) for key in values if key not in known]:
        raise ConfigError(f"{where}: unknown key {_shown(unknown[0])}; a rubric has {', '.join(known)}")


def _descriptions(points: object, scale: str, where: str) -> tuple[str, ...]:
    """The description of each point, from a mapping of points to texts, whose keys JSON writes as text."""
    if not isinstance(points, Mapping):
        raise ConfigError(f"{where}: no points: describe each point of the scale {scale}, as in points: {{1: ..., 2: ...}}")
    given = {str(point).strip(): text for point, text in points.items()}
    wanted = [str(point) for point in SCALES[scale]]
    if extra := [point for point in given if point not in wanted]:
        raise ConfigError(f"{where}: points describes {_shown(extra[0])}, which is no point of the scale {scale}")
    for point in wanted:
        if not isinstance(given.get(point), str) or not given[point].strip():
            raise ConfigError(f"{where}: points has no description of {point}: describe each point of the scale {scale}")
    return tuple(given[point].strip() for point in wanted)


def _inputs(inputs: object, where: str) -> tuple[str, ...]:
    if not isinstance(inputs, Sequence) or isinstance(inputs, str) or not set(inputs) <= set(INPUTS):
        raise ConfigError(f"{where}: inputs is {_shown(inputs)}; it must be a list of {', '.join(INPUTS)}")
    if "response" not in inputs:
        raise ConfigError(f"{where}: inputs lacks response, which is what is graded")
    return tuple(name for name in INPUTS if name in inputs)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
