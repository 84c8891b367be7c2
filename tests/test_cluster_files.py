"""The cluster files pass the checks of Ray, KubeRay, SkyPilot and bash without a cloud, and rules that no schema knows.

A rule that notices nothing is worth nothing: more than 30 faults are planted in each file, and each must be noticed.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.dockerfile import ENVIRONMENT
from tests.cluster.planted import REPLACED, REPLACED_EVERYWHERE
from tests.cluster.reading import CLUSTER, ROOT
from tests.cluster.rules import RULES, faults
from tests.cluster.scripts import SCRIPTS, script_faults

CRD = Path(os.environ.get("STJ_TEST_DATA", "")) / "kuberay_crds" / "ray.io_rayjobs.yaml"
NEEDS_CRD = pytest.mark.skipif(not CRD.is_file(), reason="STJ_TEST_DATA names no folder with kuberay_crds/ray.io_rayjobs.yaml")
MONITORING = ("grafana.json", "prometheus.yaml", "podmonitor.yaml")
"""tests/test_monitoring.py checks these."""
PLANTED = [
    pytest.param(name, number, marks=[pytest.mark.long] if name in SCRIPTS and number % 5 else [])  # a script takes seconds
    for name, planted in REPLACED.items()
    for number in range(len(planted))
]


def faults_of(name: str, text: str, directory: Path) -> list[str]:
    return script_faults(name, text, directory) if name in SCRIPTS else list(faults(name, text))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RULES, *SCRIPTS])
def test_a_file_keeps_all_rules(name: str, tmp_path: Path) -> None:
    assert faults_of(name, (CLUSTER / name).read_text(), tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), PLANTED)
def test_a_planted_fault_is_noticed(name: str, number: int, tmp_path: Path) -> None:
    text = (CLUSTER / name).read_text()
    old, new = REPLACED[name][number]
    assert old in text, "the fault cannot be planted: the file has changed"
    planted = text.replace(old, new) if name == "kuberay.yaml" else text.replace(old, new, 1)
    noticed = script_faults(name, planted, tmp_path) if name in SCRIPTS else next(faults(name, planted), None)
    assert noticed, f"{old!r} became {new!r}, and no rule noticed"


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
@pytest.mark.parametrize("number", range(len(REPLACED_EVERYWHERE)))
def test_a_fault_that_agrees_in_all_its_places_is_noticed(name: str, number: int) -> None:
    planted = (CLUSTER / name).read_text()
    for old, new in REPLACED_EVERYWHERE[number].items():
        assert old in planted, "the fault cannot be planted: the file has changed"
        planted = planted.replace(old, new)
    assert next(faults(name, planted), None), f"{REPLACED_EVERYWHERE[number]}: no rule noticed"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_names_no_fault(name: str) -> None:
    done = subprocess.run(["shellcheck", CLUSTER / name], capture_output=True, text=True, check=False)
    assert not done.stdout


def test_every_file_has_rules_and_thirty_planted_faults() -> None:
    assert {file.name for file in CLUSTER.iterdir()} - {"README.md", *MONITORING} == {*RULES, *SCRIPTS} == set(REPLACED)
    assert min(len(planted) for planted in REPLACED.values()) > 30


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
@pytest.mark.parametrize("place", ["max_worker", "idle_timeout"])
def test_ray_s_schema_finds_a_typo(name: str, place: str) -> None:
    content = yaml.safe_load((CLUSTER / name).read_text())
    content["available_node_types"]["gpu-spot"][place] = 0
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(content))


def strict(schema: Any) -> Any:
    """The schema, except that unknown members are refused: Kubernetes drops them silently."""
    if isinstance(schema, list):
        return [strict(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    open_object = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not open_object:
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


@cache
def rayjob_schema() -> Any:
    versions = yaml.load(CRD.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]  # 1 MB: in Python it takes seconds
    schema = next(version for version in versions if version["name"] == "v1")["schema"]["openAPIV3Schema"]
    made = strict(schema)
    made["properties"]["metadata"] = {"type": "object"}
    return made


@pytest.mark.long
@NEEDS_CRD
def test_kuberay_s_schema_accepts_the_rayjob_with_the_lines_for_efa() -> None:
    jsonschema.validate(yaml.safe_load((CLUSTER / "kuberay.yaml").read_text().replace("# EFA: ", "")), rayjob_schema())


@pytest.mark.slow
@NEEDS_CRD
def test_kuberay_s_schema_finds_a_typo() -> None:
    job = yaml.safe_load((CLUSTER / "kuberay.yaml").read_text())
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplica"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, rayjob_schema())


def test_the_head_may_do_on_aws_what_ray_s_autoscaler_calls() -> None:
    """Ray's provider of AWS is read: a call of a new kind needs a new right."""
    import ray.autoscaler._private.aws as provider

    source = (Path(provider.__path__[0]) / "node_provider.py").read_text()
    called = set(re.findall(r"\.client\.(\w+)", source)) | set(re.findall(r"ec2_fail_fast\.(\w+)", source))
    allowed = {"create_instances", "terminate_instances", "create_tags", "describe_images", "describe_instance_types"}
    with_stopped_nodes = {"start_instances", "stop_instances", "exceptions"}
    assert called - with_stopped_nodes <= allowed
    assert {"create_instances", "create_tags", "terminate_instances"} <= called


def test_the_image_sets_what_the_code_reads() -> None:
    location = (ROOT / "stj" / "storage" / "location.py").read_text()
    assert 'os.environ.get("STJ_CACHE")' in location
    assert all(
        value.startswith("/scratch/") for name, value in ENVIRONMENT.items() if name in ("HF_HOME", "STJ_CACHE", "TMPDIR")
    )
    socket = f"{ENVIRONMENT['TMPDIR']}/stj-1000/{'0' * 16}.socket"
    assert len(socket) < 107  # the longest path of a socket


def test_every_package_of_the_cloud_s_list_is_missing_in_the_gpu_s_list() -> None:
    """Both are installed into one image, without dependencies: the later of two versions would win."""
    lists = [(ROOT / "requirements" / name).read_text().splitlines() for name in ("cloud.txt", "gpu.txt")]
    cloud, gpu = ({line.partition("==")[0] for line in lines if "==" in line} for lines in lists)
    assert cloud
    assert not cloud & gpu


@pytest.mark.slow
@pytest.mark.parametrize(("value", "cache"), [("/disk/stj", "/disk/stj/models"), ("", "~/.cache/stj/models")])
def test_copies_of_models_go_where_the_variable_says(value: str, cache: str) -> None:
    code = "from stj.models.fetch import _CACHE, _LINKS; print(_CACHE); assert _LINKS.parent == _CACHE.parent"
    environment = {**os.environ, "STJ_CACHE": value, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(Path(cache).expanduser())
