"""Whether the machines of a cluster can do their part of a run: one line for each fault, before hours are spent.

A machine that joins later is checked when an engine or a rank starts there.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError, RuntimeEnvSetupError

from stj.cluster_config import RayConfig
from stj.errors import CheckFailed
from stj.findings import Finding, look, require
from stj.machine.needs import MachineNeeds, Need, machine_words
from stj.machine.packages import expected_packages
from stj.machine.place import shared
from stj.passes.check import on_this_machine
from stj.passes.nodes import end_tasks, live_nodes, task_on
from stj.storage.folder import Folder

_ANSWER_S = 60.0  # Ray starts a worker on each machine; one that is too busy is checked when its engine starts.


@contextmanager
def checked_nodes(config: RayConfig, folder: Folder | None, *, gpu: bool, room: Need | None = None) -> Iterator[None]:
    """Checks all machines of the cluster, if there is one; while the block runs, those that join later find the mark too.

    `folder` is what they must see, None if only the driver works in the run's directory. `gpu` has their drivers checked, and
    `room` the disks of those with GPUs, or of all if no machine needs one.

    Raises CheckFailed with a line for each fault.
    """
    if on_this_machine(config) or not ray.is_initialized():
        yield
        return
    with shared(folder) if folder else nullcontext() as place:
        require(node_findings(MachineNeeds(packages=expected_packages(), place=place, gpu=gpu, room=room)))
        yield


def node_findings(needs: MachineNeeds, answer_s: float = _ANSWER_S) -> list[Finding]:
    """The findings on all machines of the cluster that this process has joined: one with the facts, or one for each fault.

    The driver is looked for only where there are GPUs. `answer_s` is the longest wait in seconds.
    """
    nodes = [node for node in live_nodes() if any(node["Resources"].get(name) for name in ("CPU", "GPU"))]
    answers = _ask(nodes, needs, answer_s)
    faults: defaultdict[str, list[str]] = defaultdict(list)
    for node, answer in zip(nodes, answers, strict=True):
        if answer:
            faults[answer].append(node["NodeManagerAddress"])
    if faults:
        return [look("machines", partial(_refuse, fault, machines)) for fault, machines in faults.items()]
    return [Finding(subject="machines", words=_ready_words(answers.count(""), answers.count(None)))]


def _ready_words(ready: int, late: int) -> str:
    asked = "asked when an engine or rank starts there"
    fit = "1 machine has what the run needs" if ready == 1 else f"{ready} machines have what the run needs"
    if not late:
        return fit if ready else f"no machine is there yet: each is {asked}"
    machines = "" if ready else " machine" if late == 1 else " machines"
    waiting = f"{late}{machines} {'has' if late == 1 else 'have'} not answered, and {'is' if late == 1 else 'are'} {asked}"
    return f"{fit}; {waiting}" if ready else waiting


def refuse_unfit_node(needs: MachineNeeds) -> None:
    """Raises CheckFailed if this process's machine lacks what the run needs."""
    if fault := needs.fault():
        _refuse(fault, [ray.util.get_node_ip_address()])


def _refuse(fault: str, machines: Sequence[str]) -> str:
    raise CheckFailed(f"{machine_words(machines)}: {fault}")


def _ask(nodes: Sequence[dict[str, Any]], needs: MachineNeeds, answer_s: float) -> list[str | None]:
    """The fault of each machine; empty if it has none, and None if it does not answer now."""
    tasks = [_on(node, needs) for node in nodes]
    ray.wait(tasks, num_returns=len(tasks), timeout=answer_s)
    try:
        return [_answer(task) for task in tasks]
    finally:
        end_tasks(tasks)


def _on(node: dict[str, Any], needs: MachineNeeds) -> Any:
    here = needs if node["Resources"].get("GPU") else needs.without_gpu()
    return task_on(node, _fault, retries=2).remote(here)


def _fault(needs: MachineNeeds) -> str:
    return needs.fault() or ""


def _answer(task: Any) -> str | None:
    try:
        fault: str = ray.get(task, timeout=0)
        return fault
    except (RayTaskError, RuntimeEnvSetupError) as error:
        cause = str(error).strip().splitlines()[-1]
        return f"stj does not run there ({cause}): install requirements/gpu.txt and stj, or start it from the run's image"
    except (GetTimeoutError, RayError):  # busy, or lost meanwhile: no fault of what is installed
        return None
