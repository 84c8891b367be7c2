"""Rules for the files in cluster/, which no schema knows. Each rule names what would go wrong on the machines."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
SKY_SCHEMA = json.loads((Path(__file__).parent / "schemas" / "skypilot-task-0.14.1.json").read_text())
OLDEST_DRIVER = (580, 65, 6)
GPU_TYPES = ("gpu-on-demand", "gpu-spot")
ON_DEMAND, SPOT = {"market-type": "on-demand"}, {"market-type": "spot"}
MACHINES = {"p5.48xlarge": 192, "a3-highgpu-8g": 208, "m7i.4xlarge": 16, "n2-standard-16": 16}
"""CPUs of each type of machine."""
SCRATCH = ("cache", "hf", "stj", "tmp")
"""Directories that the image's environment names under /scratch."""
INSTALLS = re.compile(r"\b(pip|uv|apt|apt-get|conda|npm)\b[^\n]*\binstall\b")
HEAD_START = (
    "ulimit -n 65536; RAY_AUTH_MODE=token RAY_enable_autoscaler_v2=1 RAY_JOB_STOP_WAIT_TIME_S=120 ray start --head --port=6379 "
    "--object-manager-port=8076 --dashboard-host=127.0.0.1 --autoscaling-config=~/ray_bootstrap_config.yaml"
)
WORKER_START = (
    "ulimit -n 65536; RAY_AUTH_MODE=token RAY_enable_autoscaler_v2=1 RAY_JOB_STOP_WAIT_TIME_S=120 ray start "
    "--address=$RAY_HEAD_IP:6379 --object-manager-port=8076"
)
NODE_KEYS = {
    "aws": {
        *("InstanceType", "ImageId", "IamInstanceProfile", "BlockDeviceMappings"),
        *("NetworkInterfaces", "Placement", "InstanceMarketOptions"),
    },
    "gcp": {"machineType", "disks", "serviceAccounts", "scheduling"},
}
"""Known keys: Ray's schema accepts anything inside `node_config`."""

Faults = Iterator[str]


def read(text: str) -> Any:
    """The content of a YAML file, by the parser in C."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def faults(name: str, text: str) -> Faults:
    """What is wrong with a file of cluster/; the slow checks come last."""
    try:
        yield from RULES[name](text)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        yield f"it has not the expected form: {type(error).__name__} {error}"


def differs(what: str, value: object, needed: object) -> Faults:
    """A fault if a value is not the needed one."""
    if value != needed:
        yield f"{what} is {value!r}, and must be {needed!r}"


def old_drivers(text: str, pattern: str) -> Faults:
    """A fault if a file names no driver, or one that is older than what torch needs."""
    named = re.findall(pattern, text)
    if not named:
        yield "no driver is named"
    for version in named:
        if tuple(int(part) for part in version.split(".")) < OLDEST_DRIVER[: version.count(".") + 1]:
            yield f"the NVIDIA driver {version} is older than 580.65.06"


def ray_up(text: str) -> Faults:
    """What Ray's two clouds have in common."""
    content = read(text)
    types, provider = content["available_node_types"], content["provider"]
    if not 5 <= content["idle_timeout_minutes"] <= 30:
        yield "idle machines stay too long, or go while a model is fetched"
    yield from differs("cluster_name", content["cluster_name"], "stj")
    yield from differs("cache_stopped_nodes: stopped disks cost money, and", provider["cache_stopped_nodes"], False)
    if not provider["availability_zone"].startswith(provider["region"]):
        yield "the zone is not in the region"
    yield from differs("auth", content["auth"], {"ssh_user": "ubuntu"})
    yield from differs("the start of the head", content["head_start_ray_commands"], ["ray stop", HEAD_START])
    yield from differs("the start of a machine", content["worker_start_ray_commands"], ["ray stop", WORKER_START])
    yield from differs(
        "setup_commands: a new machine installs nothing, so it", content["setup_commands"], ["chmod 600 ~/.ray/auth_token"]
    )
    yield from differs("file_mounts", content["file_mounts"], {"/home/ray/.ray/auth_token": "~/.ray/auth_token"})
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


