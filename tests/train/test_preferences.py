"""Learning from pairs, on one real rank in this process: what it learns, and that the reference is computed once."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stj.errors import TrainingFailed
from stj.storage.folder import Folder
from stj.train.loop import run_rank
from stj.train_config import PreferenceConfig, TrainConfig
from tests.train.conftest import make_example, write_examples
from tests.train.test_loop import job

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("one_rank")]

PREFERENCE = PreferenceConfig(lr=3e-3, nll_scale=0.0, max_seq_len=256, gradient_accumulation=1)
CONFIG = TrainConfig(
    workers=1, device="cpu", max_seq_len=256, max_num_tokens=512, warmup_steps=1, max_epochs=3, preference=PREFERENCE
)


def test_right_judgments_are_preferred_and_the_reference_is_computed_once(seed_directory: Path, tmp_path: Path) -> None:
    task = replace(job(tmp_path, seed_directory), config=CONFIG.stage("dpo"))
    write_examples(Folder.at(tmp_path / "more"), [make_example(index) for index in range(12)])
    task = replace(task, examples=str(tmp_path / "more"))
    (tmp_path / "model").mkdir()
    first = run_rank(task)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert first.reference_forwards == first.steps / 3
    assert lines[0]["loss"] == pytest.approx(0.693, abs=0.01)  # nothing gained yet
    assert lines[-1]["loss"] < 0.1
    assert lines[-1]["preferred"] == 1
    weights = load_file(tmp_path / "model/model.safetensors")
    again = run_rank(task)
    assert again.reference_forwards == 0
    repeated = load_file(tmp_path / "model/model.safetensors")
    assert all(torch.equal(weights[name], repeated[name]) for name in weights)
    other = run_rank(replace(task, weights="model others"))
    assert other.reference_forwards == first.reference_forwards


def test_the_reference_is_computed_without_dropout(seed_directory: Path, tmp_path: Path) -> None:
    """The same numbers as for a seed without dropout: they are kept, and noise would be kept with them."""
    dropping = Path(shutil.copytree(seed_directory, tmp_path / "seed"))
    config = json.loads((dropping / "config.json").read_text())
    (dropping / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    references, losses = [], []
    for name, seed in {"without": seed_directory, "with": dropping}.items():
        task = replace(job(tmp_path / name, seed), config=replace(CONFIG.stage("dpo"), max_steps=1))
        (tmp_path / name / "model").mkdir()
        losses.append(run_rank(task).loss_first)
        (kept,) = (tmp_path / name / "reference").iterdir()
        references.append(sorted(json.loads(kept.read_text()).values()))  # their keys name the weights
    assert references[0] == references[1]
    assert losses[0] == pytest.approx(0.693, abs=0.01)
    assert losses[1] != losses[0]  # the training has it: without it the two would be equal bit by bit, as the references are


def test_examples_without_a_wrong_judgment_are_counted_and_refused_if_no_other_is_left(
    seed_directory: Path, tmp_path: Path
) -> None:
    task = replace(job(tmp_path, seed_directory), config=CONFIG.stage("rpo"), examples=str(tmp_path / "more"))
    write_examples(Folder.at(tmp_path / "more"), [replace(make_example(index), rejected=None) for index in range(3)])
    with pytest.raises(TrainingFailed, match="3 have no wrong judgment"):
        run_rank(task)
