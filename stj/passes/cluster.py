"""The check of a Ray cluster before a run: its machines against what the run asks, and the links between them."""

from collections.abc import Sequence
from functools import partial

import ray

from stj.config import RayConfig
from stj.errors import CapacityError
from stj.findings import Finding, look
from stj.machine.needs import MachineNeeds
from stj.machine.packages import expected_packages
from stj.passes.link import link_findings
from stj.passes.node_check import node_findings
from stj.passes.session import Demand, joined_cluster, refuse_impossible


def cluster_findings(config: RayConfig, demands: Sequence[Demand], *, linked: bool) -> list[Finding]:
    """Findings on the cluster that the config names; one that says so if none answers from this machine.

    `linked` also checks the links between machines with GPUs.
    """
    try:
        with joined_cluster(config):
            findings = [look("ray.address", _machines)]
            findings += [look(demand.setting, partial(_check_demand, demand)) for demand in demands]
            needs = MachineNeeds(packages=expected_packages(), gpu=any(demand.gpus for demand in demands))
            return findings + node_findings(needs) + (link_findings("gpu") if linked else [])
    except CapacityError as error:  # A config may be meant for a cluster that only the job's own machine reaches.
        return [Finding(subject="ray.address", words=f"the cluster is not checked from here: {error}")]


def _machines() -> str:
    resources = ray.cluster_resources()
    machines = sum(bool(node["Alive"]) for node in ray.nodes())
    return f"{machines} machines with {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"


def _check_demand(demand: Demand) -> str:
    refuse_impossible(demand)
    return ", ".join(f"{amount:g} {name}s" for name, amount in demand.total.items() if amount) + " fit in the cluster"