def _containers(docker: Mapping[str, Any]) -> Faults:
    yield from differs("docker's keys", set(docker), {"image", "container_name", "run_options", "worker_run_options"})
    yield from differs("the image", docker["image"], "YOUR-IMAGE")
    yield from differs("the container", docker["container_name"], "stj")
    yield from differs("run_options, which the head has too,", docker["run_options"], ["--ulimit nofile=65536:65536"])
    for option in ("--cap-add=IPC_LOCK", "--ulimit memlock=-1:-1"):
        if option not in docker["worker_run_options"]:
            yield f"without {option} NCCL cannot lock memory for network cards"


def _node_types(types: Mapping[str, Any], most: int, cloud: str) -> Faults:
    head, on_demand, spot = (types[name] for name in ("head", *GPU_TYPES))
    yield from differs("the head's limits", (head["min_workers"], head["max_workers"]), (0, 0))
    yield from differs("idle machines that stay", (on_demand["min_workers"], spot["min_workers"]), (0, 0))
    if on_demand["max_workers"] < 4 or spot["max_workers"] < 4:
        yield "conf/paper.yaml trains on four machines of one type"
    yield from differs("max_workers", most, on_demand["max_workers"] + spot["max_workers"])
    if spot.get("priority", 0) <= on_demand.get("priority", 0):
        yield "spot machines must come before the others"
    yield from differs("labels", [kind["labels"] for kind in (head, on_demand, spot)], [ON_DEMAND, ON_DEMAND, SPOT])
    yield from differs("the head's commands", head.get("initialization_commands", []), [])
    for what in ("resources", "initialization_commands"):
        yield from differs(f"{what} of spot machines", spot[what], on_demand[what])
    market = {"aws": "InstanceMarketOptions", "gcp": "scheduling"}[cloud]
    shapes = [{key: value for key, value in kind["node_config"].items() if key != market} for kind in (on_demand, spot)]
    yield from differs("the machine of spot", shapes[1], shapes[0])
    for name, kind in types.items():
        config = kind["node_config"]
        if unknown := set(config) - NODE_KEYS[cloud]:
            yield f"{name} has unknown keys: {sorted(unknown)}"
        machine = config.get("InstanceType") or config.get("machineType")
        resources = {"CPU": MACHINES.get(machine), "GPU": 0 if name == "head" else 8}
        yield from differs(f"resources of {name}", kind["resources"], resources)


def _scratch(content: Mapping[str, Any], disk: str) -> Faults:
    """The machine's NVMe disks are made, owned by the container's user, and mounted where the image's environment looks."""
    options, commands = (
        content["docker"]["worker_run_options"],
        content["available_node_types"]["gpu-spot"]["initialization_commands"],
    )
    for volume in (f"--volume {disk}/stj:/scratch", f"--volume {disk}/ray:/tmp/ray"):
        if volume not in options:
            yield f"without {volume} models and spilled objects fill the system's disk"
    directories = " ".join([f"{disk}/ray", f"{disk}/stj", *(f"{disk}/stj/{name}" for name in SCRATCH)])
    yield from differs("the directories on NVMe", commands[-1], f"sudo install -d -o 1000 -g 100 {directories}")
    if len(commands) != 2 or not commands[0].startswith(f"mountpoint -q {disk}"):
        yield "a machine without its NVMe disk would fill the system's disk"


