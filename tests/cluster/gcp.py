"""Rules for cluster/gcp.yaml."""

import re
from collections.abc import Mapping
from typing import Any

from tests.cluster.ray_up import docker_options, played, ray_accepts, ray_up, scratch
from tests.cluster.reading import GPU_TYPES, Faults, differs, old_drivers, read

_IMAGE = "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"


def gcp(text: str) -> Faults:
    """cluster/gcp.yaml."""
    yield from ray_up(text)
    yield from _gcp(read(text))
    yield from old_drivers(text)
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
    yield from scratch(content, "/mnt/nvme")
    options = docker_options(content["docker"]["worker_run_options"])
    yield from differs("devices and variables", (options["device"], options["env"]), ([], []))
    yield from _local_disks(types["gpu-spot"]["initialization_commands"][0])
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
        yield from differs(f"the image of {name}", made_from["sourceImage"], _IMAGE)
    stays = {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    yield from differs("scheduling", types["gpu-on-demand"]["node_config"]["scheduling"], stays)
    spot = {**stays, "provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}
    yield from differs("scheduling of spot", types["gpu-spot"]["node_config"]["scheduling"], spot)
    yield from differs("scheduling of the head", types["head"]["node_config"].get("scheduling"), None)


def _local_disks(command: str) -> Faults:
    """The sixteen local SSDs become one disk, unless that is done; what fails ends the start of the machine."""
    calls = [
        "mountpoint -q /mnt/nvme",
        "mdadm --create /dev/md0 --level=0 --force --run --raid-devices=16 /dev/disk/by-id/google-local-nvme-ssd-*",
        "mkfs.ext4 -q -E nodiscard /dev/md0",
        "mkdir -p /mnt/nvme",
        "mount -o noatime /dev/md0 /mnt/nvme",
    ]
    yield from differs("a machine with new local SSDs", played(command, mounted=False), (0, calls))
    for count, call in enumerate(calls[1:], 2):
        code, done = played(command, mounted=False, failing=call.split()[0])
        yield from differs(f"a machine on which {call} fails", (code != 0, done), (True, calls[:count]))


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
