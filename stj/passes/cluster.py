"""The check of a Ray cluster before a run: its machines against what the run asks, and the links between them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from stj.cluster_config import RayConfig
from stj.errors import CapacityError, ConfigError, StjError
from stj.findings import Finding, look
from stj.machine.needs import MachineNeeds
from stj.machine.packages import expected_packages
from stj.machine.place import seen_from_here
from stj.passes.demand import Demand, amounts
from stj.passes.link import link_findings
from stj.passes.machines import Machines
from stj.passes.node_check import node_findings
from stj.passes.session import joined_cluster, joined_machines


def cluster_findings(
    config: RayConfig, demands: Sequence[Demand], linked_at: Mapping[str, str] | None, run_root: str
) -> list[Finding]:
    """Findings on the cluster that the config names; one that says so if none answers from this machine.

    Also checks the links between machines with GPUs at the place `linked_at`, unless that is None, and whether every machine
    sees `run_root`.
    """
    try:
        with joined_cluster(config):
            machines = joined_machines(config)
            findings = [Finding(subject="ray.address", words=machines.words())]
            findings += [look(demand.setting, partial(_check_demand, machines, demand)) for demand in demands]
            needs = MachineNeeds(packages=expected_packages(), gpu=any(demand.gpus for demand in demands))
            links = [] if linked_at is None else link_findings("gpu", linked_at)
            return findings + _node_findings(needs, run_root) + links
    except ConfigError as error:  # It wants a token.
        return [Finding(subject="ray.address", words=str(error), error=error)]
    except CapacityError as error:  # A config may be meant for a cluster that only the job's own machine reaches.
        return [Finding(subject="ray.address", words=f"the cluster is not checked from here: {error}")]


def _node_findings(needs: MachineNeeds, run_root: str) -> list[Finding]:
    try:
        with seen_from_here(run_root) as place:
            return node_findings(replace(needs, place=place))
    except (StjError, OSError):  # The check of run_root on this machine says why.
        return node_findings(needs)


def _check_demand(machines: Machines, demand: Demand) -> str:
    machines.refuse_impossible(demand)
    asked = f"{demand.bundles} {demand.noun} with {amounts(demand.total) or 'no CPU'}"
    if machines.room(demand) is None:
        return f"{asked}: whether the cluster can hold them is not known"
    later = machines.room_now(demand) < demand.bundles
    return f"{asked} fit in the cluster{', once it has grown' if later else ''}"
