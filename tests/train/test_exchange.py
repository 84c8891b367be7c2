"""Settings that change what ranks exchange, keep or recompute, on four real ranks of two machines: the weights that they make.

A machine is two ranks here: LOCAL_RANK and LOCAL_WORLD_SIZE say so, and all processes run on this one.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from stj.errors import TrainingFailed
from stj.train.packing import PackedStep
from stj.train_config import TrainConfig
from tests.train.conftest import make_example, make_tokenizer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.engine

RANKS, MACHINE = 4, 2
COUNT = 16
MATRICES: dict[str, Any] = {"zero_optimization": {"stage3_param_persistence_threshold": 100}}
"""DeepSpeed keeps small parameters on each rank: here the norms, and not the whole model, as by default."""
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "spared": {"activation_checkpointing_every": 2, "offload": "optimizer"},
    "bf16": {"gradient_dtype": "bf16"},
    "shared": {"shard_within_machine": True},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, seed_directory: Path) -> dict[str, Any]:
    """What each case made, from one group of processes."""
    folder = tmp_path_factory.mktemp("exchange")
    processes = [
        subprocess.Popen([sys.executable, "-m", __name__, str(rank), str(seed_directory), str(folder)], cwd=ROOT)
        for rank in range(RANKS)
    ]
    assert [process.wait(timeout=600) for process in processes] == [0] * RANKS
    made: dict[str, Any] = torch.load(folder / "made.pt")
    return made


@pytest.mark.parametrize("case", ["spared", "shared"])
def test_what_only_moves_or_recomputes_makes_the_same_weights(results: dict[str, Any], case: str) -> None:
    for name, weight in results["plain"]["weights"].items():
        assert torch.equal(results[case]["weights"][name], weight), name
    assert results[case]["losses"] == results["plain"]["losses"]


def test_weights_are_gathered_from_the_machine_s_copy_only_if_it_is_asked_for(results: dict[str, Any]) -> None:
    """From the forward pass to the update each rank holds half of every weight, its machine's part, and nothing after it."""
    assert results["shared"]["copied"] == pytest.approx(0.5, rel=0.02)
    assert results["plain"]["copied"] == 0
    assert results["shared"]["left"] == 0


