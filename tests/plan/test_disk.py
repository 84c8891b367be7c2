"""The disk that a run takes."""

from pathlib import Path

import pytest

from stj.config import ModelConfig
from stj.config_loader import load
from stj.models.shapes import shape_of
from stj.plan.disk import DiskPlan, disk_plan
from stj.plan.memory import GB

CONF = Path(__file__).parents[2] / "conf"
ADAPTERS = 16 * 32 * ((4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3)
"""Parameters of adapters of rank 16 on each layer of an 8B Llama."""


def disk(*overrides: str, trainings: int = 3) -> DiskPlan:
    config = load([CONF / "laptop_gpu.yaml"], overrides)
    shape = shape_of(ModelConfig(path="meta-llama/Llama-3.1-8B-Instruct"))
    assert shape is not None
    return disk_plan(shape, trainings, config)


def test_a_training_of_all_weights_takes_14_bytes_a_parameter_and_more() -> None:
    whole = disk("train.lora=null")
    assert (whole.models / GB, whole.checkpoints / GB) == pytest.approx((3 * 16.06, 3 * 96.4), rel=0.005)


def test_checkpoints_hold_adapters_alone_and_merged_models_are_whole() -> None:
    merged = disk()
    assert merged.checkpoints == 3 * 12 * ADAPTERS
    assert merged.models / GB == pytest.approx(3 * 16.06, rel=0.005)


def test_exported_adapters_are_small() -> None:
    assert disk("train.lora.export=adapter").models == 3 * 2 * ADAPTERS


def test_the_warm_up_of_adapters_writes_a_whole_model() -> None:
    words = ("train.lora.export=adapter", "train.objective=sft_then_dpo", "train.preference.max_seq_len=2048")
    assert disk(*words, trainings=2).models / GB == pytest.approx(2 * 16.06, rel=0.005)


def test_a_run_without_trainings_writes_nothing() -> None:
    assert disk(trainings=0).total == 0
