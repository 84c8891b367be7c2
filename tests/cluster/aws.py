"""Rules for cluster/aws.yaml and cluster/aws-head-policy.json."""

from collections.abc import Mapping
from typing import Any

from tests.cluster.ray_up import docker_options, played, ray_accepts, ray_up, scratch
from tests.cluster.reading import GPU_TYPES, Faults, differs, efa_versions, old_drivers, read, read_json, says

_DISK = "/opt/dlami/nvme"  # AWS's deep learning images mount it

_HEADER = (
    '"Deep Learning Base AMI with Single CUDA (Ubuntu 22.04)" of 2026-01-02 or later.',
    "--name /aws/service/deeplearning/ami/x86_64/base-with-single-cuda-ubuntu-22.04/latest/ami-id\n",
    "one security group, which allows all traffic to and from itself",  # EFA is no TCP
    "create-placement-group --group-name YOUR-PLACEMENT-GROUP --strategy cluster\n",
)


def aws(text: str) -> Faults:
    """cluster/aws.yaml."""
    yield from ray_up(text)
    content = read(text)
    types = content["available_node_types"]
    head, gpu, spot = (types[name]["node_config"] for name in ("head", *GPU_TYPES))
    yield from old_drivers(text)
    yield from efa_versions(text)
    yield from _provider(content["provider"])
    yield from says(text, *_HEADER)
    yield from differs("ImageId", {config["ImageId"] for config in (head, gpu, spot)}, {"ami-YOUR-IMAGE"})
    yield from differs("the head's profile", head["IamInstanceProfile"], {"Name": "YOUR-HEAD-PROFILE"})
    yield from differs("the GPU machines' profile", gpu["IamInstanceProfile"], {"Name": "YOUR-GPU-PROFILE"})
    yield from differs("Placement: EFA works inside one group, and it", gpu["Placement"], {"GroupName": "YOUR-PLACEMENT-GROUP"})
    yield from differs("the market of on-demand machines", gpu.get("InstanceMarketOptions"), None)
    yield from differs("the market of spot machines", spot["InstanceMarketOptions"], {"MarketType": "spot"})
    yield from differs("the head's placement and market", set(head) & {"Placement", "InstanceMarketOptions"}, set())
    options = docker_options(content["docker"]["worker_run_options"])
    yield from differs("devices: without EFA's NCCL uses sockets; they", options["device"], ["/dev/infiniband"])
    yield from differs("variables: without EFA's NCCL uses sockets; they", options["env"], ["FI_PROVIDER=efa"])
    yield from scratch(content, _DISK)
    check = types["gpu-spot"]["initialization_commands"][0]
    yield from differs("a machine without its NVMe disk", played(check, mounted=False), (1, [f"mountpoint -q {_DISK}"]))
    for config in (head, gpu):
        yield from _system_disk(config["BlockDeviceMappings"])
    yield from _efa(head["NetworkInterfaces"], gpu["NetworkInterfaces"])
    yield from ray_accepts(content)


def _provider(provider: Mapping[str, Any]) -> Faults:
    keys = {"type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "use_external_head_ip"}
    yield from differs("the provider", (provider["type"], set(provider)), ("aws", keys))
    yield from differs("use_internal_ips: without it Ray refuses private subnets, and it", provider["use_internal_ips"], True)
    yield from differs("use_external_head_ip: `ray up` reaches only that, and it", provider["use_external_head_ip"], True)


def _system_disk(disks: list[dict[str, Any]]) -> Faults:
    (disk,) = disks
    yield from differs(
        "the system's disk",
        (disk["DeviceName"], disk["Ebs"]["VolumeType"], set(disk), set(disk["Ebs"])),
        ("/dev/sda1", "gp3", {"DeviceName", "Ebs"}, {"VolumeSize", "VolumeType", "Throughput"}),
    )
    if disk["Ebs"]["VolumeSize"] < 200 or not 125 <= disk["Ebs"]["Throughput"] <= 1000:
        yield "the system's disk is too small for the image, or its throughput is none that gp3 has"


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
    policy = read_json(text)
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    yield from differs("Version", policy["Version"], "2012-10-17")
    yield from differs("the keys", (set(policy), len(policy["Statement"])), ({"Version", "Statement"}, 4))
    names = {"StartAndStopMachines", "GiveGpuMachinesTheirRole", "ListRuns", "ReadAndWriteRuns"}
    yield from differs("the statements", set(statements), names)
    yield from differs("their effects", {statement["Effect"] for statement in statements.values()}, {"Allow"})
    for name, statement in statements.items():
        keys = {"Sid", "Effect", "Action", "Resource"} | ({"Condition"} if name == "GiveGpuMachinesTheirRole" else set())
        yield from differs(f"the keys of {name}", set(statement), keys)
    machines, role = statements["StartAndStopMachines"], statements["GiveGpuMachinesTheirRole"]
    listing, files = statements["ListRuns"], statements["ReadAndWriteRuns"]
    actions = {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "ec2:Describe*"}
    yield from differs("what the head does with machines", (set(machines["Action"]), machines["Resource"]), (actions, "*"))
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
