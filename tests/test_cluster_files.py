"""The cluster files pass the checks of Ray, KubeRay and bash without a cloud, and rules that no schema knows."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parent.parent / "cluster"
CRD = Path(os.environ.get("STJ_TEST_DATA", "")) / "kuberay_crds" / "ray.io_rayjobs.yaml"
GPU_TYPES = ("gpu-on-demand", "gpu-spot")
PROVIDER_KEYS = {"type", "region", "availability_zone", "project_id", "cache_stopped_nodes"}
NODE_KEYS = {
    "aws": {"InstanceType", "ImageId", "IamInstanceProfile", "BlockDeviceMappings", "InstanceMarketOptions"},
    "gcp": {"machineType", "disks", "serviceAccounts", "scheduling"},
}
"""Known keys: Ray's schema accepts anything inside `provider` and `node_config`."""
MARKET_KEYS = {"InstanceMarketOptions", "scheduling"}


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return content


@pytest.fixture(params=["aws", "gcp"])
def cloud(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(f"{request.param}.yaml")


def test_ray_accepts_the_file(cloud: dict[str, Any]) -> None:
    validate_config(prepare_config(cloud))


def test_a_typo_where_ray_looks_is_refused(cloud: dict[str, Any]) -> None:
    cloud["available_node_types"]["gpu-spot"]["min_worker"] = 0
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(cloud))


def test_no_typo_hides_where_ray_does_not_look(cloud: dict[str, Any]) -> None:
    assert set(cloud["provider"]) <= PROVIDER_KEYS
    for node_type in cloud["available_node_types"].values():
        assert set(node_type["node_config"]) <= NODE_KEYS[cloud["provider"]["type"]]


def test_the_head_is_on_demand_and_alone(cloud: dict[str, Any]) -> None:
    head = cloud["available_node_types"][cloud["head_node_type"]]
    assert (head["min_workers"], head["max_workers"]) == (0, 0)
    assert head["labels"] == {"market-type": "on-demand"}
    assert "InstanceMarketOptions" not in head["node_config"]


def test_spot_and_on_demand_are_one_shape_and_cost_nothing_when_idle(cloud: dict[str, Any]) -> None:
    on_demand, spot = (cloud["available_node_types"][name] for name in GPU_TYPES)
    shapes = [{k: v for k, v in kind["node_config"].items() if k not in MARKET_KEYS} for kind in (on_demand, spot)]
    assert shapes[0] == shapes[1]
    assert on_demand["resources"] == spot["resources"]
    assert on_demand["min_workers"] == spot["min_workers"] == 0
    assert on_demand["max_workers"] + spot["max_workers"] <= cloud["max_workers"]
    assert spot["priority"] > on_demand.get("priority", 0)
    assert (on_demand["labels"], spot["labels"]) == ({"market-type": "on-demand"}, {"market-type": "spot"})
    assert "SPOT" in str(spot["node_config"]).upper()
    assert "SPOT" not in str(on_demand["node_config"]).upper()


def test_none_of_ray_s_open_defaults_is_left(cloud: dict[str, Any]) -> None:
    prepared = prepare_config(cloud)
    text = yaml.dump(prepared)
    assert "0.0.0.0" not in text
    assert "ray-wheels" not in text
    starts = [line for key in ("head", "worker") for line in prepared[f"{key}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "RAY_JOB_STOP_WAIT_TIME_S=120" in starts[0]
    assert "RAY_enable_autoscaler_v2=1" in starts[0]  # v1 knows neither labels nor priorities.
    assert prepared["setup_commands"][0] == "chmod 600 ~/.ray/auth_token"
    assert prepared["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", "kuberay.yaml", "Dockerfile"])
def test_the_ray_version_is_the_pinned_one(name: str) -> None:
    text = (CLUSTER / name).read_text()
    pinned = next(
        line for line in (CLUSTER.parent / "requirements" / "gpu.txt").read_text().splitlines() if line.startswith("ray")
    )
    assert pinned.split("==")[1].split()[0] in text


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


@pytest.mark.skipif(not CRD.is_file(), reason="STJ_TEST_DATA names no folder with kuberay_crds/ray.io_rayjobs.yaml")
def test_kuberay_s_schema_accepts_the_rayjob() -> None:
    jsonschema.validate(read("kuberay.yaml"), rayjob_schema())


@pytest.mark.skipif(not CRD.is_file(), reason="STJ_TEST_DATA names no folder with kuberay_crds/ray.io_rayjobs.yaml")
def test_kuberay_s_schema_finds_a_typo() -> None:
    job = read("kuberay.yaml")
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplica"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, rayjob_schema())


def test_rules_that_only_kuberay_s_operator_checks() -> None:
    spec = read("kuberay.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"]
    assert "clusterSelector" not in spec  # Not allowed with backoffLimit.
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["autoscalerOptions"]["version"] == "v2"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(group["template"]["spec"]["restartPolicy"] == "Never" for group in groups)  # v2 requires it.
    assert [group["groupName"] for group in cluster["workerGroupSpecs"]] == list(GPU_TYPES)
    assert all(group["minReplicas"] == group["replicas"] == 0 for group in cluster["workerGroupSpecs"])


def test_the_pods_have_time_to_commit_before_they_are_killed() -> None:
    cluster = read("kuberay.yaml")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        environment = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
        assert pod["terminationGracePeriodSeconds"] > int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) > 3


def test_bash_accepts_the_slurm_script() -> None:
    script = CLUSTER / "slurm.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    refused = subprocess.run([script], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("usage: sbatch cluster/slurm.sh CONF.yaml")


def fake(directory: Path, name: str, body: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def test_the_slurm_script_hands_one_command_to_every_node(tmp_path: Path) -> None:
    fake(tmp_path, "scontrol", "printf 'node1\\nnode2\\n'")
    fake(tmp_path, "ray", '[ "$1" = get-auth-token ] && mkdir -p "$HOME/.ray" && echo secret > "$HOME/.ray/auth_token"')
    fake(tmp_path, "srun", 'case "$*" in *hostname*) echo "10.0.0.1 fe80::1" ;; *) echo "$RAY_AUTH_MODE $*" ;; esac')
    slurm = {"NODELIST": "node[1-2]", "JOB_NODELIST": "node[1-2]", "NNODES": "2", "JOB_ID": "12345", "CPUS_PER_TASK": "96"}
    environment = {f"SLURM_{key}": value for key, value in slurm.items()} | {"SLURM_GPUS_ON_NODE": "8", "HOME": str(tmp_path)}
    done = subprocess.run(
        [CLUSTER / "slurm.sh", "conf/paper.yaml", "run_root=/shared/with space"],
        cwd=tmp_path,
        env=environment | {"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "token --nodes=2 --ntasks=2 ray symmetric-run --address 10.0.0.1:22345 --min-nodes 2 --num-cpus=96 --num-gpus=8 "
        "-- stj run conf/paper.yaml run_root=/shared/with space\n"
    )
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