def aws(text: str) -> Faults:
    """cluster/aws.yaml."""
    yield from ray_up(text)
    content = read(text)
    types = content["available_node_types"]
    head, gpu, spot = (types[name]["node_config"] for name in ("head", *GPU_TYPES))
    yield from old_drivers(text, r"NVIDIA driver (\d[\d.]*\d)")
    yield from differs(
        "the provider",
        (content["provider"]["type"], set(content["provider"])),
        ("aws", {"type", "region", "availability_zone", "cache_stopped_nodes"}),
    )
    if "base-with-single-cuda-ubuntu-22.04/latest/ami-id" not in text or "--build-arg EFA=" not in text:
        yield "the header does not say which images to take"
    yield from differs("ImageId", {config["ImageId"] for config in (head, gpu, spot)}, {"ami-YOUR-IMAGE"})
    yield from differs("the head's profile", head["IamInstanceProfile"], {"Name": "YOUR-HEAD-PROFILE"})
    yield from differs("the GPU machines' profile", gpu["IamInstanceProfile"], {"Name": "YOUR-GPU-PROFILE"})
    yield from differs("Placement: EFA works inside one group, and it", gpu["Placement"], {"GroupName": "YOUR-PLACEMENT-GROUP"})
    yield from differs("the market of on-demand machines", gpu.get("InstanceMarketOptions"), None)
    yield from differs("the market of spot machines", spot["InstanceMarketOptions"], {"MarketType": "spot"})
    yield from differs("the head's placement", head.get("Placement"), None)
    options = content["docker"]["worker_run_options"]
    for option in ("--device=/dev/infiniband", "--env FI_PROVIDER=efa"):
        if option not in options:
            yield f"without {option} NCCL uses sockets"
    yield from differs("the number of worker_run_options", len(options), 6)
    yield from _scratch(content, "/opt/dlami/nvme")
    yield from differs(
        "the check of the disk", types["gpu-spot"]["initialization_commands"][0], "mountpoint -q /opt/dlami/nvme"
    )
    for config in (head, gpu):
        (disk,) = config["BlockDeviceMappings"]
        yield from differs(
            "the system's disk",
            (disk["DeviceName"], disk["Ebs"]["VolumeType"], set(disk["Ebs"])),
            ("/dev/sda1", "gp3", {"VolumeSize", "VolumeType", "Throughput"}),
        )
        if disk["Ebs"]["VolumeSize"] < 200 or not 125 <= disk["Ebs"]["Throughput"] <= 1000:
            yield "the system's disk is too small for the image, or its throughput is none that gp3 has"
    yield from _efa(head["NetworkInterfaces"], gpu["NetworkInterfaces"])
    yield from ray_accepts(content)


def _efa(head: list[dict[str, Any]], cards: list[dict[str, Any]]) -> Faults:
    """AWS's rules: one interface a network card, the first with an address, the others for EFA alone, all in one group."""
    yield from differs("the network cards of a p5.48xlarge", [card["NetworkCardIndex"] for card in cards], list(range(32)))
    yield from differs("the kinds of interfaces", [card["InterfaceType"] for card in cards], ["efa", *["efa-only"] * 31])
    yield from differs("their places on the cards", [card["DeviceIndex"] for card in cards], [0, *[1] * 31])
    keys = {"NetworkCardIndex", "InterfaceType", "DeviceIndex", "SubnetId", "Groups"}
    yield from differs("their keys", {frozenset(card) for card in cards}, {frozenset(keys)})
    yield from differs("their subnets", {card["SubnetId"] for card in cards}, {"subnet-YOUR-PRIVATE"})
    address = {
        "DeviceIndex": 0,
        "SubnetId": "subnet-YOUR-PUBLIC",
        "Groups": ["sg-YOUR-GROUP"],
        "AssociatePublicIpAddress": True,
    }
    yield from differs("the head's interface", head, [address])
    yield from differs("the security groups", {tuple(card["Groups"]) for card in [*head, *cards]}, {("sg-YOUR-GROUP",)})


