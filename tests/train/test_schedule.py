import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.train.schedule import learning_rate, warmup_steps
from stj.train_config import TrainConfig


def test_table_7_warm_up_and_cosine() -> None:
    config = TrainConfig()
    rates = [learning_rate(step, 1000, config) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-8)
    assert rates[99] == rates[100] == pytest.approx(1e-6)
    assert rates[550] == pytest.approx(0.6e-6, rel=0.01)
    assert rates[-1] == pytest.approx(0.2e-6)
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_a_warm_up_longer_than_the_run_leaves_its_last_step_at_the_peak() -> None:
    config = TrainConfig(warmup_steps=100)
    assert warmup_steps(10, config) == 9
    assert learning_rate(9, 10, config) == pytest.approx(1e-6)


@given(st.integers(1, 300), st.integers(0, 300))
def test_the_rate_is_always_above_zero_and_at_most_lr(total: int, warmup: int) -> None:
    config = TrainConfig(warmup_steps=warmup)
    assert all(0 < learning_rate(step, total, config) <= config.lr * (1 + 1e-12) for step in range(total))
