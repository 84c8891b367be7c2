"""A judge in use: its own context, and the fewest of a machine's GPUs that hold it. The facts of the machine are given."""

from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.machine.driver import NvidiaDriver
from stj.machine.gpus import Gpus
from stj.passes.model_here import model_here, on_gpus

SEED_MODEL = Path(__file__).parents[2] / "stj/mini/seed_model"
EIGHT = Gpus(names=("H100",) * 8, memory_gb=85.5, driver=NvidiaDriver(version="580.65.06", cuda=(13, 0)))
SMALL = replace(EIGHT, names=("RTX 4090",) * 4, memory_gb=25.7)
LLAMA_70B = "meta-llama/Meta-Llama-3-70B-Instruct"


@pytest.mark.parametrize(
    ("path", "gpus", "needed"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", EIGHT, 1),
        (LLAMA_70B, EIGHT, 2),
        (LLAMA_70B, replace(EIGHT, memory_gb=79.0), 4),
        ("meta-llama/Llama-3.1-8B-Instruct", SMALL, 1),
        ("meta-llama/Llama-2-13b-chat-hf", SMALL, 2),
        (LLAMA_70B, SMALL, 1),  # No number of these GPUs holds it: the engine says so.
        ("nobody/unknown", EIGHT, 1),
    ],
)
def test_a_model_takes_the_gpus_that_it_needs(path: str, gpus: Gpus, needed: int) -> None:
    assert on_gpus(ModelConfig(path=path), EngineConfig(), gpus).gpus == needed


def test_a_model_has_its_own_context() -> None:
    model = ModelConfig(path=str(SEED_MODEL))
    assert model_here(model, EngineConfig(device="cpu")).max_model_len == 2048
    assert model_here(replace(model, max_model_len=512), EngineConfig(device="cpu")).max_model_len == 512


def test_a_stated_number_of_gpus_stays() -> None:
    model = ModelConfig(path=str(SEED_MODEL), tensor_parallel_size=2)
    assert model_here(model, EngineConfig()).gpus == 2
