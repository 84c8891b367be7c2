"""Inputs that `stj run` refuses on the driver. These tests start no Ray, and the refused runs write nothing."""

import json
import shutil
from pathlib import Path

import pytest

from stj.config_loader import load
from stj.errors import ModelError, StjError
from stj.loop.iterate import run_all

ROOT = Path(__file__).parents[1]


def refusal(tmp_path: Path, *overrides: str) -> StjError:
    config = load([ROOT / "conf" / "mini.yaml"], [f"run_root={tmp_path}/run", "ray.address=127.0.0.1:1", *overrides])
    with pytest.raises(StjError) as caught:
        run_all(config, print)
    assert not (tmp_path / "run").exists()
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    """A copy of the mini world's seed, for damage."""
    return Path(shutil.copytree(ROOT / "stj/mini/seed_model", tmp_path / "seed"))


def test_a_seed_that_cannot_be_trained_is_refused_before_the_passes(tmp_path: Path, seed: Path) -> None:
    (seed / "chat_template.jinja").unlink()
    error = refusal(tmp_path, f"models.seed.path={seed}")
    assert isinstance(error, ModelError)
    assert "has no chat template" in str(error)


def test_a_seed_with_another_tokenizer_is_refused_before_the_passes(tmp_path: Path, seed: Path) -> None:
    settings = json.loads((seed / "config.json").read_text())
    (seed / "config.json").write_text(json.dumps(settings | {"vocab_size": 100}))
    assert "its embedding 100 rows" in str(refusal(tmp_path, f"models.seed.path={seed}"))


@pytest.mark.slow
def test_gpus_that_do_not_divide_the_heads_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "models.generator.tensor_parallel_size=4")
    assert "tensor_parallel_size=4 GPUs cannot share its 6 attention heads" in str(error)
    assert "set it to one of 1, 2, 3, 6" in str(error)
