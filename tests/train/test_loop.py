"""One real rank under DeepSpeed in this process, without Ray: what it refuses, and what it reports."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.utils import safe_get_full_fp32_param
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTJConfig, GPTJForCausalLM

from stj.config import ModelConfig
from stj.errors import ModelError, TrainingFailed
from stj.models.locate import model_identity
from stj.storage.folder import Folder
from stj.train.committed import committed
from stj.train.job import TrainingJob
from stj.train.loop import run_rank
from stj.train.metrics import StepMetrics, read_metrics, step_line
from stj.train.model import load_engine
from stj.train.snapshot import HostMemory
from stj.train_config import LoraConfig, TrainConfig
from tests.train.conftest import make_example, write_examples

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("one_rank")]

ADAPTERS = LoraConfig(rank=4, dropout=0.3, export="adapter")
ADAPTED = 2 * 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))
"""Numbers in them: two layers of q and o, k and v, and three projections of the MLP."""


def job(folder: Path, seed: Path, max_seq_len: int = 256, count: int = 3) -> TrainingJob:
    config = TrainConfig(workers=1, device="cpu", max_seq_len=max_seq_len, max_num_tokens=512, max_epochs=1)
    examples = write_examples(Folder.at(folder / "examples"), [make_example(index) for index in range(count)])
    return TrainingJob(
        config=config,
        seed_model=ModelConfig(path=str(seed)),
        weights=model_identity(ModelConfig(path=str(seed))),
        fingerprint="mine",
        examples=examples.folder.uri,
        model=str(folder / "model"),
        folder=str(folder),
    )


def test_nothing_to_train_on_is_one_line(seed_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"no examples to train on \(3 are longer than max_seq_len=8 tokens, 0 have"):
        run_rank(job(tmp_path, seed_directory, max_seq_len=8))


def test_a_model_whose_class_takes_no_attention_of_packed_rows_is_one_line(tmp_path: Path) -> None:
    GPTJForCausalLM(GPTJConfig(n_embd=32, n_layer=1, n_head=4, rotary_dim=4, vocab_size=64)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="its class in transformers takes no attention of packed rows"):
        load_engine(tmp_path, TrainConfig(device="cpu", workers=1))


def test_a_loss_that_is_not_finite_names_the_examples(seed_directory: Path, tmp_path: Path) -> None:
    broken = tmp_path / "seed"
    model = AutoModelForCausalLM.from_pretrained(seed_directory)
    model.model.norm.weight.data[0] = torch.nan
    model.save_pretrained(broken)
    AutoTokenizer.from_pretrained(seed_directory).save_pretrained(broken)
    with pytest.raises(TrainingFailed, match=r"step 1: the loss is not finite on examples x00\d"):
        run_rank(job(tmp_path, broken))
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    assert not (tmp_path / "model").exists()


def test_a_gradient_that_is_not_finite_names_the_examples_and_changes_no_weight(
    seed_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite; only the gradient of one parameter is not."""
    engines: list[deepspeed.DeepSpeedEngine] = []
    before: list[torch.Tensor] = []

    def load(directory: Path, config: TrainConfig) -> deepspeed.DeepSpeedEngine:
        engine = load_engine(directory, config)
        engine.module.language_model.model.norm.weight.register_hook(lambda gradient: torch.full_like(gradient, torch.inf))
        engines.append(engine)
        before.extend(weights_of(engine))
        return engine

    monkeypatch.setattr("stj.train.loop.load_engine", load)
    with pytest.raises(TrainingFailed, match=r"step 1: the gradient is not finite on examples x00\d, x00\d, x00\d; no update"):
        run_rank(job(tmp_path, seed_directory))
    assert all(map(torch.equal, before, weights_of(engines[0])))
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def weights_of(engine: deepspeed.DeepSpeedEngine) -> list[torch.Tensor]:
    """All weights in bf16, and the master weights in fp32."""
    parameters = list(engine.module.parameters())
    with deepspeed.zero.GatheredParameters(parameters):
        whole = [parameter.detach().clone() for parameter in parameters]
    return whole + [safe_get_full_fp32_param(parameter).clone() for parameter in parameters]


