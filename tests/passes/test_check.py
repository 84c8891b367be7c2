"""The check of a model before a pass: an adapter counts as its base, with weights and maybe a tokenizer of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stj.cluster_config import RayConfig
from stj.config import ModelConfig
from stj.findings import Finding
from stj.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from stj.models.check import ModelUse
from stj.passes.check import model_findings
from stj.plan.context import given_pairs_request

SEED_MODEL = Path(__file__).parents[2] / "stj" / "mini" / "seed_model"
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter as peft writes it: without config.json, and without a tokenizer."""
    directory = tmp_path / "adapter"
    directory.mkdir()
    described = {"peft_type": "LORA", "base_model_name_or_path": str(SEED_MODEL), "r": 4, "target_modules": ["q_proj"]}
    (directory / ADAPTER_CONFIG).write_text(json.dumps(described))
    layers = {f"{LAYER}.lora_A.weight": torch.zeros(4, 192), f"{LAYER}.lora_B.weight": torch.zeros(192, 4)}
    save_file(layers, directory / ADAPTER_WEIGHTS)
    return directory


def findings(directory: Path) -> list[Finding]:
    model = ModelConfig(path=str(directory), max_model_len=2048)
    use = ModelUse(roles=("models.generator",), model=model)
    return model_findings(use, [given_pairs_request()], RayConfig(address="local"))


def test_an_adapter_is_asked_with_its_base_s_tokenizer(adapter: Path) -> None:
    (finding,) = findings(adapter)
    assert finding.ok, finding.words
    assert finding.words.startswith(f"{adapter}, an adapter of rank 4 over {SEED_MODEL}")
    assert "tokens are left for an instruction" in finding.words


def test_an_adapter_is_asked_with_its_own_tokenizer_if_it_has_one(adapter: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SEED_MODEL / name, adapter / name)
    (adapter / "chat_template.jinja").write_text("no messages")
    (finding,) = findings(adapter)
    assert not finding.ok
    assert f"model {adapter}: its chat template" in finding.words


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-10], "is torn"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a git-lfs pointer"),
        (lambda _: b"", "is empty"),
        (lambda _: (2).to_bytes(8, "little") + b"{}", "holds no tensors"),
    ],
)
def test_an_adapter_whose_own_weights_are_damaged(adapter: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    weights = adapter / ADAPTER_WEIGHTS
    weights.write_bytes(damage(weights.read_bytes()))
    (finding,) = findings(adapter)
    assert not finding.ok
    assert message in finding.words
