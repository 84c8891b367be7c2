"""What a run and its passes show to Ray, without a Ray."""

from typing import Any

import pytest

from stj.generate import Usage
from stj.monitoring import PASS_METRICS, RUN_METRICS
from stj.passes.ledger import Ledger
from stj.passes.metrics import PassMetrics, RunMetrics
from stj.passes.progress import Progress
from stj.passes.registry import EngineStates, PassRegistry

Shown = dict[tuple[str, ...], float]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """The values of all metrics, by name and labels other than run and pass."""
    values: Shown = {}

    class Kept:
        def __init__(self, name: str, words: str, labels: tuple[str, ...]) -> None:
            self.name, self.labels = name, labels

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert tags.keys() == set(self.labels)
            values[(self.name, *(tags[label] for label in self.labels if label not in ("run", "pass")))] = value

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert value > 0
            key = (self.name, *(tags[label] for label in self.labels if label not in ("run", "pass")))
            values[key] = values.get(key, 0) + value

    monkeypatch.setattr("ray.util.metrics.Gauge", Kept)
    monkeypatch.setattr("ray.util.metrics.Counter", Kept)
    return values


def test_a_run_shows_its_phase_and_how_many_are_left(shown: Shown) -> None:
    metrics = RunMetrics("/runs/mini", 2)
    with metrics.phase("pairs"):
        assert shown["stj_run_phase", "pairs"] == 1
    assert (shown["stj_run_phase", "pairs"], shown["stj_run_phases", "done"], shown["stj_run_phases", "left"]) == (0, 1, 1)
    with pytest.raises(KeyError), metrics.phase("model"):
        raise KeyError
    assert (shown["stj_run_phase", "model"], shown["stj_run_phases", "left"]) == (0, 1)
    assert {name for name, *_ in shown} == {metric.name for metric in RUN_METRICS}


def test_a_pass_shows_all_its_metrics_and_an_end(shown: Shown) -> None:
    metrics = PassMetrics("pairs", "/runs/mini")
    progress = Progress(name="pairs", total=9, done=4, dropped=2, in_flight=3, tokens_per_s=7, draws=6, kept=2, eta_s=5)
    progress.judged["Coding"], progress.accepted["Coding"] = 4, 2
    metrics.show(progress)
    for starts, seconds in ((2, 10.0), (2, 10.0), (3, 12.0)):
        metrics.show_engines(EngineStates(waiting=1, starting=0, running=2, starts=starts))
        usage = Usage(prompt_tokens=30, computed_tokens=20, output_tokens=int(seconds))
        metrics.show_cost(Ledger(engine_seconds=seconds, usage=usage), 0.5)
    assert shown["stj_pass_engine_starts",] == 3
    assert (shown["stj_pass_engine_seconds",], shown["stj_pass_tokens", "output"]) == (12, 12)
    assert (shown["stj_pass_rows", "dropped"], shown["stj_pass_rows", "total"]) == (2, 9)
    assert shown["stj_pass_accepted", "Coding"] == 0.5
    assert {name for name, *_ in shown} == {metric.name for metric in PASS_METRICS}
    metrics.end()
    assert shown["stj_pass_rows", "in_flight"] == shown["stj_pass_engines", "running"] == shown["stj_pass_eta_s",] == 0
    assert shown["stj_pass_rows", "done"] == 4


def test_engines_wait_start_run_and_fall_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("stj.passes.registry.time.monotonic", lambda: clock[0])
    registry: Any = PassRegistry()
    assert registry.engine_states() == EngineStates(waiting=0, starting=0, running=0, starts=0)
    registry.record_engines(1, 3)
    registry.record_start_attempt("a")
    registry.record_start_attempt("b")
    assert registry.engine_states() == EngineStates(waiting=1, starting=2, running=0, starts=2)
    registry.record_spending("a", Ledger())
    assert registry.engine_states() == EngineStates(waiting=1, starting=1, running=1, starts=2)
    clock[0] += 60
    assert registry.engine_states() == EngineStates(waiting=1, starting=2, running=0, starts=2)
