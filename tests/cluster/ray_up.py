"""What cluster/aws.yaml and cluster/gcp.yaml have in common: rules for `ray up`."""

import re
import subprocess
import tempfile
from argparse import ArgumentError, ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from shlex import split
from typing import Any

import click
import yaml
from click.core import ParameterSource
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.cluster.reading import (
    GPU_TYPES,
    INSTALLS,
    ON_DEMAND,
    SCRATCH,
    SPOT,
    STOP_NOTICE_S,
    Faults,
    commands,
    differs,
    environment_of,
    read,
)

CPUS = {"p5.48xlarge": 192, "a3-highgpu-8g": 208, "m7i.4xlarge": 16, "n2-standard-16": 16}
"""CPUs of each type of machine."""
NODE_KEYS = {
    "aws": {
        *("InstanceType", "ImageId", "IamInstanceProfile", "BlockDeviceMappings"),
        *("NetworkInterfaces", "Placement", "InstanceMarketOptions"),
    },
    "gcp": {"machineType", "disks", "serviceAccounts", "scheduling"},
}
"""Known keys: Ray's schema accepts anything inside `node_config`."""
_VARIABLES = {
    "RAY_AUTH_MODE": "token",
    "RAY_enable_autoscaler_v2": "1",  # only v2 reads labels
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_NOTICE_S),
}
_TYPE_KEYS = {"resources", "min_workers", "max_workers", "priority", "labels", "initialization_commands", "node_config"}
_KEYS = {
    *("cluster_name", "max_workers", "idle_timeout_minutes", "provider", "auth", "docker", "head_node_type"),
    *("available_node_types", "file_mounts", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
}


def ray_up(text: str) -> Faults:
    """The rules of both clouds."""
    content = read(text)
    types, provider = content["available_node_types"], content["provider"]
    yield from differs("the file's keys", set(content), _KEYS)
    yield from differs("the minutes that idle machines stay", content["idle_timeout_minutes"], 10)
    yield from differs("cluster_name", content["cluster_name"], "stj")
    yield from differs("cache_stopped_nodes: stopped disks cost money, and", provider["cache_stopped_nodes"], False)
    if not re.fullmatch(re.escape(provider["region"]) + "-?[a-z]", provider["availability_zone"]):
        yield "the zone is not in the region"
    yield from differs("auth", content["auth"], {"ssh_user": "ubuntu"})
    yield from _starts(content["head_start_ray_commands"], content["worker_start_ray_commands"])
    yield from differs(
        "setup_commands: a new machine installs nothing, so it", content["setup_commands"], ["chmod 600 ~/.ray/auth_token"]
    )
    token = {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    yield from differs("file_mounts", content["file_mounts"], token)
    gated = {"/home/ray/.cache/huggingface/token": "~/.cache/huggingface/token"}
    with_gated = read(text.replace("\n  # /home/ray", "\n  /home/ray"))
    yield from differs("file_mounts with the line for gated models", with_gated["file_mounts"], token | gated)
    if INSTALLS.search(text):
        yield "a new machine installs packages"
    yield from _containers(content["docker"])
    yield from differs("the types of machines", set(types), {"head", *GPU_TYPES})
    yield from differs("head_node_type", content["head_node_type"], "head")
    yield from _node_types(types, content["max_workers"], provider["type"])


def ray_accepts(content: dict[str, Any]) -> Faults:
    """Ray's own check, and what its defaults would open."""
    try:
        prepared = prepare_config(content)
        validate_config(prepared)
    except Exception as error:  # Ray has no narrower class for them
        yield f"Ray refuses the file: {str(error).splitlines()[0]}"
        return
    yield from differs("open addresses", "0.0.0.0" in yaml.dump(prepared), False)


def docker_options(options: list[str]) -> dict[str, list[str]]:
    """The options of `docker run` by name, in Docker's long spelling. Raises ValueError for one that no file needs."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    for names in (("--volume", "-v"), ("--env", "-e"), ("--device",), ("--cap-add",), ("--ulimit",)):
        parser.add_argument(*names, action="append", default=[])
    try:
        known, unknown = parser.parse_known_args(split(" ".join(options)))
    except ArgumentError as error:
        raise ValueError(f"docker refuses {options}: {error}") from None
    if unknown:
        raise ValueError(f"unknown options of docker: {unknown}")
    return vars(known)


def scratch(content: Mapping[str, Any], disk: str) -> Faults:
    """The machine's NVMe disks are owned by the container's user, and mounted where the image's environment looks."""
    volumes = docker_options(content["docker"]["worker_run_options"])["volume"]
    for volume in (f"{disk}/stj:/scratch", f"{disk}/ray:/tmp/ray"):
        if volumes.count(volume) != 1:
            yield f"without the volume {volume} models and spilled objects fill the system's disk"
    first, last = content["available_node_types"]["gpu-spot"]["initialization_commands"]
    directories = [f"{disk}/ray", f"{disk}/stj", *(f"{disk}/stj/{name}" for name in SCRATCH)]
    owned = ["sudo", "install", "-d", "-o", "1000", "-g", "100"]
    yield from differs("the directories on NVMe", commands(last), [[*owned, *directories]])
    code, calls = played(first, mounted=True)
    yield from differs("a machine whose NVMe disk is mounted", (code, calls), (0, [f"mountpoint -q {disk}"]))


def played(command: str, *, mounted: bool, failing: str = "") -> tuple[int, list[str]]:
    """Runs a command on a machine whose disk is mounted or not: its exit code, and what it called; nothing is done."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        for name, fails in (("mountpoint", str(not mounted).lower()), ("sudo", f'[ "$1" = "{failing}" ]')):
            program = Path(folder) / name
            program.write_text(f'#!/bin/bash\necho "{name} $*" >> {log}\n{fails} && exit 1\nexit 0\n')
            program.chmod(0o755)
        words = ["/bin/bash", "-c", f"set -f\n{command}"]
        done = subprocess.run(words, env={"PATH": folder}, check=False, capture_output=True, cwd=folder)
        return done.returncode, log.read_text().replace("sudo ", "").splitlines()


def _starts(head: list[str], worker: list[str]) -> Faults:
    """The lines that start Ray, read by Ray's own command line."""
    ways = {"head": True, "dashboard_host": "127.0.0.1", "autoscaling_config": "~/ray_bootstrap_config.yaml", "port": 6379}
    for what, lines, start_options in (
        ("head", head, ways),
        ("machine", worker, {"address": "$RAY_HEAD_IP:6379"}),
    ):
        yield from differs(f"what ends another Ray on a {what}", lines[:-1], ["ray stop"])
        limit, joint, words = commands(lines[-1])
        variables, command = environment_of(words)
        yield from differs("open files", [*limit, *joint], ["ulimit", "-n", "65536", ";"])
        yield from differs("the variables", variables, _VARIABLES)
        yield from differs(f"the start of a {what}", _options(command), {**start_options, "object_manager_port": 8076})


def _options(words: list[str]) -> dict[str, Any]:
    """The options of a `ray start`. Raises ValueError for one that Ray does not know."""
    if words[:2] != ["ray", "start"]:
        raise ValueError(f"{words[:2]} does not start Ray")
    try:
        context = start.make_context("ray start", list(words[2:]))
    except click.ClickException as error:
        raise ValueError(f"Ray refuses {words}: {error.message}") from None
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return {name: value for name, value in context.params.items() if name in given}


def _containers(docker: Mapping[str, Any]) -> Faults:
    yield from differs("docker's keys", set(docker), {"image", "container_name", "run_options", "worker_run_options"})
    yield from differs("the image", docker["image"], "YOUR-IMAGE")
    yield from differs("the container", docker["container_name"], "stj")
    everywhere, worker = docker_options(docker["run_options"]), docker_options(docker["worker_run_options"])
    files = {"volume": [], "env": [], "device": [], "cap_add": [], "ulimit": ["nofile=65536:65536"]}
    yield from differs("run_options, which the head has too,", everywhere, files)
    yield from differs(
        "rights: NCCL locks memory for network cards, and more is not needed; they", worker["cap_add"], ["IPC_LOCK"]
    )
    yield from differs("limits: NCCL locks memory for network cards; they", worker["ulimit"], ["memlock=-1:-1"])
    yield from differs("the number of volumes", len(worker["volume"]), 2)


def _node_types(types: Mapping[str, Any], most: int, cloud: str) -> Faults:
    head, on_demand, spot = (types[name] for name in ("head", *GPU_TYPES))
    yield from differs("the head's limits", (head["min_workers"], head["max_workers"]), (0, 0))
    yield from differs("idle machines that stay", (on_demand["min_workers"], spot["min_workers"]), (0, 0))
    limits = (on_demand["max_workers"], spot["max_workers"], most)
    yield from differs("max_workers: conf/paper.yaml trains on four machines of one type, and it", limits, (4, 4, 8))
    if spot.get("priority", 0) <= on_demand.get("priority", 0):
        yield "spot machines must be asked for before the others"
    yield from differs("labels", [kind["labels"] for kind in (head, on_demand, spot)], [ON_DEMAND, ON_DEMAND, SPOT])
    yield from differs("the head's commands", head.get("initialization_commands", []), [])
    for what in ("resources", "initialization_commands"):
        yield from differs(f"{what} of spot machines", spot[what], on_demand[what])
    market = {"aws": "InstanceMarketOptions", "gcp": "scheduling"}[cloud]
    shapes = [{key: value for key, value in kind["node_config"].items() if key != market} for kind in (on_demand, spot)]
    yield from differs("the machine of spot", shapes[1], shapes[0])
    for name, kind in types.items():
        yield from _node_type(name, kind, cloud)


def _node_type(name: str, kind: Mapping[str, Any], cloud: str) -> Faults:
    config = kind["node_config"]
    if unknown := (set(config) - NODE_KEYS[cloud]) | (set(kind) - _TYPE_KEYS):
        yield f"{name} has unknown keys: {sorted(unknown)}"
    machine = config.get("InstanceType") or config.get("machineType")
    resources = {"CPU": CPUS.get(machine), "GPU": 0 if name == "head" else 8}
    yield from differs(f"resources of {name}", kind["resources"], resources)