@pytest.mark.parametrize("lora", [None, ADAPTERS], ids=["all weights", "adapters"])
def test_a_training_in_segments_makes_the_weights_of_one_that_nobody_interrupted(
    lora: LoraConfig | None, seed_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each segment ends with a checkpoint and an export; the learning rate is that of all steps. Adapters draw dropout too."""
    tasks = [job(tmp_path / name, seed_directory, count=16) for name in ("whole", "segments")]
    config = replace(tasks[0].config, max_epochs=2, checkpoint_every_steps=4, lr=1e-2, warmup_steps=2, lora=lora)
    whole, segments = (replace(task, config=config) for task in tasks)
    if lora:  # the other way: there is no room for a copy
        monkeypatch.setattr(HostMemory, "fits", lambda memory, engine: False)
    seen: list[int] = []
    result = run_rank(exported(whole, "model"), on_step=lambda metrics, _: seen.append(metrics.step))
    assert (result.steps, seen) == (6, [1, 2, 3, 4, 5, 6])
    first = run_rank(replace(exported(segments, "first"), until=4))
    assert adapters_alone(tmp_path / "segments/checkpoints/step_00000004") == (lora is not None)
    last = run_rank(replace(exported(segments, "last"), until=8))
    assert (first.steps, first.planned_steps, last) == (4, 6, result)
    assert losses(tmp_path / "segments") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "segments/last", tmp_path / "whole/model")
    run_rank(replace(exported(segments, "again"), until=4))  # an export that was lost
    assert same_weights(tmp_path / "segments/again", tmp_path / "segments/first")
    assert not same_weights(tmp_path / "segments/first", tmp_path / "segments/last")


def test_a_checkpoint_holds_the_weights_of_its_moment_though_later_steps_run_first(
    seed_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are written only when the step after it is done."""
    task = job(tmp_path, seed_directory, count=16)
    task = replace(task, config=replace(task.config, max_epochs=2, checkpoint_every_steps=4, lr=1e-2, warmup_steps=2))
    later, save, saved = threading.Event(), torch.save, list[Path]()

    def late_save(state: Any, path: Path) -> None:
        assert later.wait(600)
        save(state, path)
        saved.append(path)

    monkeypatch.setattr("stj.train.checkpoint_writer.torch.save", late_save)
    run_rank(exported(task, "model"), on_step=lambda metrics, _: later.set() if metrics.step == 5 else None)
    assert {path.parent.name for path in saved} == {"step_00000004"}
    (whole,) = committed(Folder.at(tmp_path / "checkpoints"), "mine")
    assert sorted(whole.files) == sorted(path.name for path in saved)
    steps: list[int] = []
    run_rank(exported(task, "resumed"), on_step=lambda metrics, _: steps.append(metrics.step))
    assert steps == [5, 6]
    assert same_weights(tmp_path / "resumed", tmp_path / "model")


def exported(task: TrainingJob, name: str) -> TrainingJob:
    """The same training, whose model goes to another place."""
    folder = Path(task.folder) / name
    folder.mkdir()
    return replace(task, model=str(folder))


def adapters_alone(checkpoint: Path) -> bool:
    """Whether a checkpoint holds the adapters' fp32 weights and two moments, and nothing of the seed."""
    state = torch.load(next(checkpoint.glob("*model_states.pt")), weights_only=False)
    held = {name for group in state["param_shapes"] for name in group}
    size = sum(file.stat().st_size for file in checkpoint.glob("*.pt"))
    return all("lora_" in name for name in held) and state["frozen_param_fragments"] is None and size < 12 * ADAPTED + 60_000


def losses(folder: Path) -> list[float]:
    return [step.loss for step in read_metrics((folder / "metrics.jsonl").read_text())]


def same_weights(model: Path, other: Path) -> bool:
    first, second = (load_file(next(folder.glob("*model.safetensors"))) for folder in (model, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_step_line_says_how_far_and_how_long() -> None:
    metrics = StepMetrics(step=120, epoch=0, loss=0.4123, preferred=None, lr=1e-6, grad_norm=0.8, tokens_per_s=8412.3)
    line = "step 120/900 | loss 0.412 | grad_norm 0.80 | lr 1.0e-06 | 8,412 tok/s | eta "
    assert step_line(metrics, 900, eta_s=7860) == line + "2h11m"
    assert step_line(metrics, 900, eta_s=300) == line + "5m"
    assert step_line(metrics, 900, eta_s=12) == line + "12s"
    with_peak = line.replace("tok/s", "tok/s | mfu 41%") + "2h11m"
    assert step_line(replace(metrics, mfu=0.4123), 900, eta_s=7860) == with_peak
    assert "| loss 0.412 | preferred 75% |" in step_line(replace(metrics, preferred=0.75), 900, eta_s=12)
