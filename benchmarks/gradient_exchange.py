"""What the format of exchanged gradients does to a training: fp32, bf16, and bf16 between machines over sums in fp32.

    python benchmarks/gradient_exchange.py RUN        a finished run of conf/mini.yaml; about three minutes on two CPU cores

training  the run's first training again on two ranks, with gradients in fp32, in bf16, and in fp32 with another order of the
          examples. Each is compared with fp32: the weights, as a share of what the training changed, and the losses
sums      the sum over 32 ranks of real gradients of micro-batches, as a ring makes it, against the exact sum. Two ranks cannot
          show this error, because a sum of two numbers is rounded once

Writes benchmarks/results/gradient_exchange.json.
"""

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ranks import RANKS, as_rank, is_rank, on_ranks

RESULT = Path(__file__).parent / "results" / "gradient_exchange.json"
STEPS = 60
"""Steps of each training, of 100 in the run; the learning rate falls to its end within them."""
MACHINES, MACHINE = 4, 8
"""The ranks of the simulated sum, as in conf/paper.yaml."""


def rank(run: str) -> dict[str, Any]:
    """All trainings and sums, on one of two ranks. Each counts as a machine, so that they exchange what is asked for."""
    import torch

    os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    with tempfile.TemporaryDirectory(prefix="stj-benchmark-") as folder:
        kinds = {"fp32": {}, "bf16": {"gradient_dtype": "bf16"}, "fp32, other order": {"seed": 3}}
        trained = {name: _trained(Path(run), Path(folder) / name, changes) for name, changes in kinds.items()}
    seed, fp32 = trained["fp32"]["seed"], trained["fp32"]["weights"]
    changed = float((fp32 - seed).norm())
    figures = {
        name: {
            "distance_over_update": float((result["weights"] - fp32).norm()) / changed,
            "bf16_weights_that_differ": float((result["weights"].bfloat16() != fp32.bfloat16()).float().mean()),
            "largest_loss_difference": max(
                abs(mine - theirs) for mine, theirs in zip(result["losses"], trained["fp32"]["losses"], strict=True)
            ),
            "mean_loss_of_last_20": sum(result["losses"][-20:]) / 20,
        }
        for name, result in trained.items()
    }
    return {"steps": len(trained["fp32"]["losses"]), "training": figures, "sums": _sums(trained["fp32"]["gradients"], torch)}


def _trained(run: Path, folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """The master weights after the run's first training with changed settings, the losses, and gradients of micro-batches."""
    import torch
    from deepspeed.utils import safe_get_full_fp32_param

    from stj.config_loader import from_plain
    from stj.models.fetch import local_model
    from stj.train.data import read_tokens
    from stj.train.job import TrainingJob
    from stj.train.model import load_engine
    from stj.train.packing import plan_packing
    from stj.train.step import StepInputs, train_step

    config = from_plain(json.loads((run / "config.json").read_text()))
    train = replace(config.train, workers=RANKS, max_steps=STEPS, **changes)
    job = TrainingJob(
        config=train, seed_model=config.models.seed, weights="", fingerprint="", model="", folder=str(folder),
        examples=str(run / "iteration_1" / "examples"),
    )  # fmt: skip
    directory = local_model(config.models.seed)
    tokens, _ = read_tokens(job, directory)
    steps = plan_packing([row.id for row in tokens], [row.length for row in tokens], train, RANKS)
    engine = load_engine(directory, train)
    parameters = list(engine.module.parameters())

    def weights() -> Any:
        return torch.cat([safe_get_full_fp32_param(parameter).flatten() for parameter in parameters])

    seed, inputs = weights(), StepInputs(tokens, None, train)
    gradients = [] if changes else _gradients(directory, tokens, steps)
    losses = [train_step(engine, inputs, step, number, len(steps)).loss for number, step in enumerate(steps)]
    return {"seed": seed, "weights": weights(), "losses": losses, "gradients": gradients}


def _gradients(directory: Path, tokens: Any, steps: Any) -> list[Any]:
    """Gradients in bf16 of as many micro-batches as the simulated sum has ranks, at the seed's weights, on one rank each."""
    import torch
    from transformers import AutoModelForCausalLM

    from stj.train.attention import implementation
    from stj.train.model import PackedJudge
    from stj.train.packing import pack

    attend = implementation("cpu")
    judge = PackedJudge(
        AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation=attend)
    ).train()
    batches = [batch for step in steps for batch in step.micro_batches if batch][: MACHINES * MACHINE]
    gradients = []
    for batch in batches:
        judge.zero_grad()
        logps = judge(**pack([tokens[index] for index in batch]).on(torch.device("cpu")))
        (-logps.mean()).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in judge.parameters()]))
    return gradients


def _sums(gradients: list[Any], torch: Any) -> dict[str, float]:
    """Errors of the mean gradient, as shares of its norm: by each way of summing, and by what it is a sample of."""
    exact = torch.stack([gradient.double() for gradient in gradients]).mean(0)

    def error(sum_of_ranks: Any) -> float:
        return float((sum_of_ranks.double() - exact).norm() / exact.norm())

    scattered = torch.stack([(gradient.double() - exact) for gradient in gradients]).norm() / len(gradients)
    machines = [
        _ring([gradient.float() / len(gradients) for gradient in gradients[first : first + MACHINE]])
        for first in range(0, len(gradients), MACHINE)
    ]
    return {
        "ranks": len(gradients),
        "fp32": error(_ring([gradient.float() / len(gradients) for gradient in gradients])),
        "bf16": error(_ring([gradient / len(gradients) for gradient in gradients])),
        "bf16 between machines": error(_ring([machine.bfloat16() for machine in machines])),
        "sampling of the micro-batches": float(scattered / exact.norm()),
    }


def _ring(parts: list[Any]) -> Any:
    """The sum in the format of the parts, each added in turn, as the ranks of a ring do."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


def main(run: str) -> None:
    """Measures, and writes the result."""
    figures = on_ranks(__file__, run=str(Path(run).resolve()))[0]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    if is_rank():
        as_rank(rank)
    elif len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        sys.exit(__doc__)
