"""Gradients of one step on real DeepSpeed ranks in fp32: the same however its examples are packed, spread and accumulated.

With adapters, only A and B have gradients. B is not 0 here, as it is in a new adapter: then A's gradients would be 0.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from stj.storage.folder import Folder
from stj.train.data import ExampleTokens, encode_examples, kept_examples
from stj.train.packing import PackedStep, micro_batches
from stj.train_config import LoraConfig, PreferenceConfig, TrainConfig
from tests.train.conftest import make_example, make_tokenizer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.engine

Objective = Literal["sft", "dpo"]
COUNT = 12
SHIFT = torch.linspace(-30, 30, 2 * COUNT).reshape(COUNT, 2)  # so that pairs weigh differently


LORA = LoraConfig(rank=4, alpha=8)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training whose gradients are compared."""

    objective: Objective = "sft"
    packed: bool = True
    lora: bool = False
    checkpointing: bool = True


CASES = [
    Case(),
    Case(packed=False),
    Case(checkpointing=False),
    Case(objective="dpo"),
    Case(lora=True),
    Case(lora=True, checkpointing=False),
    Case(objective="dpo", lora=True),
]


def settings(case: Case, accumulation: int = 1) -> TrainConfig:
    preference = PreferenceConfig(gradient_accumulation=accumulation)
    return TrainConfig(
        device="cpu",
        objective="sft",
        max_num_tokens=8192,
        gradient_accumulation=accumulation,
        preference=preference,
        lora=LORA if case.lora else None,
        activation_checkpointing=case.checkpointing,
    ).stage(case.objective)


def encoded(objective: Objective) -> list[ExampleTokens]:
    examples = [make_example(index) for index in range(COUNT)]
    return kept_examples(encode_examples(make_tokenizer(), examples, [259], settings(Case(objective=objective))))[0]


def batches(objective: Objective, packed: bool) -> list[tuple[int, ...]]:
    """Four rows of several examples, or one example a row."""
    tokens = encoded(objective)
    lengths = [row.length for row in tokens]
    return micro_batches([row.id for row in tokens], lengths, sum(lengths) // 4 + 40 if packed else max(lengths), 0, 0)


def weights_for(adapter: str, shape: torch.Size) -> torch.Tensor:
    """Values of A or B, by its name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(crc32(adapter.encode()))) / 10


def full_model(seed: Path, lora: bool) -> torch.nn.Module:
    """The seed in float64, with peft's adapters on all its linear layers."""
    model = AutoModelForCausalLM.from_pretrained(seed, dtype=torch.float64)
    if lora:
        from peft import LoraConfig, inject_adapter_in_model

        inject_adapter_in_model(LoraConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules="all-linear"), model)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = weights_for(name, parameter.shape).double()
    return model


def full_logps(model: torch.nn.Module, tokens: list[ExampleTokens]) -> torch.Tensor:
    """The log-probabilities (texts, T) of transformers in float64, with all texts padded into one batch; 0 if not learned."""
    texts = [(torch.from_numpy(text).long(), row.prompt_length) for row in tokens for text in row.texts]
    longest = max(len(ids) for ids, _ in texts)
    inputs, mask, learned = (torch.zeros(len(texts), longest, dtype=torch.long) for _ in range(3))
    for place, (ids, prompt_length) in enumerate(texts):
        inputs[place, : len(ids)], mask[place, : len(ids)], learned[place, prompt_length : len(ids)] = ids, 1, 1
    logps = model(input_ids=inputs, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    return logps.gather(2, inputs[:, 1:, None])[:, :, 0] * learned[:, 1:]


def full(seed: Path, objective: Objective, lora: bool) -> dict[str, torch.Tensor]:
    """Loss and gradients of the full computation; of pairs also the log-probabilities of judgments."""
    tokens, model = encoded(objective), full_model(seed, lora)
    sums = full_logps(model, tokens).sum(dim=1).reshape(COUNT, -1)
    loss = -sums[:, 0].sum() / sum(row.counts[0] for row in tokens)
    if objective == "dpo":
        gained = sums - (sums.detach() + SHIFT)
        loss = 1.5 * loss - logsigmoid(0.1 * (gained[:, 0] - gained[:, 1])).mean()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {**gradients, "loss": loss.detach(), **({"reference": sums.detach()} if objective == "dpo" else {})}


@pytest.mark.parametrize("ranks", [1, 2])
def test_gradients_and_loss_are_those_of_the_full_computation(ranks: int, seed_directory: Path, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.test_gradients", str(rank), str(ranks), str(seed_directory), str(tmp_path)],
            cwd=ROOT,
        )
        for rank in range(ranks)
    ]
    assert [process.wait(timeout=1800) for process in processes] == [0] * ranks
    for case, gradients in zip(CASES, torch.load(tmp_path / "gradients.pt"), strict=True):
        expected = full(seed_directory, case.objective, case.lora)
        assert gradients.keys() == expected.keys()
        for name, tensor in expected.items():
            assert (gradients[name] - tensor).norm() <= 1e-5 * tensor.norm(), (case, name)


def main(rank: int, ranks: int, seed: Path, folder: Path) -> None:
    """One rank: makes a step of the training loop for each case, and keeps the gradients of its update."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks)
    gradients = [make_step(seed, ranks, case, Folder.at(folder)) for case in CASES]
    if rank == 0:
        torch.save(gradients, folder / "gradients.pt")
    dist.barrier()
    # ZeRO-3 has gathered ahead: if Gloo's thread drops such a gather while Python ends, the whole process is aborted.
    os._exit(0)


def make_step(seed: Path, ranks: int, case: Case, folder: Folder) -> dict[str, torch.Tensor]:
    import deepspeed
    from deepspeed.utils import safe_get_full_grad

    from stj.train.model import load_engine
    from stj.train.reference import reference_logps
    from stj.train.step import StepInputs, train_step

    rows = batches(case.objective, case.packed)
    accumulation = -(-len(rows) // ranks)  # 4 rows: 1 rank x 4, 2 ranks x 2
    rows = [*rows, *[()] * (accumulation * ranks - len(rows))]
    config, tokens = settings(case, accumulation), encoded(case.objective)
    engine = load_engine(seed, config, dtype=torch.float32)
    learning = {name: p for name, p in engine.module.language_model.named_parameters() if p.requires_grad}
    for name, parameter in learning.items() if case.lora else ():
        with deepspeed.zero.GatheredParameters(parameter, modifier_rank=0):
            parameter.data.copy_(weights_for(name, parameter.shape))
    kept: dict[str, torch.Tensor] = {}
    reference, identity = None, "the adapters" if case.lora else "the seed"
    if case.objective == "dpo":
        kept["reference"], forwards = reference_logps(engine, tokens, config, folder / "reference", identity)
        again, none = reference_logps(engine, tokens, config, folder / "reference", identity)
        assert forwards > 0 == none
        assert torch.equal(kept["reference"], again)
        reference = kept["reference"] + SHIFT
    update = engine.step

    def step() -> None:
        if engine.is_gradient_accumulation_boundary():
            for name, parameter in learning.items():
                kept[name] = safe_get_full_grad(parameter).reshape(parameter.ds_shape).clone()
        update()

    engine.step = step
    whole = PackedStep(epoch=0, micro_batches=tuple(rows))
    loss = train_step(engine, StepInputs(tokens, reference, config), whole, 0, 10).loss
    return {**kept, "loss": torch.tensor(loss)}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
