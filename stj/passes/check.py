"""The check before a pass: its models, their prompts, the place of its rows, and GPUs. It needs neither Ray nor an engine."""

import time
from collections.abc import Mapping, Sequence
from functools import partial

from stj.cluster_config import RayConfig
from stj.config import check_run_root, in_ray_job
from stj.findings import Finding, joined, look
from stj.machine.driver import torch_cuda
from stj.machine.gpus import Gpus, gpus_here
from stj.models.check import ModelUse, check_model_use, look_at
from stj.models.fetch import check_cache, tokenizer_directory
from stj.models.locate import whole_model
from stj.models.tokenizer import load_tokenizer
from stj.plan.context import LongestRequest, check_requests
from stj.plan.gpus import check_gpus
from stj.storage.probe import probe
from stj.use_config import UseConfig

_FREED_S = 10.0  # Engines of a run that was killed end within seconds.


def on_this_machine(ray: RayConfig) -> bool:
    """Whether engines and ranks will run on this machine; of a cluster's other machines the driver knows nothing."""
    return ray.address == "local" and not in_ray_job()


def model_findings(use: ModelUse, requests: Sequence[LongestRequest], ray: RayConfig) -> list[Finding]:
    """The refusals of one model, or one finding with its facts; prompts are counted only if the tokenizer is good."""
    findings = check_model_use(use)
    if not use.model.endpoint and all(finding.ok for finding in findings):
        findings.append(look_at(use, partial(_check_prompts, requests=requests)))
        if on_this_machine(ray):
            findings.append(look(use.subject, lambda: check_cache(whole_model(use.model))))
    return joined(use.subject, findings)


def gpu_findings(needs: Mapping[str, int], ray: RayConfig) -> list[Finding]:
    """The finding on this machine's GPUs; none if it needs no GPU, or if a cluster has them.

    `needs` holds the number of GPUs that each setting asks for.
    """
    if not any(needs.values()) or not on_this_machine(ray):
        return []
    return [look("GPUs", lambda: check_gpus(_freed_gpus(max(needs.values())), torch_cuda(), needs))]


def _freed_gpus(needed: int) -> Gpus | None:
    """This machine's GPUs. If others use too many of them, it looks again for some seconds."""
    deadline = time.monotonic() + _FREED_S
    while (gpus := gpus_here()) and 0 < needed - (len(gpus.names) - gpus.busy) <= gpus.busy and time.monotonic() < deadline:
        time.sleep(1)
    return gpus


def judge_findings(
    uses: Sequence[ModelUse], requests: Sequence[LongestRequest], run_root: str | None, config: UseConfig
) -> list[Finding]:
    """The findings on judges in use, with what they are asked; `run_root` is where rows go, None if they go nowhere."""
    findings = [finding for use in uses for finding in model_findings(use, requests, config.ray)]
    if run_root is not None:
        findings.append(look("run_root", partial(check_place, run_root)))
    engines = config.engine.min_replicas if config.engine.device == "gpu" else 0
    return findings + gpu_findings({"model": max(use.model.gpus for use in uses) * engines}, config.ray)


def check_place(run_root: str) -> str:
    """Facts on the place of a run. Raises ConfigError if it cannot be written."""
    check_run_root(run_root)
    probe(run_root, "run_root")
    return f"{run_root}: can be written"


def _check_prompts(use: ModelUse, requests: Sequence[LongestRequest]) -> str:
    tokenizer = load_tokenizer(tokenizer_directory(use.model), use.model.path)
    return check_requests(requests, use.model, use.roles, tokenizer)