def test_an_offloaded_optimizer_updates_with_the_cores_of_its_share(results: dict[str, Any]) -> None:
    assert results["spared"]["threads"] == max(1, len(os.sched_getaffinity(0)) // MACHINE)
    assert results["plain"]["threads"] == 1


def test_gradients_in_bf16_change_the_weights_a_little(results: dict[str, Any]) -> None:
    """Adam's first updates are about the learning rate for each weight, whatever the gradient: signs decide."""
    plain, bf16, seed = results["plain"]["weights"], results["bf16"]["weights"], results["plain"]["seed"]
    update = torch.cat([(plain[name] - seed[name]).flatten() for name in plain])
    changed = torch.cat([(bf16[name] - plain[name]).flatten() for name in plain])
    assert 0 < changed.norm() < 0.2 * update.norm()


def test_means_are_rounded_between_machines_alone(results: dict[str, Any]) -> None:
    """Whatever the sizes: exact but for fp32 on one machine, and within the rounding of bf16 on several."""
    errors = {size: max(errors) for size, errors in results["means"].items()}
    assert errors[str(RANKS)] < 1e-6
    assert 1e-6 < errors[str(MACHINE)] < 2 * 2**-8
    assert 1e-6 < errors["1"] < 4 * 2**-8


def test_machines_with_different_numbers_of_ranks_are_refused(results: dict[str, Any]) -> None:
    ranks = "equally many ranks on each machine, and train.workers=4 have 3, 1 ranks on theirs: set train.workers to a "
    multiple = f"{ranks}multiple of a machine's GPUs, or "
    assert results["refusals"] == [
        f"train.shard_within_machine=true needs {multiple}train.shard_within_machine=false",
        f"train.gradient_dtype=bf16 needs {multiple}train.gradient_dtype=fp32",
    ]


def test_ranks_with_and_without_fused_kernels_are_refused(results: dict[str, Any]) -> None:
    remedy = "install requirements/gpu.txt on all machines, or start them from one image"
    assert results["unlike kernels"] == [f"liger-kernel is installed for 3 of 4 ranks: {remedy}", "", ""]


def test_machines_that_no_setting_groups_may_have_any_number_of_ranks() -> None:
    from stj.train.zero import machine_size

    assert machine_size(TrainConfig()) == 1


def main(rank: int, seed: Path, folder: Path) -> None:
    """One rank: makes two steps in each case, and keeps the weights."""
    from stj.train.kernels import check_fused_everywhere
    from stj.train.model import load_engine

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    os.environ |= {"LOCAL_RANK": str(rank % MACHINE), "LOCAL_WORLD_SIZE": str(MACHINE)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    made: dict[str, Any] = {case: train(seed, changes) for case, changes in CASES.items()}
    made["means"] = means(rank)
    os.environ |= {"LOCAL_RANK": str(rank % 3), "LOCAL_WORLD_SIZE": "3" if rank < 3 else "1"}
    three_and_one = [TrainConfig(workers=RANKS, device="cpu", shard_within_machine=True)]
    three_and_one.append(TrainConfig(workers=RANKS, device="cpu", gradient_dtype="bf16"))
    made["refusals"] = [refusal(partial(load_engine, seed, config)) for config in three_and_one]
    made["unlike kernels"] = [refusal(partial(check_fused_everywhere, fused)) for fused in (rank != 2, True, False)]
    if rank == 0:
        torch.save(made, folder / "made.pt")
    dist.barrier()
    # ZeRO-3 has gathered ahead: if Gloo's thread drops such a gather while Python ends, the whole process is aborted.
    os._exit(0)


def train(seed: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Makes two steps, and returns the master weights, whole, with what was seen while they were made."""
    from stj.train.data import encode_examples, kept_examples
    from stj.train.model import load_engine
    from stj.train.step import StepInputs, train_step

    config = TrainConfig(
        workers=RANKS, device="cpu", max_num_tokens=512, max_seq_len=512, lr=1e-2, warmup_steps=0,
        deepspeed=MATRICES, **changes,
    )  # fmt: skip
    tokens = kept_examples(encode_examples(make_tokenizer(), [make_example(index) for index in range(COUNT)], [259], config))[0]
    engine = load_engine(seed, config)
    weights = list(engine.module.parameters())
    before = master_weights(engine.module)
    seen: dict[str, Any] = {}
    update = engine.step

    def step() -> None:
        seen.update(threads=torch.get_num_threads(), copied=copied(weights))
        update()

    engine.step = step
    whole = PackedStep(epoch=0, micro_batches=tuple((index, index + 1, index + 2, index + 3) for index in range(0, COUNT, 4)))
    losses = [train_step(engine, StepInputs(tokens, None, config), whole, number, 10).loss for number in range(2)]
    return {"weights": master_weights(engine.module), "seed": before, "losses": losses, "left": copied(weights), **seen}


def master_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights in fp32, whole, by name; all ranks must call this."""
    from deepspeed.utils import safe_get_full_fp32_param

    return {name: safe_get_full_fp32_param(weight).clone() for name, weight in module.named_parameters()}


def copied(weights: list[torch.nn.Parameter]) -> float:
    """How many of all weights' numbers this rank holds in its machine's second copy, as a share."""
    copies = [getattr(weight, "ds_secondary_tensor", None) for weight in weights]
    whole = sum(weight.ds_numel for weight in weights)
    return float(sum(copy.numel() for copy in copies if copy is not None) / whole)


def means(rank: int) -> dict[str, list[float]]:
    """Errors of means over all ranks, each tensor's largest, by the number of ranks that a machine has."""
    from stj.train.deepspeed_private import machine_groups, mean_by_machine

    errors: dict[str, list[float]] = {}
    for size in (1, MACHINE, RANKS):
        groups, errors[str(size)] = machine_groups(size), []
        for numels in ([1], [5, 64], [1000, 3, 8, 17]):
            tensors = [torch.randn(numel, generator=torch.Generator().manual_seed(rank)).bfloat16() for numel in numels]
            for tensor, part in zip(tensors, mean_by_machine(tensors, groups=groups), strict=True):
                everywhere = [torch.empty_like(tensor) for _ in range(RANKS)]
                dist.all_gather(everywhere, tensor)
                length = -(-tensor.numel() // RANKS)
                exact = torch.stack(everywhere).double().mean(0)[rank * length : (rank + 1) * length]
                assert part.shape == exact.shape
                assert part.dtype == torch.float32
                errors[str(size)] += [float((part - exact).abs().max())] if part.numel() else []
    return errors


def refusal(work: Callable[[], object]) -> str:
    """What every rank raises in some work; empty unless all raise the same."""
    raised = ""
    try:
        work()
    except TrainingFailed as error:
        raised = str(error)
    gathered = [""] * RANKS
    dist.all_gather_object(gathered, raised)
    return raised if set(gathered) == {raised} else ""


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
