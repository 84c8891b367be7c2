"""Config files that stj brings: named `conf:NAME`, one copy in the repository, and in the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config_loader import load, load_model
from stj.errors import ConfigError
from stj.package_files import conf_path, names_conf, packed_confs

REPOSITORY = Path(__file__).parents[1]
CONF = REPOSITORY / "conf"


def test_every_file_of_conf_has_a_name() -> None:
    assert {f"{name}.yaml" for name in packed_confs()} == {str(file.relative_to(CONF)) for file in CONF.rglob("*.yaml")}


@pytest.mark.parametrize("name", ["mini", "mini.yaml", "hardware/laptop"])
def test_a_name_is_the_file_of_conf(name: str) -> None:
    assert conf_path(f"conf:{name}").samefile(CONF / f"{name.removesuffix('.yaml')}.yaml")
    assert names_conf(f"conf:{name}")


@pytest.mark.slow
def test_a_run_and_a_model_load_by_name() -> None:
    assert load(["conf:paper", "conf:hardware/8xh100-80"]) == load([CONF / "paper.yaml", CONF / "hardware/8xh100-80.yaml"])
    assert load_model("conf:models/api", load([]).models.seed) == load_model(
        str(CONF / "models/api.yaml"), load([]).models.seed
    )


@pytest.mark.slow
@given(st.text(max_size=20) | st.sampled_from(["../pyproject", "/etc/passwd", "hardware", "mini.yml", "mini.yaml.yaml", "."]))
def test_an_unknown_name_lists_those_there_are(name: str) -> None:
    if name.removesuffix(".yaml") in packed_confs():
        return
    with pytest.raises(ConfigError, match=r"no such config; .*There are .*mini, .*paper"):
        conf_path(f"conf:{name}")


@pytest.mark.slow
def test_the_wheel_brings_them(tmp_path: Path) -> None:
    """Built from a copy of what a release holds, unpacked, and run elsewhere: the wheel alone is on the path."""
    source, wheels, installed = tmp_path / "source", tmp_path / "wheels", tmp_path / "installed"
    for folder in ("stj", "conf"):
        shutil.copytree(REPOSITORY / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run(build, check=True, timeout=300)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    command = [sys.executable, "-m", "stj.cli", "plan", "conf:mini", "--json"]
    here = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(list((installed / "stj/conf").rglob("*.yaml"))) == len(packed_confs())
