"""Fused kernels: who gets them, and that results and gradients are those of plain layers."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from stj.train.attention import implementation
from stj.train.data import ExampleTokens
from stj.train.kernels import KINDS, fuse
from stj.train.model import PackedJudge
from stj.train.packing import pack

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def tiny(kind: str, device: str = "cpu") -> PreTrainedModel:
    """A model of this type with random weights, those of the norms included."""
    config = AutoConfig.for_model(
        kind, hidden_size=256, intermediate_size=768, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2,
        head_dim=32, vocab_size=128, max_position_embeddings=256, sliding_window=None,
    )  # fmt: skip
    torch.manual_seed(0)
    attend = implementation("gpu" if device == "cuda" else "cpu")
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation=attend)
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, mean=1.0, std=0.3)
    return model.to(device)


def results(model: PreTrainedModel) -> dict[str, Tensor]:
    """Log-probabilities of three packed texts, and the gradients of all weights."""
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 128, length, dtype=np.int32) for length in (5, 40, 83)]
    packed = pack([ExampleTokens(id=str(text.size), texts=(text,), prompt_length=2) for text in texts])
    model.zero_grad()
    logps = PackedJudge(model)(**packed.on(model.device))
    (-logps.mean()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {name: result.detach().double() for name, result in {"log-probabilities": logps, **gradients}.items()}


@CUDA
@pytest.mark.parametrize("kind", KINDS)
def test_fused_results_are_as_near_to_the_exact_ones_as_plain_results_in_bf16(kind: str) -> None:
    model = tiny(kind, "cuda")
    plain, fused = (deepcopy(model).to(torch.bfloat16) for _ in range(2))
    exact, rounded = results(deepcopy(model).double()), results(plain)
    assert fuse(fused, "gpu")  # Afterwards all models of this type have the fused rotary positions.
    for name, result in results(fused).items():
        error, bound = ((other - exact[name]).norm() / exact[name].norm() for other in (result, rounded[name]))
        assert error < 1.5 * bound + 1e-3, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_cpu_computes_plain_layers(kind: str) -> None:
    model = tiny(kind)
    assert not fuse(model, "cpu")
    assert all("Liger" not in module._get_name() for module in model.modules())
