"""The recipe of the seed model runs from nothing to a model directory, here with a hundredth of its documents."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from stj.mini import seed as recipe
from stj.models.chat import encode_chat
from stj.rows import Turn

pytestmark = pytest.mark.long  # A minute of training, without engines.


@pytest.fixture
def short_curriculum(monkeypatch: pytest.MonkeyPatch) -> None:
    short = [
        replace(stage, mix={kind: max(1, count // 100) for kind, count in stage.mix.items()}) for stage in recipe.CURRICULUM
    ]
    monkeypatch.setattr(recipe, "CURRICULUM", tuple(short))


@pytest.mark.usefixtures("short_curriculum")
def test_a_build_is_a_model_directory_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        recipe.build_seed(tmp_path / name, seed=3)
    weights = {hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest() for name in ("one", "two")}
    assert len(weights) == 1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert model.config.vocab_size == len(tokenizer)
    assert encode_chat(tokenizer, [Turn(role="user", content="Hi")])
    assert sum(path.stat().st_size for path in (tmp_path / "one").iterdir()) < 12e6
