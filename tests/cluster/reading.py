"""What the rules for cluster/ read with: YAML and JSON without repeats, commands as words, and facts of this project."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stj.cli.words import split_settings
from stj.config import Config
from stj.config_loader import load
from stj.errors import StjError
from stj.machine.driver import oldest_driver

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
EFA = "1.51.0"
"""EFA's installer: this one knows Debian 12."""
GPU_TYPES = ("gpu-on-demand", "gpu-spot")
ON_DEMAND, SPOT = {"market-type": "on-demand"}, {"market-type": "spot"}
SCRATCH = ("cache", "hf", "stj", "tmp")
"""Directories that the image's environment names under /scratch."""
STOP_NOTICE_S = 400
"""Seconds that a run gets to commit and to write a checkpoint."""
INSTALLS = re.compile(r"\b(pip|uv|apt|apt-get|conda|npm)\b[^\n]*\binstall\b")

Faults = Iterator[str]


class _Loader(yaml.CSafeLoader):  # by the parser in C: Python's takes seconds
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"{sorted(repeated)} stand twice, and the last would win")
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    members = loader.construct_sequence(node, deep=True)
    if repeated := [member for member in members if members.count(member) > 1]:
        raise ValueError(f"{repeated[0]} stands twice in a list")
    return members


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _sequence)


def read(text: str) -> Any:
    """The content of a YAML file. Raises ValueError if a key, or a member of a list, stands twice."""
    return yaml.load(text, Loader=_Loader)


def read_json(text: str) -> Any:
    """The content of a JSON file. Raises ValueError if a key, or a member of a list of texts, stands twice."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for keys in ([key for key, _ in pairs], *(value for _, value in pairs if isinstance(value, list))):
        if any(keys.count(key) > 1 for key in keys):
            raise ValueError(f"{keys} has a member twice")
    return dict(pairs)


def commands(script: str) -> list[list[str]]:
    """A line of shell as words: a list for each command, and one of a single word for what is between two (`&&`, `|`)."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("();<>|&"):
            parts += [[word], []]
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def environment_of(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The variables that stand before a command, and the command."""
    count = next((index for index, word in enumerate(words) if not re.match(r"\w+=", word)), len(words))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


def run_config(words: list[str]) -> Config:
    """The config of a `stj run`, read as the command line does. Raises ValueError for a file or setting that does not exist."""
    if words[:2] != ["stj", "run"]:
        raise ValueError(f"{words[:2]} starts no run")
    if not any(word.endswith(".yaml") for word in words):
        raise ValueError(f"{words} names no config")
    files, settings = split_settings(words[2:])
    try:
        return load([ROOT / file.removeprefix("/home/ray/stj/") for file in files], settings)
    except StjError as error:
        raise ValueError(f"stj refuses {' '.join(words)}: {error}") from None


def differs(what: str, value: object, needed: object) -> Faults:
    """A fault if a value is not the needed one."""
    if value != needed or isinstance(value, bool) != isinstance(needed, bool):
        yield f"{what} is {value!r}, and must be {needed!r}"


def says(text: str, *phrases: str) -> Faults:
    """A fault for each phrase that a file does not have: what it tells its reader to create, or to type."""
    for phrase in phrases:
        if phrase not in text:
            yield f"nothing says {phrase!r}"


def limits(script: str, needed: list[str]) -> Faults:
    """A fault if a script changes its limits or the rights of new files in another way than it needs."""
    yield from differs("the changed limits", re.findall(r"\bu(?:mask|limit)\b[^\n;&|)]*?(?= *(?:[\n;&|)]))", script), needed)


def old_drivers(text: str) -> Faults:
    """A fault if a file names no driver, or one that is older than what torch needs, or another as the oldest."""
    named = re.findall(r"(?i)\b(?:driver|nvidia)[-,:\s#]+(?:driver[\s#]+)?(\d{3}(?:\.\d+)*)", text)
    if not named:
        yield "no driver is named"
    oldest = oldest_driver(torch_cuda())
    for version in named:
        if _numbers(version) < _numbers(oldest)[: version.count(".") + 1]:
            yield f"the NVIDIA driver {version} is older than {oldest}"
    for version in re.findall(r"(\d{3}\.\d+\.\d+)\s+or newer", text):
        yield from differs("the oldest driver", version, oldest)


def torch_cuda() -> tuple[int, int]:
    """The CUDA of the pinned torch, whose toolkit requirements/gpu.txt pins."""
    major, minor, *_ = _numbers(pinned("cuda-toolkit"))
    return major, minor


def efa_versions(text: str) -> Faults:
    """A fault if a file names no version of EFA's installer, or another than the one for the image's Debian."""
    versions = set(re.findall(r"EFA=(\d[\d.]*\d)", text))
    yield from differs("the version of EFA's installer", versions, {EFA})


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def pinned(package: str) -> str:
    """The version of a package in requirements/gpu.txt."""
    lines = (ROOT / "requirements" / "gpu.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{package}==")).split("==")[1].split()[0]


def makefile_uv() -> str:
    """The version of uv that the Makefile installs."""
    version = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version
    return version[1]
