"""A damaged metrics.jsonl loses the lines that are damaged, and no training."""

import json
from dataclasses import asdict

import pytest

from stj.train.metrics import StepMetrics, last_metrics, read_metrics


def steps(count: int) -> list[StepMetrics]:
    facts = {"epoch": 1, "loss": 0.5, "preferred": None, "lr": 1e-5, "grad_norm": 1.0, "tokens_per_s": 9.0}
    return [StepMetrics(step=number, **facts) for number in range(1, count + 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize("damaged", ['{"step": 2', "[2]", "null", '{"stap": 2}', '"\ufffd', "[" * 100_000])
def test_a_damaged_line_is_left_out(damaged: str) -> None:
    first, second, third = (json.dumps(asdict(step)) for step in steps(3))
    whole = [step.step for step in read_metrics(f"{first}\n{damaged}\n{third}\n")]
    assert whole == [1, 3]
    assert last_metrics(f"{first}\n{second}\n{damaged}\n") is None
    assert last_metrics(f"{first}\n{second}\n{third[:9]}") == steps(2)[1]
