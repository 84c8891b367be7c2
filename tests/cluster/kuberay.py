"""Rules for cluster/kuberay.yaml."""

import re
from collections.abc import Mapping
from typing import Any

from stj.cluster_config import RayConfig
from tests.cluster.reading import (
    GPU_TYPES,
    ON_DEMAND,
    SCRATCH,
    SPOT,
    STOP_NOTICE_S,
    Faults,
    commands,
    differs,
    efa_versions,
    old_drivers,
    pinned,
    read,
    run_config,
    says,
)

_POD_KEYS = {
    *("restartPolicy", "serviceAccountName", "terminationGracePeriodSeconds", "affinity", "tolerations"),
    *("containers", "initContainers", "volumes"),
}

_HEADER = (
    "kubectl create secret generic hugging-face --from-literal=token=...",
    "GKE: --accelerator=...,gpu-driver-version=latest.",  # the default is older
    "GKE: --ephemeral-storage-local-ssd=count=16. EKS: instanceStorePolicy: RAID0.",
)


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
    yield from old_drivers(text)
    yield from efa_versions(text)
    yield from says(text, *_HEADER)
    (command,) = commands(spec["entrypoint"])
    config = run_config(command)
    run = (config.run_root, config.train.workers, config.train.place, config.engine.place)
    yield from differs("the run, its ranks and their place", run, ("s3://YOUR-BUCKET/paper", 32, ON_DEMAND, {}))
    yield from differs("the config, which is in the image", command[2], "/home/ray/stj/conf/paper.yaml")
    yield from differs("metadata", job["metadata"], {"name": "stj-paper"})
    keys = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"}
    yield from differs("the job's keys", set(spec), keys)
    yield from differs("shutdownAfterJobFinishes", spec["shutdownAfterJobFinishes"], True)
    yield from differs("how often the job is tried again", spec["backoffLimit"], 5)
    yield from differs("the seconds that its cluster stays", spec["ttlSecondsAfterFinished"], 600)
    yield from differs("rayVersion", cluster["rayVersion"], pinned("ray"))
    yield from differs("authOptions", cluster["authOptions"], {"mode": "token"})
    yield from differs("enableInTreeAutoscaling", cluster["enableInTreeAutoscaling"], True)
    yield from _autoscaler(cluster["autoscalerOptions"])
    keys = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
    yield from differs("the cluster's keys", set(cluster), keys)
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    yield from differs("the head", head["rayStartParams"], {"num-cpus": "0"})
    resources = head["template"]["spec"]["containers"][0]["resources"]["limits"]
    yield from differs("its resources", resources, {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "50Gi"})
    yield from differs("the groups", [group["groupName"] for group in groups], list(GPU_TYPES))
    for group in (head, *groups):
        yield from _pod(group["template"]["spec"])
    yield from _groups(*groups)
    yield from _commented_lines_of_pods(text)


def _autoscaler(options: Mapping[str, Any]) -> Faults:
    """A pod that waits counts as out of stock after longer than a start takes, and before a run gives up."""
    yield from differs("the autoscaler's keys", set(options), {"version", "idleTimeoutSeconds", "env"})
    yield from differs("the autoscaler: only v2 reads labels, and it", options["version"], "v2")
    yield from differs("the seconds that idle pods stay", options["idleTimeoutSeconds"], 600)
    (variable,) = options["env"]
    yield from differs("its variable", variable["name"], "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S")
    if not 600 <= int(variable["value"]) < RayConfig().capacity_deadline_s:
        yield "a pod that starts is taken away, or the run ends before the other group is asked"


def _pod(pod: Mapping[str, Any]) -> Faults:
    yield from differs("restartPolicy, which the autoscaler wants,", pod["restartPolicy"], "Never")
    yield from differs("serviceAccountName", pod["serviceAccountName"], "stj")
    (container,) = pod["containers"]
    if unknown := set(pod) - _POD_KEYS:
        yield f"a pod has unknown keys: {sorted(unknown)}"
    names = [made["name"] for made in (container, *pod.get("initContainers", []))]
    if not all(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) for name in names) or len({*names}) < len(names):
        yield f"Kubernetes refuses the names {names}"
    values = sorted((variable["name"], variable.get("value", "")) for variable in container["env"])
    notices = [(name, str(STOP_NOTICE_S)) for name in ("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "RAY_JOB_STOP_WAIT_TIME_S")]
    yield from differs("env", values, [("HF_TOKEN", ""), *notices])
    secret = {"secretKeyRef": {"name": "hugging-face", "key": "token", "optional": True}}
    yield from differs(
        "the token", [variable["valueFrom"] for variable in container["env"] if "valueFrom" in variable], [secret]
    )
    yield from differs("terminationGracePeriodSeconds", pod["terminationGracePeriodSeconds"], STOP_NOTICE_S + 30)
    for made in (container, *pod.get("initContainers", [])):
        yield from differs("the image", (made["image"], made["imagePullPolicy"]), ("YOUR-IMAGE", "Always"))
    yield from differs("requests", container["resources"]["requests"], container["resources"]["limits"])


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
    (container,) = pod["containers"]
    yield from differs("IPC_LOCK", container["securityContext"], {"capabilities": {"add": ["IPC_LOCK"]}})
    yield from differs(
        "tolerations", pod["tolerations"], [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    resources = {"cpu": "160", "memory": "1500Gi", "nvidia.com/gpu": "8", "ephemeral-storage": "2500Gi"}
    yield from differs("what a machine of eight H100 gives a pod", container["resources"]["limits"], resources)
    mounts = {(mount["name"], mount["mountPath"], mount.get("subPath")) for mount in container["volumeMounts"]}
    yield from differs(
        "the mounts",
        mounts,
        {("shared-memory", "/dev/shm", None), ("scratch", "/scratch", None), ("scratch", "/tmp/ray", "ray")},
    )
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    needed = {"shared-memory": {"medium": "Memory", "sizeLimit": "200Gi"}, "scratch": {"sizeLimit": "2400Gi"}}
    yield from differs("the volumes", volumes, needed)
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
        interfaces = {"default-interface": "eth0", "interfaces": "YOUR-INTERFACES"}
        needed = {f"networking.gke.io/{name}": value for name, value in interfaces.items()}
        yield from differs("TCPX's annotations", annotations, needed)
