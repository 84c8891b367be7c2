"""The GPUs of one machine against what a config asks of it. No GPU is needed: the facts are given."""

from dataclasses import replace
from pathlib import Path

import pytest

from stj.config_loader import load
from stj.errors import CheckFailed
from stj.machine.driver import NvidiaDriver
from stj.machine.gpus import Gpus
from stj.plan.gpus import check_gpus, check_memory

EIGHT = Gpus(names=("NVIDIA H100 80GB HBM3",) * 8, memory_gb=85.5, driver=NvidiaDriver(version="580.65.06", cuda=(13, 0)))


def test_enough_gpus_are_facts() -> None:
    words = check_gpus(EIGHT, (13, 0), {"models.seed": 4, "train.workers": 8})
    assert words == "8 x NVIDIA H100 80GB HBM3, 86 GB each, driver 580.65.06"


@pytest.mark.parametrize(
    ("gpus", "built_for", "needs", "message"),
    [
        (None, None, {"models.seed": 1}, "this machine shows no NVIDIA GPU"),
        (EIGHT, None, {"train.workers": 32}, "train.workers asks for 32 GPUs, and this machine has 8"),
        (
            replace(EIGHT, busy=4),
            None,
            {"train.workers": 8},
            "asks for 8 GPUs, and others use the memory of 4 of this",
        ),
        (
            replace(EIGHT, driver=NvidiaDriver(version="535.1", cuda=(12, 2))),
            (13, 0),
            {},
            "driver 535.1 serves CUDA 12.2, .* driver 580.65.06 .* built for 13.0: update",
        ),
    ],
)
def test_what_a_machine_lacks(
    gpus: Gpus | None, built_for: tuple[int, int] | None, needs: dict[str, int], message: str
) -> None:
    with pytest.raises(CheckFailed, match=message):
        check_gpus(gpus, built_for, needs)


def test_gpus_that_others_use_may_be_those_that_are_not_needed() -> None:
    assert check_gpus(replace(EIGHT, busy=4), (13, 0), {"models.seed": 4})


def test_a_newer_minor_version_of_cuda_needs_no_newer_driver() -> None:
    assert check_gpus(replace(EIGHT, driver=NvidiaDriver(version="535.1", cuda=(12, 2))), (12, 9), {})


CONF = Path(__file__).parents[2] / "conf"


def test_models_are_measured_against_the_real_memory() -> None:
    config = load([CONF / "paper.yaml"])
    assert check_memory(EIGHT, config, trains=False) == "all models fit on GPUs of 86 GB"
    with pytest.raises(CheckFailed, match=r"models.generator does not fit on GPUs of 24 GB: take larger machines"):
        check_memory(replace(EIGHT, memory_gb=24), config, trains=True)


def test_a_training_is_measured_too() -> None:
    """The weights of an 8B fit on a card of 24 GB. Only adapters can be trained there."""
    card = replace(EIGHT, names=("NVIDIA GeForce RTX 4090",), memory_gb=25.3)
    adapters, whole = (load([CONF / "laptop_gpu.yaml"], words) for words in ((), ("train.lora=null",)))
    assert check_memory(card, adapters, trains=True) == "all models and the training fit on GPUs of 25 GB"
    assert check_memory(card, whole, trains=False) == "all models fit on GPUs of 25 GB"
    refusal = r"the training of models.seed takes \d+ GB on each of train.workers=1 GPUs, which have 25 GB: .*train.lora"
    with pytest.raises(CheckFailed, match=refusal):
        check_memory(card, whole, trains=True)
