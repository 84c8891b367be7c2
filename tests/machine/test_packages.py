"""The packages of a machine against those that a run needs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stj.machine import packages
from stj.machine.packages import ExpectedPackages, expected_packages, installed_version


def install(folder: Path, name: str, version: str) -> None:
    """Puts the metadata of a package into a folder of packages."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def fault_with(folder: Path, expected: ExpectedPackages) -> str:
    """What a process with these packages before its own says."""
    given = f"ExpectedPackages(named={expected.named!r}, needed={expected.needed!r}, build={expected.build!r})"
    code = f"from stj.machine.packages import ExpectedPackages; print({given}.fault())"
    root = str(Path(packages.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(folder)!r}, {root!r}]; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_this_machine_has_what_it_asks_for() -> None:
    expected = expected_packages()
    assert expected.fault() is None
    assert expected.named["torch"] == installed_version("torch")
    assert "+" not in expected.named["torch"]
    assert {"ray", "vllm", "transformers", "deepspeed", "numpy"} <= expected.named.keys()
    assert {"safetensors", "tokenizers"} <= expected.needed.keys()


@pytest.mark.slow
def test_a_fault_names_the_package_and_both_versions(tmp_path: Path) -> None:
    expected = expected_packages()
    needed = expected.named["transformers"]
    install(tmp_path, "transformers", "5.18.0")
    fault = fault_with(tmp_path, expected)
    assert fault.startswith(f"it has transformers 5.18.0, where the run needs transformers {needed}: install")
    assert "\n" not in fault
    install(tmp_path, "safetensors", "0.1.0")
    both = fault_with(tmp_path, expected)
    assert both.startswith(f"it has transformers 5.18.0, where the run needs transformers {needed} (and 1 more): ")


@pytest.mark.slow
def test_what_packages_need_in_turn_is_compared_between_equal_builds_only(tmp_path: Path) -> None:
    """requirements/cpu.txt and gpu.txt pin different versions of protobuf, for example."""
    expected = expected_packages()
    install(tmp_path, "safetensors", "0.1.0")
    assert "safetensors 0.1.0, where the run needs safetensors" in fault_with(tmp_path, expected)
    assert fault_with(tmp_path, replace(expected, build="2.13.0+cu999")) == "None"


@pytest.mark.slow
def test_the_engine_has_two_names_and_a_build_has_a_label(tmp_path: Path) -> None:
    expected = expected_packages()
    pin = expected.named["vllm"]
    install(tmp_path, "vllm", pin + "+cu130")
    assert fault_with(tmp_path, expected) == "None"
    install(tmp_path / "older", "vllm", "0.31.0")
    assert f"vllm 0.31.0, where the run needs vllm {pin}" in fault_with(tmp_path / "older", expected)


def test_what_stj_names_must_be_there_and_what_others_need_may_be_missing() -> None:
    expected = expected_packages()
    cuda = replace(expected, needed={"nvidia-cudnn-cu13": "9.20.0.48"})
    assert cuda.fault() is None
    missing = replace(expected, named={**expected.named, "nowhere-to-be-had": "1.0"})
    assert (missing.fault() or "").startswith("it has no nowhere-to-be-had, and the run needs 1.0: install")


def test_other_code_of_stj_is_a_difference() -> None:
    expected, code = expected_packages(), installed_version("stj")
    fault = replace(expected, named={"stj": code.replace("code ", "code 0")}, needed={}).fault()
    assert (fault or "").startswith(f"it has stj {code}, where the run needs stj ")
