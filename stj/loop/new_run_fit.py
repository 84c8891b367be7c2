"""Settings by which a new run fits its machine: GPUs of an engine, how the seed is trained, and lengths of texts."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stj.config import ModelConfig
from stj.errors import StjError
from stj.machine.gpus import gpus_here
from stj.models.config_json import context_of
from stj.models.hub import is_hub_id
from stj.models.locate import model_folder
from stj.models.shapes import Shape, shape_of

_GPU_GB = 80
"""Memory of a GPU that is not here, if nobody names another: an H100's or A100's."""
_TOKENS_A_STEP = 65_536
"""Tokens of a step, as in conf/small.yaml: several dozen judgments, so that single ones do not steer it."""
_CONTEXT = 8192
_NO_HUB = "its config.json was not seen, as the hub did not deliver it"
_SMALL = 100_000_000
"""Parameters below which a model learns with the learning rate of the small world."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine for a new run."""

    gpus: int
    gpu_memory_gb: float
    host_memory_gb: float
    cpus: int
    seen: bool
    """Whether it is this machine; if not, its memory is assumed."""

    @property
    def name(self) -> str:
        """The machine in words."""
        return f"{self.gpus} x GPU {self.gpu_memory_gb:g} GB" if self.gpus else f"{self.cpus} CPU cores"


@dataclass(frozen=True, kw_only=True)
class ModelSeen:
    """What a model's config.json says, if it could be read."""

    path: str
    shape: Shape | None
    context: int | None
    not_seen: str = ""
    """Why it could not be read, in words."""

    @property
    def max_model_len(self) -> int:
        """The context of an engine."""
        return min(_CONTEXT, self.context or _CONTEXT)


def machine_for(gpus: int | None, gpu_memory_gb: float | None) -> Machine:
    """The machine with this many GPUs: this one, if it has them, or else one with the memory of a usual machine."""
    here = gpus_here()
    count = len(here.names) if here else 0
    cpus, host = len(os.sched_getaffinity(0)), _memory_gb()
    if gpus is None or gpus <= count or gpus == 0:
        wanted = count if gpus is None else gpus
        memory = gpu_memory_gb or (here.memory_gb if here else _GPU_GB)
        return Machine(gpus=wanted, gpu_memory_gb=round(memory), host_memory_gb=host, cpus=cpus, seen=True)
    usual = 170 if gpus == 1 else min(1800, 225 * gpus)
    return Machine(gpus=gpus, gpu_memory_gb=gpu_memory_gb or _GPU_GB, host_memory_gb=usual, cpus=12 * gpus, seen=False)


def look_at_model(path: str) -> ModelSeen:
    """A model's shape and context, from its directory or, if the hub answers, from there.

    Raises ModelError if a directory is missing or holds no model.
    """
    model = ModelConfig(path=path)
    try:
        context = context_of(model)
        folder = model_folder(path).local
        shape = shape_of(model) or (shape_of(ModelConfig(path=str(folder))) if folder else None)
    except StjError:
        if not is_hub_id(path):
            raise
        return ModelSeen(path=path, shape=shape_of(model), context=None, not_seen=_NO_HUB)
    return ModelSeen(path=path, shape=shape, context=context)


def text_lengths(context: int) -> dict[str, Any]:
    """Most tokens of each text that models write, so that a judge's prompt has room; nothing for a long context."""
    if context >= _CONTEXT:
        return {}
    eighth = context // 8
    judgment = {"decoding": {"max_tokens": 2 * eighth}}
    return {
        "pairs": {"answer": {"max_tokens": eighth}, "rejected": {"max_tokens": 2 * eighth}},
        "judge": judgment,
        "heldout": judgment,
    }


def engines(model: ModelSeen, machine: Machine) -> Iterator[tuple[int, dict[str, Any]]]:
    """Ways to serve a model, the cheapest first: the GPUs of an engine, and the settings of the pool."""
    if machine.gpus == 0:
        replicas = max(1, min(2, machine.cpus))
        for gib in (0.5, 1.0, 2.0, 4.0):
            cpu = {"device": "cpu", "min_replicas": replicas, "max_replicas": replicas, "kv_cache_gib": gib}
            yield 1, {**cpu, "enforce_eager": True, "rows_in_flight": 128}
        return
    for shared in (1, 2, 4, 8):
        if shared <= machine.gpus and (model.shape is None or model.shape.heads % shared == 0):
            yield shared, {"max_replicas": machine.gpus // shared}


def trainings(model: ModelSeen, machine: Machine) -> Iterator[dict[str, Any]]:
    """Ways to train a seed, the paper's first: all weights, with the optimizer in host memory, and adapters."""
    longest = min(4096, model.max_model_len)
    if machine.gpus == 0:
        workers = max(1, min(2, machine.cpus))
        small = model.shape is not None and model.shape.parameters < _SMALL
        cpu = {"device": "cpu", "workers": workers, "max_seq_len": longest, "max_num_tokens": longest}
        own = {"lr": 5e-4, "warmup_steps": 5, "max_epochs": 1} if small else {"warmup_steps": 5}
        preference = {"preference": {"max_seq_len": longest // 2}}
        yield {**cpu, **own, **preference, "activation_checkpointing": not small}
        return
    for way in ({}, {"offload": "optimizer"}, {"lora": {"rank": 16}, "lr": 1e-4}):
        for tokens in (16_384, 8192, longest):
            if tokens > longest and tokens * machine.gpus > _TOKENS_A_STEP:
                continue
            steps = max(1, _TOKENS_A_STEP // (tokens * machine.gpus))
            yield {
                "workers": machine.gpus,
                **way,
                "max_seq_len": longest,
                "max_num_tokens": max(tokens, longest),
                "gradient_accumulation": steps,
                "warmup_steps": 5,
                "checkpoint_every_steps": 25,
            }


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
