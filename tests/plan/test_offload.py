"""The host's part in a training with train.offload=optimizer, against bytes over bandwidths."""

from dataclasses import replace
from pathlib import Path

import pytest

from stj.cluster_config import HardwareConfig
from stj.config_loader import load
from stj.plan import Plan, plan
from stj.plan.offload import HostTimes
from stj.train_config import TrainConfig

CONF = Path(__file__).parents[2] / "conf"
SMALL = TrainConfig(workers=1, offload="optimizer", gradient_accumulation=8)
ONE_H100 = HardwareConfig(gpus=1, pcie_gbs=50, host_gbs=100)


def planned(*words: str, file: str = "small.yaml") -> Plan:
    return plan(load([CONF / file], words))


def test_a_step_of_an_8b_by_hand() -> None:
    """Sums of gradients go to the GPU and back in each micro-step. The update takes 28 bytes a weight, and rounding 6."""
    training = planned("train.max_num_tokens=8192", "train.gradient_accumulation=8").phases[-1]
    computing = 8192 * (8 * 8.03e9 + 16 * 32 * 4096 * 2274) / (989e12 * 0.56) * (1 + 600 / 8192)
    exchange = 8 * 8.03 / (50 * 0.8)
    update = 6 * 8.03 / (50 * 0.8) + 34 * 8.03 / (100 * 0.5)
    seconds = training.steps * (8 * (exchange + 0.3 * computing) + update)
    assert (training.hours or 0) * 3600 == pytest.approx(seconds, rel=0.01)
    assert training.bound == "host"
    idle = training.steps * (8 * (exchange - 0.7 * computing) + update)
    assert training.waiting * 3600 == pytest.approx(idle, rel=0.01)
    assert "50 GB/s between a GPU and its host, 100 GB/s of the host's memory" in planned().lines()[-1]


def test_few_and_long_micro_steps_exchange_less() -> None:
    long, short = planned(), planned("train.max_num_tokens=8192", "train.gradient_accumulation=8")
    assert long.phases[-1].tokens_in == pytest.approx(short.phases[-1].tokens_in)
    assert 0.6 < (long.phases[-1].hours or 0) / (short.phases[-1].hours or 1) < 0.8


def test_without_an_offloaded_optimizer_the_host_takes_no_time() -> None:
    assert HostTimes.of(8_030_000_000, 1, replace(SMALL, offload="none"), ONE_H100) == HostTimes()
    slow = ("hardware.pcie_gbs=1", "hardware.host_gbs=1")
    assert planned(*slow, file="paper.yaml").phases[-1].hours == planned(file="paper.yaml").phases[-1].hours
    assert "the host's memory" not in planned(file="paper.yaml").lines()[-1]


def test_machines_update_their_parts_at_the_same_time() -> None:
    one, four = (HostTimes.of(70_550_000_000, n, replace(SMALL, workers=8 * n), ONE_H100) for n in (1, 4))
    assert one.exchange == pytest.approx(4 * four.exchange)
    assert one.update == pytest.approx(4 * four.update)


def test_adapters_on_the_host_take_nearly_nothing() -> None:
    whole, adapters = planned(), planned("train.lora={}")
    assert (adapters.phases[-1].waiting, adapters.phases[-1].bound) == (pytest.approx(0, abs=0.01), "compute")
    assert whole.phases[-1].waiting > 0.2
