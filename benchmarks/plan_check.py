"""The plan's memory of a training rank against two real ranks: ZeRO-3, gloo, on a CPU.

    python benchmarks/plan_check.py [48M] [48M-bf16] [75M] [100M] [100M-lora]    about eight minutes for all on two CPU cores

Each rank loads a random Llama, makes two steps of full micro-batches, and exports, with the code of `stj run`. `-lora` trains
adapters of rank 64. `-bf16` sets train.gradient_dtype=bf16, and each rank counts as a machine. A rank's memory is the peak of
its resident set beyond a baseline. The baseline is taken after the imports and one step of a tiny model, which imports the
rest.

Writes benchmarks/results/plan.json. For each size it holds the plan's GB, both ranks' GB by phase, and `over_plan`, which is
measured over planned.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from ranks import RANKS, as_rank, forget_peak, is_rank, on_ranks, peak, shared_folder

RESULT = Path(__file__).parent / "results" / "plan.json"
TINY = {"layers": 1, "hidden": 64, "vocabulary": 512}
SIZES = {
    "48M": {"layers": 12, "hidden": 512, "vocabulary": 8192},
    "48M-bf16": {"layers": 12, "hidden": 512, "vocabulary": 8192},
    "75M": {"layers": 4, "hidden": 1024, "vocabulary": 8192},
    "100M": {"layers": 6, "hidden": 1024, "vocabulary": 8192},
    "100M-lora": {"layers": 6, "hidden": 1024, "vocabulary": 8192},
}
TOKENS = 256


def measure(size: str) -> dict[str, Any]:
    """The plan's and the measured memory of a rank, in GB."""
    results = on_ranks(__file__, size=size)
    planned, ranks = results[0]["planned"], [result["measured"] for result in results]
    most = max(max(phases.values()) for phases in ranks)
    return {"over_plan": most / planned["rank_gb"], "planned": planned, "measured": ranks}


def rank(size: str) -> dict[str, Any]:
    """The plan's GB of one rank, and the measured peaks of its phases."""
    from dataclasses import asdict

    from random_llama import random_llama

    from stj.cluster_config import HardwareConfig
    from stj.config import Config, ModelConfig
    from stj.models.shapes import shape_of
    from stj.plan.training import training_plan

    with tempfile.TemporaryDirectory(prefix="stj-benchmark-") as folder:
        config, machines = _config(size), size.endswith("-bf16")
        if machines:
            os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        _phases(random_llama(Path(folder) / "tiny", **TINY), config)
        seed = random_llama(Path(folder) / "seed", **SIZES[size])
        shape = shape_of(ModelConfig(path=str(seed)))
        assert shape
        planned = training_plan(shape, Config(train=config, hardware=HardwareConfig(gpus=1 if machines else RANKS)))
        measured = {phase: round(size / 1e9, 3) for phase, size in _phases(seed, config).items()}
    return {"planned": {**asdict(planned), "rank_gb": planned.rank_gb}, "measured": measured}


def _phases(seed: Path, config: Any) -> dict[str, int]:
    """Peak bytes of each phase, beyond the bytes that the process holds now."""
    import deepspeed
    import numpy as np

    from stj.storage.folder import Folder
    from stj.train.data import ExampleTokens
    from stj.train.export import export_model
    from stj.train.model import load_engine
    from stj.train.packing import PackedStep
    from stj.train.step import StepInputs, train_step

    texts = np.random.default_rng(0).integers(0, 512, (4 * RANKS, TOKENS // 4), dtype=np.int32)
    examples = [ExampleTokens(id=str(i), texts=(text,), prompt_length=TOKENS // 8) for i, text in enumerate(texts)]
    step = PackedStep(epoch=0, micro_batches=(tuple(range(4)), tuple(range(4, 8))))
    peaks: dict[str, int] = {}
    before = forget_peak()

    def ended(phase: str) -> None:
        peaks[phase] = max(peaks.get(phase, 0), peak() - before)
        forget_peak()

    engine = load_engine(seed, config)
    ended("load")
    update = engine.step

    def noted_update() -> None:
        ended("forward and backward")
        update()
        ended("update")

    engine.step = noted_update
    for number in range(2):
        train_step(engine, StepInputs(examples, None, config), step, number, 2)
    export_model(engine.module.language_model, seed, Folder.at(shared_folder() / seed.name) / "model", config.shard_gb)
    ended("export")
    deepspeed.comm.barrier()
    return peaks


def _config(size: str) -> Any:
    from stj.train_config import LoraConfig, TrainConfig

    return TrainConfig(
        device="cpu",
        workers=RANKS,
        max_seq_len=TOKENS,
        max_num_tokens=TOKENS,
        shard_gb=0.05,
        lora=LoraConfig(rank=64) if size.endswith("-lora") else None,
        gradient_dtype="bf16" if size.endswith("-bf16") else "fp32",
    )


def main() -> None:
    """Measures the named sizes, or all, and merges them into the result."""
    for size in sys.argv[1:] or SIZES:
        result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        result[size] = measure(size)
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        print(size, result[size]["over_plan"], result[size]["measured"], flush=True)


if __name__ == "__main__":
    if is_rank():
        as_rank(rank)
    else:
        main()
