"""The packages of a machine against those that a run needs."""

import subprocess
import sys
from pathlib import Path

from stj.machine import packages
from stj.machine.packages import expected_versions, installed_version, package_fault


def install(folder: Path, name: str, version: str) -> None:
    """Puts the metadata of a package into a folder of packages."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def fault_with(folder: Path, expected: dict[str, str]) -> str:
    """What a process with these packages before its own says."""
    code = f"from stj.machine.packages import package_fault; print(package_fault({expected!r}))"
    root = str(Path(packages.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(folder)!r}, {root!r}]; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_this_machine_has_what_it_asks_for() -> None:
    expected = expected_versions()
    assert package_fault(expected) is None
    assert expected["torch"] == installed_version("torch")
    assert "+" not in expected["torch"]
    assert {"ray", "vllm", "transformers", "deepspeed", "safetensors"} <= expected.keys()


def test_a_fault_names_the_package_and_both_versions(tmp_path: Path) -> None:
    expected = expected_versions()
    install(tmp_path, "transformers", "5.18.0")
    fault = fault_with(tmp_path, expected)
    assert fault.startswith(f"it has transformers 5.18.0, where the run needs transformers {expected['transformers']}: install")
    assert "\n" not in fault
    install(tmp_path, "torch", "2.12.1+cu130")
    both = fault_with(tmp_path, expected)
    assert both.startswith(f"it has torch 2.12.1, where the run needs torch {expected['torch']} (1 other packages differ too)")


def test_the_engine_has_two_names_and_a_build_has_a_label(tmp_path: Path) -> None:
    expected = expected_versions()
    install(tmp_path, "vllm", expected["vllm"] + "+cu130")
    assert fault_with(tmp_path, expected) == "None"
    install(tmp_path / "older", "vllm", "0.31.0")
    assert f"vllm 0.31.0, where the run needs vllm {expected['vllm']}" in fault_with(tmp_path / "older", expected)


def test_what_stj_names_must_be_there_and_what_only_one_machine_needs_may_be_missing() -> None:
    assert "no peft-" not in (package_fault({"nvidia-cudnn-cu13": "9.20.0"}) or "")
    assert package_fault({"nvidia-cudnn-cu13": "9.20.0.48"}) is None


def test_other_code_of_stj_is_a_difference() -> None:
    own = installed_version("stj")
    fault = package_fault({"stj": own.replace("code ", "code 0")})
    assert fault
    assert fault.startswith(f"it has stj {own}, where the run needs stj ")