def aws_policy(text: str) -> Faults:
    """cluster/aws-head-policy.json: what the head does on AWS, and no more."""
    policy = json.loads(text)
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    yield from differs("Version", policy["Version"], "2012-10-17")
    yield from differs("the keys", (set(policy), len(policy["Statement"])), ({"Version", "Statement"}, 4))
    names = {"StartAndStopMachines", "GiveGpuMachinesTheirRole", "ListRuns", "ReadAndWriteRuns"}
    yield from differs("the statements", set(statements), names)
    yield from differs("their effects", {statement["Effect"] for statement in statements.values()}, {"Allow"})
    for name, statement in statements.items():
        keys = {"Sid", "Effect", "Action", "Resource"} | ({"Condition"} if name == "GiveGpuMachinesTheirRole" else set())
        yield from differs(f"the keys of {name}", set(statement), keys)
    machines, role, listing, files = (statements[name] for name in statements)
    actions = ["ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "ec2:Describe*"]
    yield from differs("what the head does with machines", (machines["Action"], machines["Resource"]), (actions, "*"))
    yield from differs("PassRole", role["Action"], "iam:PassRole")
    yield from differs(
        "the role (a profile's ARN does not serve)", role["Resource"], "arn:aws:iam::YOUR-ACCOUNT:role/YOUR-GPU-ROLE"
    )
    yield from differs(
        "whom it is passed to", role["Condition"], {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    )
    yield from differs("listing", (listing["Action"], listing["Resource"]), ("s3:ListBucket", "arn:aws:s3:::YOUR-BUCKET"))
    needed = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
    yield from differs("files", (set(files["Action"]), files["Resource"]), (needed, "arn:aws:s3:::YOUR-BUCKET/*"))


def gcp(text: str) -> Faults:
    """cluster/gcp.yaml."""
    yield from ray_up(text)
    yield from _gcp(read(text))
    yield from old_drivers(text, r"images/family/\S*nvidia-(\d+)")
    yield from differs(
        "the disks' zones", set(re.findall(r"zones/([^/]+)/", text)), {read(text)["provider"]["availability_zone"]}
    )
    yield from _tcpx(text)
    yield from ray_accepts(read(text))


def _gcp(content: Mapping[str, Any]) -> Faults:
    types, provider = content["available_node_types"], content["provider"]
    keys = {"type", "region", "availability_zone", "project_id", "cache_stopped_nodes"}
    yield from differs("the provider", (provider["type"], set(provider)), ("gcp", keys))
    yield from differs("project_id", provider["project_id"], "YOUR-PROJECT")
    yield from _scratch(content, "/mnt/nvme")
    yield from differs("the number of worker_run_options", len(content["docker"]["worker_run_options"]), 4)
    made = types["gpu-spot"]["initialization_commands"][0]
    for part in (
        "|| {",
        "--level=0",
        "--raid-devices=16",
        "google-local-nvme-ssd-*",
        "mkfs.ext4",
        "mount -o noatime /dev/md0 /mnt/nvme",
    ):
        if part not in made:
            yield f"the local SSDs are not made one disk: {part} is missing"
    account = {
        "email": "ray-autoscaler-sa-v1@YOUR-PROJECT.iam.gserviceaccount.com",
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    }
    for name, kind in types.items():
        config = kind["node_config"]
        yield from differs(f"the account of {name}", config["serviceAccounts"], [account])
        (disk,) = config["disks"]
        yield from differs(
            f"the disk of {name}",
            {key: disk[key] for key in disk if key != "initializeParams"},
            {"boot": True, "autoDelete": True, "type": "PERSISTENT"},
        )
        made_from = disk["initializeParams"]
        yield from differs(f"the keys of the disk of {name}", set(made_from), {"diskSizeGb", "diskType", "sourceImage"})
        kinds = ("pd-balanced", "pd-ssd")
        if made_from["diskSizeGb"] < 200 or not re.fullmatch(
            rf"zones/[^/]+/diskTypes/({'|'.join(kinds)})", made_from["diskType"]
        ):
            yield f"the disk of {name} is too small, or of a type that the machine refuses (without a type: pd-standard)"
        family = r"projects/deeplearning-platform-release/global/images/family/common-cu\d+-ubuntu-2204-nvidia-\d+"
        if not re.fullmatch(family, made_from["sourceImage"]):
            yield f"the image of {name} is none of Google's for deep learning"
    stays = {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    yield from differs("scheduling", types["gpu-on-demand"]["node_config"]["scheduling"], stays)
    spot = {**stays, "provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}
    yield from differs("scheduling of spot", types["gpu-spot"]["node_config"]["scheduling"], spot)
    yield from differs("scheduling of the head", types["head"]["node_config"].get("scheduling"), None)


def _tcpx(text: str) -> Faults:
    """The lines that are commented out: with them the file still has its form, five networks, and the same four interfaces."""
    with_tcpx = read(text.replace("# TCPX: ", ""))
    options = with_tcpx["docker"]["worker_run_options"]
    values = dict(re.findall(r"--env (\w+)=(\S+)", "\n".join(options)))
    networks = [f"regions/{with_tcpx['provider']['region']}/subnetworks/YOUR-NET-{number}" for number in range(5)]
    types = with_tcpx["available_node_types"]
    for name in GPU_TYPES:
        interfaces = types[name]["node_config"]["networkInterfaces"]
        yield from differs("TCPX's networks", [interface["subnetwork"] for interface in interfaces], networks)
        yield from differs("TCPX's cards", {interface["nicType"] for interface in interfaces}, {"GVNIC"})
    head = types["head"]["node_config"]["networkInterfaces"]
    yield from differs("the head's network: Ray wants one in each type, or none, and it", head, [{"subnetwork": networks[0]}])
    yield from differs("TCPX's interfaces", values["NCCL_GPUDIRECTTCPX_SOCKET_IFNAME"], "eth1,eth2,eth3,eth4")
    control = {values["NCCL_GPUDIRECTTCPX_CTRL_DEV"], values["NCCL_SOCKET_IFNAME"]}
    yield from differs("TCPX's control interface", control, {"eth0"})
    client, library = values["NCCL_GPUDIRECTTCPX_UNIX_CLIENT_PREFIX"], values["LD_LIBRARY_PATH"]
    for volume in (f"--volume {client}:/run/tcpx", f"--volume /var/lib/tcpx/lib64:{library}"):
        if volume not in options:
            yield f"TCPX needs {volume}"


def kuberay(text: str) -> Faults:
    """cluster/kuberay.yaml."""
    job = read(text)
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    yield from differs(
        "the kind",
        (job["apiVersion"], job["kind"], set(job)),
        ("ray.io/v1", "RayJob", {"apiVersion", "kind", "metadata", "spec"}),
    )
    yield from old_drivers(text, r"NVIDIA (\d[\d.]*\d)")
    entry = "stj run /home/ray/stj/conf/paper.yaml run_root=s3://YOUR-BUCKET/paper train.place.market-type=on-demand"
    yield from differs("entrypoint", spec["entrypoint"], entry)
    yield from differs("metadata", job["metadata"], {"name": "stj-paper"})
    keys = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
    yield from differs("the job's keys", set(spec), keys)
    yield from differs("shutdownAfterJobFinishes", spec["shutdownAfterJobFinishes"], True)
    if spec["backoffLimit"] < 1 or not 0 <= spec["ttlSecondsAfterFinished"] <= 3600:
        yield "the job is not tried again, or its cluster stays"
    yield from differs("rayVersion", cluster["rayVersion"], pinned("ray"))
    yield from differs("authOptions", cluster["authOptions"], {"mode": "token"})
    yield from differs("enableInTreeAutoscaling", cluster["enableInTreeAutoscaling"], True)
    yield from differs("the autoscaler", cluster["autoscalerOptions"], {"version": "v2", "idleTimeoutSeconds": 600})
    keys = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
    yield from differs("the cluster's keys", set(cluster), keys)
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    yield from differs("the head", head["rayStartParams"], {"num-cpus": "0"})
    yield from differs("the groups", [group["groupName"] for group in groups], list(GPU_TYPES))
    for group in (head, *groups):
        yield from _pod(group["template"]["spec"])
    yield from _groups(*groups)
    yield from _commented_lines_of_pods(text)


def _pod(pod: Mapping[str, Any]) -> Faults:
    yield from differs("restartPolicy, which the autoscaler wants,", pod["restartPolicy"], "Never")
    yield from differs("serviceAccountName", pod["serviceAccountName"], "stj")
    (container,) = pod["containers"]
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    yield from differs(
        "env", values, {"RAY_JOB_STOP_WAIT_TIME_S": "120", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "120", "HF_TOKEN": None}
    )
    secret = {"secretKeyRef": {"name": "hugging-face", "key": "token", "optional": True}}
    yield from differs(
        "the token", [variable["valueFrom"] for variable in container["env"] if "valueFrom" in variable], [secret]
    )
    if pod["terminationGracePeriodSeconds"] <= 120:
        yield "the pod is killed before it has committed"
    for made in (container, *pod.get("initContainers", [])):
        yield from differs("the image", (made["image"], made["imagePullPolicy"]), ("YOUR-IMAGE", "Always"))
    yield from differs("requests", container["resources"]["requests"], container["resources"]["limits"])
    if "ephemeral-storage" not in container["resources"]["limits"]:
        yield "a pod without ephemeral-storage is evicted"


def _groups(on_demand: Mapping[str, Any], spot: Mapping[str, Any]) -> Faults:
    yield from differs("labels", (on_demand["labels"], spot["labels"]), (ON_DEMAND, SPOT))
    for group in (on_demand, spot):
        yield from differs("replicas", (group["replicas"], group["minReplicas"], group["maxReplicas"]), (0, 0, 4))
        yield from differs("rayStartParams", group["rayStartParams"], {})
    if spot.get("priority", 0) <= on_demand.get("priority", 0):
        yield "spot pods must come before the others"
    pods = [group["template"]["spec"] for group in (on_demand, spot)]
    shapes = [{key: value for key, value in pod.items() if key != "affinity"} for pod in pods]
    yield from differs("the pod of spot", shapes[1], shapes[0])
    yield from _affinity(*[pod["affinity"] for pod in pods])
    yield from _gpu_pod(pods[0])


def _affinity(on_demand: Mapping[str, Any], spot: Mapping[str, Any]) -> Faults:
    """Pods of each group land on machines of its market, whatever the cloud calls it."""
    known = {
        "cloud.google.com/gke-spot": ["true"],
        "eks.amazonaws.com/capacityType": ["SPOT"],
        "karpenter.sh/capacity-type": ["spot"],
    }
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = [market["nodeAffinity"][required]["nodeSelectorTerms"] for market in (on_demand, spot)]
    not_in, within = (
        [{"key": key, "operator": kind, "values": values} for key, values in known.items()] for kind in ("NotIn", "In")
    )
    yield from differs("the machines of on-demand pods", terms[0], [{"matchExpressions": not_in}])
    yield from differs("the machines of spot pods", terms[1], [{"matchExpressions": [expression]} for expression in within])


def _gpu_pod(pod: Mapping[str, Any]) -> Faults:
    (container,), limits = pod["containers"], pod["containers"][0]["resources"]["limits"]
    yield from differs("IPC_LOCK", container["securityContext"], {"capabilities": {"add": ["IPC_LOCK"]}})
    yield from differs(
        "tolerations", pod["tolerations"], [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    yield from differs("GPUs", limits["nvidia.com/gpu"], "8")
    memory, storage = (int(limits[name].removesuffix("Gi")) for name in ("memory", "ephemeral-storage"))
    if not 96 <= int(limits["cpu"]) <= 180 or not 1200 <= memory <= 1700 or storage < 2000:
        yield "the pod does not fit a machine of eight H100, or a run does not fit the pod"
    mounts = {(mount["name"], mount["mountPath"], mount.get("subPath")) for mount in container["volumeMounts"]}
    yield from differs(
        "the mounts",
        mounts,
        {("shared-memory", "/dev/shm", None), ("scratch", "/scratch", None), ("scratch", "/tmp/ray", "ray")},
    )
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    yield from differs("/dev/shm", volumes["shared-memory"], {"medium": "Memory", "sizeLimit": "200Gi"})
    if (
        set(volumes["scratch"]) != {"sizeLimit"}
        or not 1900 <= int(volumes["scratch"]["sizeLimit"].removesuffix("Gi")) <= storage
    ):
        yield "scratch is in memory, too small, or larger than the pod's storage"
    (first,) = pod["initContainers"]
    directories = [f"/scratch/{name}" for name in sorted({*SCRATCH, "ray"})]
    yield from differs("the directories under /scratch", first["command"], ["mkdir", "-p", *directories])
    yield from differs(
        "the volume of the first container", first["volumeMounts"], [{"name": "scratch", "mountPath": "/scratch"}]
    )


def _commented_lines_of_pods(text: str) -> Faults:
    """The lines for EFA and TCPX: with them the file keeps its form."""
    pods = read(text.replace("# EFA: ", "").replace("# TCPX: ", ""))["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for group in pods:
        container, annotations = group["template"]["spec"]["containers"][0], group["template"]["metadata"]["annotations"]
        network = {name: container["resources"]["limits"][name] for name in ("vpc.amazonaws.com/efa", "hugepages-2Mi")}
        yield from differs("EFA's resources", network, {"vpc.amazonaws.com/efa": "32", "hugepages-2Mi": "5120Mi"})
        yield from differs("EFA's variable", {"name": "FI_PROVIDER", "value": "efa"} in container["env"], True)
        yield from differs(
            "TCPX's annotations", set(annotations), {"networking.gke.io/default-interface", "networking.gke.io/interfaces"}
        )


def sky(text: str) -> Faults:
    """cluster/sky.yaml."""
    task = read(text)
    yield from old_drivers(text, r"NVIDIA driver (\d[\d.]*\d)")
    yield from differs("the keys", set(task), {"name", "workdir", "num_nodes", "resources", "envs", "secrets", "run"})
    yield from differs("workdir", task["workdir"], ".")
    yield from differs("num_nodes", task["num_nodes"], 4)
    resources = dict(task["resources"])
    if resources.pop("disk_size") < 2000:
        yield "models, checkpoints and spilled objects do not fit the disk"
    needed = {
        "accelerators": "H100:8",
        "image_id": "docker:YOUR-IMAGE",
        "network_tier": "best",
        "disk_tier": "best",
        "use_spot": False,
    }
    yield from differs("resources", resources, {**needed, "autostop": {"idle_minutes": 10, "down": True}})
    yield from differs(
        "envs",
        task["envs"],
        {"RUN_ROOT": "s3://YOUR-BUCKET/paper", "RAY_AUTH_MODE": "token", "RAY_JOB_STOP_WAIT_TIME_S": "120"},
    )
    yield from differs("secrets", task["secrets"], {"RAY_AUTH_TOKEN": None, "HF_TOKEN": ""})
    lines = task["run"].replace("\\\n", "").splitlines()
    yield from differs("the image's programs come first", lines[0].split("  #")[0], "export PATH=/usr/local/bin:$PATH")
    yield from differs("the head", lines[1], 'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)')
    run = (
        "bash cluster/run_on_nodes.sh /scratch $head:6379 $SKYPILOT_NUM_NODES $SKYPILOT_NODE_RANK "
        '"--num-gpus=$SKYPILOT_NUM_GPUS_PER_NODE --dashboard-agent-listen-port=52366" '
        "stj run conf/paper.yaml run_root=$RUN_ROOT"
    )
    yield from differs(
        "the run (SkyPilot's own Ray has port 6380 and agent port 52365)", " ".join(" ".join(lines[2:]).split()), run
    )
    if INSTALLS.search(text):
        yield "a new machine installs packages"
    try:
        jsonschema.validate(task, SKY_SCHEMA)
    except jsonschema.ValidationError as error:
        yield f"SkyPilot refuses the file: {error.message}"


def dockerfile(text: str) -> Faults:
    """cluster/Dockerfile."""
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    one_line = " ".join(code.replace("\\\n", " ").split())
    yield from old_drivers(text, r"the driver, (\d[\d.]*\d)")
    steps = [line.split()[0] for line in code.replace("\\\n", " ").splitlines() if line.strip()]
    for step in re.findall(r"^RUN (.*)$", code.replace("\\\n", " "), re.MULTILINE):
        if subprocess.run(["bash", "-n"], input=step, text=True, capture_output=True, check=False).returncode:
            yield f"bash refuses the step {step}"
    if one_line.count("apt-get update") != one_line.count("/var/lib/apt/lists/*") or "&& rm -rf /tmp/efa" not in one_line:
        yield "lists of packages, or installers, stay in the image"
    yield from differs("the steps", " ".join(steps), "FROM RUN ARG RUN RUN COPY RUN WORKDIR COPY COPY COPY COPY RUN ENV USER")
    yield from differs("the base", code.split()[:2], ["FROM", "python:3.11-slim-bookworm"])  # glibc of Ubuntu 22.04 or newer
    apt = re.search(r"--no-install-recommends ([^&]*)&&", one_line)
    programs = set(apt[1].split() if apt else ())
    for program in (
        "gcc",
        "g++",
        "libc6-dev",
        "rsync",
        "sudo",
        "openssh-client",
        "openssh-server",
        "curl",
        "procps",
        "libibverbs1",
        "librdmacm1",
    ):
        if program not in programs:
            yield f"{program} is missing"
    for part in (
        'ARG EFA=""',
        'if [ -n "$EFA" ]',
        "mkdir /tmp/efa && cd /tmp/efa && curl -fsSL",
        "https://efa-installer.amazonaws.com/aws-efa-installer-$EFA.tar.gz",
        "./efa_installer.sh -y --skip-kmod --skip-limit-conf --no-verify",
        "useradd --uid 1000 --gid users --create-home --shell /bin/bash ray",
        "NOPASSWD:ALL",
        "COPY requirements/gpu.txt requirements/cloud.txt /tmp/requirements/",
        "uv pip install --system --no-cache --compile-bytecode --no-deps -r /tmp/requirements/gpu.txt "
        "-r /tmp/requirements/cloud.txt",
        "COPY --chown=ray:users pyproject.toml LICENSE README.md ./",
        "COPY --chown=ray:users stj ./stj",
        "COPY --chown=ray:users conf ./conf",
        "COPY --chown=ray:users cluster ./cluster",
        "RUN uv pip install --system --no-cache --no-deps .",
        "WORKDIR /home/ray/stj",
    ):
        if part not in one_line:
            yield f"it has not the step: {part}"
    yield from differs("uv", re.findall(r"uv==([\d.]+)", code), [makefile_uv()])
    owned = re.search(r"install -d -o ray -g users ([^\n]*)", code)
    yield from differs(
        "ray's directories",
        owned and owned[1].split(),
        ["/scratch", *(f"/scratch/{name}" for name in SCRATCH), "/home/ray/.ray", "/home/ray/stj"],
    )
    values = dict(word.split("=", 1) for word in one_line.rpartition("ENV ")[2].split() if "=" in word)
    yield from differs("ENV", values, ENVIRONMENT)
    yield from differs("the last step: nothing runs as root, and it", code.split()[-2:], ["USER", "ray"])


ENVIRONMENT = {
    "HOME": "/home/ray",  # `ray up` reads it from the image
    "HF_HOME": "/scratch/hf",
    "HF_TOKEN_PATH": "/home/ray/.cache/huggingface/token",
    "STJ_CACHE": "/scratch/stj",
    "TMPDIR": "/scratch/tmp",
    "XDG_CACHE_HOME": "/scratch/cache",
    "TRITON_CACHE_DIR": "/scratch/cache/triton",
    "FLASHINFER_WORKSPACE_BASE": "/scratch/cache",
    "CUDA_HOME": "/usr/local/lib/python3.11/site-packages/nvidia/cu13",  # where the wheel of nvcc is
    "LC_ALL": "C.UTF-8",
}


def pinned(package: str) -> str:
    """The version of a package in requirements/gpu.txt."""
    lines = (ROOT / "requirements" / "gpu.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{package}==")).split("==")[1].split()[0]


def makefile_uv() -> str:
    """The version of uv that the Makefile installs."""
    found = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1]


RULES: dict[str, Callable[[str], Faults]] = {
    "Dockerfile": dockerfile,
    "aws.yaml": aws,
    "aws-head-policy.json": aws_policy,
    "gcp.yaml": gcp,
    "kuberay.yaml": kuberay,
    "sky.yaml": sky,
}
