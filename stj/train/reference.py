"""Log-probabilities of judgments under the weights that training begins from: computed once, and kept on disk.

A preference loss needs two numbers a pair from the reference model. A second copy of the model beside the one in training would
hold 141 GB more for a 70B, and run a forward pass in every step. Here the weights themselves compute them, before their first
update.

    reference/HASH.json    the results of some rounds of all ranks: {key of a text: its log-probability}

A text's key is a hash of the weights, the tokenizer, its token ids and the position of its judgment.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from stj.storage.folder import Folder
from stj.train.data import ExampleTokens, nothing_to_learn
from stj.train.losses import text_logps
from stj.train.packing import micro_batches, pack
from stj.train.ranks import gathered
from stj.train_config import TrainConfig

log = logging.getLogger(__name__)

MicroBatch = tuple[int, ...]


def reference_logps(
    engine: deepspeed.DeepSpeedEngine, tokens: Sequence[ExampleTokens], config: TrainConfig, folder: Folder, identity: str
) -> tuple[Tensor, int]:
    """Log-probabilities (examples, texts) in fp32 on the host, the same on all ranks, and the number of forwards they took.

    `identity` names the engine's weights and tokenizer. What the folder holds already is not computed again; a call after a
    kill repeats the rounds since the last commit. All ranks must call it.
    """
    keys = [[_key(identity, row, text) for text in row.texts] for row in tokens]
    known = _read(folder)
    rows = micro_batches([row.id for row in tokens], [row.length for row in tokens], config.max_num_tokens, config.seed, 0)
    # Whole micro-batches, as without a cache: a text's numbers never depend on when a run was killed.
    missing = [row for row in rows if any(key not in known for index in row for key in keys[index])]
    rounds = _groups(missing, dist.get_world_size())
    engine.eval()  # without dropout, in models that have it: its noise would be kept with the numbers
    for commit in _groups(rounds, config.checkpoint_every_steps):
        logps = [_run_round(engine, tokens, keys, batches) for batches in commit]
        known |= _commit({key: value for of_round in logps for key, value in of_round.items()}, folder)
    engine.train()
    dist.barrier()
    return torch.tensor([[known[key] for key in of_row] for of_row in keys]), len(missing)


def tokenizer_identity(directory: Path) -> str:
    """A hash of a model directory's tokenizer."""
    files = sorted(directory.glob("tokenizer*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _run_round(
    engine: deepspeed.DeepSpeedEngine,
    tokens: Sequence[ExampleTokens],
    keys: Sequence[Sequence[str]],
    batches: Sequence[MicroBatch],
) -> dict[str, float]:
    """One forward pass on each rank, on two tokens if the round has no batch for it; returns the results of all ranks."""
    rank = dist.get_rank()
    batch = batches[rank] if rank < len(batches) else ()
    packed = pack([tokens[index] for index in batch] or [nothing_to_learn(tokens)])
    with torch.no_grad():
        sums = text_logps(engine(**packed.on(engine.device)), packed.counts).tolist()
    logps = dict(zip([key for index in batch for key in keys[index]], sums, strict=False))
    return {key: value for of_rank in gathered(logps) for key, value in of_rank.items()}


def _key(identity: str, row: ExampleTokens, text: NDArray[Any]) -> str:
    return hashlib.sha256(f"{identity}\0{row.prompt_length}\0".encode() + text.tobytes()).hexdigest()


def _read(folder: Folder) -> dict[str, float]:
    """What is known already, as rank 0 sees it: ranks that knew different things would wait for each other forever."""
    known: list[dict[str, float]] = [{}]
    if dist.get_rank() == 0:
        for name in folder.names():
            written = folder.read(name)
            if name == _name(written):
                known[0] |= json.loads(written)
            else:
                log.warning("%s: damaged: its numbers are computed again", (folder / name).uri)
    dist.broadcast_object_list(known)
    return known[0]


def _commit(logps: dict[str, float], folder: Folder) -> dict[str, float]:
    if dist.get_rank() == 0:
        written = json.dumps(logps).encode()
        folder.write(_name(written), written)
    return logps


def _name(written: bytes) -> str:
    return f"{hashlib.sha256(written).hexdigest()[:32]}.json"


def _groups(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
