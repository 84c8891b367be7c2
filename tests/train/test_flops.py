"""What a model computes, and what share of the peak that is: counted by hand, and as the plan counts a model's parameters."""

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

from stj.config import ModelConfig
from stj.models.shapes import shape_of
from stj.train.data import ExampleTokens
from stj.train.flops import MfuMeter, TokenWork, peak_of, work_of
from stj.train.lora import add_adapters
from stj.train_config import LoraConfig

WORK = TokenWork(body=1000, head=100, attention=8)


def tokens(*lengths: int, prompt: int) -> ExampleTokens:
    return ExampleTokens(id="x", texts=tuple(np.zeros(length, dtype=np.int32) for length in lengths), prompt_length=prompt)


def test_flops_of_texts_by_hand() -> None:
    assert WORK.flops([tokens(10, prompt=6)]) == 10 * (6 * 1000 + 12 * 8 * 10) + 4 * 6 * 100
    pair = tokens(10, 20, prompt=6)  # two texts of one row do not attend to each other
    assert WORK.flops([pair]) == WORK.flops([tokens(10, prompt=6), tokens(20, prompt=6)])


def test_the_share_of_the_peak() -> None:
    examples = [tokens(10, prompt=6)] * 5
    assert MfuMeter(work=WORK, peak=2 * WORK.flops(examples)).mfu(examples, seconds=2.0) == pytest.approx(0.25)


def test_a_models_work_is_that_of_its_shape(seed_directory: Path) -> None:
    work, shape = work_of(AutoModelForCausalLM.from_pretrained(seed_directory)), shape_of(ModelConfig(path=str(seed_directory)))
    assert shape is not None
    assert work.body + work.head == shape.active_parameters
    assert (work.head, work.attention) == (shape.vocab * shape.hidden, shape.layers * shape.heads * shape.head_dim)


def test_a_frozen_parameter_takes_two_thirds(seed_directory: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(seed_directory)
    before = work_of(model)
    add_adapters(model, LoraConfig(rank=4), seed=0)
    work, text = work_of(model), tokens(10, prompt=6)
    seed = shape_of(ModelConfig(path=str(seed_directory)))
    assert seed is not None
    assert work.body - before.body == seed.adapter_parameters(4)
    adapters, attention = 10 * 6 * seed.adapter_parameters(4), 10 * 12 * before.attention * 10
    full = before.flops([text]) - attention
    assert work.flops([text]) == adapters + attention + full * 4 / 6


def test_a_token_goes_through_two_of_four_experts(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 50}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = MixtralConfig(**sizes, **heads)
    config.save_pretrained(tmp_path)
    shape = shape_of(ModelConfig(path=str(tmp_path)))
    assert shape is not None
    work = work_of(MixtralForCausalLM(config))
    assert work.body + 2 * work.head == shape.active_parameters  # the embedding costs nothing, and the head is counted apart


@pytest.mark.parametrize(
    ("device", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", None),
        ("Tesla T4", None),
    ],
)
def test_peaks_are_known_by_the_devices_name(device: str, tflops: float | None) -> None:
    assert peak_of(device) == (tflops and tflops * 1e12)
