"""The lists of packages are complete: everything that the pinned packages need on this machine is pinned."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LISTS = Path(__file__).parents[1] / "requirements"


def lines_of(name: str) -> list[Requirement]:
    lines = (LISTS / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]


def left_out() -> set[str]:
    """Packages that cpu.txt leaves out on purpose."""
    return {canonicalize_name(line.name) for line in lines_of("cpu-overrides.txt") if "never" in str(line.marker)}


def test_requirements_of_pinned_packages_are_pinned() -> None:
    pinned = {canonicalize_name(line.name) for line in lines_of("cpu.txt") if not line.marker or line.marker.evaluate()}
    if any(not installed(name) for name in pinned):
        pytest.skip("this environment was not made from requirements/cpu.txt")
    missing = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(canonicalize_name(line.name), frozenset(line.extras)) for line in lines_of("cpu.in")]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen or name in left_out():
            continue
        seen.add((name, extras))
        if name not in pinned:
            missing.add(name)
            continue
        for text in importlib.metadata.requires(name) or []:
            wanted = Requirement(text)
            if any(wanted.marker is None or wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                todo.append((canonicalize_name(wanted.name), frozenset(wanted.extras)))
    assert not missing


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt", "dev.txt"])
def test_every_package_has_one_version_and_no_host_is_named(name: str) -> None:
    for line in lines_of(name):
        assert re.fullmatch(r"==[\w.+!]+", str(line.specifier)), str(line)
        assert line.url is None


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
