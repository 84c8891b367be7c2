"""What is left of a pass that ends early: a trace in the log, and nothing that holds an engine."""

import logging
import weakref
from typing import Any

import pytest

from stj.config import EngineConfig, ModelConfig
from stj.errors import PassFailed
from stj.passes import run
from stj.passes.spec import Pass

SPEC = Pass(model=ModelConfig(path="scripted"), read=lambda: iter(()), stages={})
CONFIG = EngineConfig(device="cpu")


class Held:
    """Stands for an engine, and refers to itself as Ray Data's objects do."""

    def __init__(self) -> None:
        self.itself = self


def end_with(monkeypatch: pytest.MonkeyPatch, *errors: type[BaseException]) -> "weakref.ref[Held]":
    """Has the rows of a pass end with the first error, raised while the others are handled; returns what they hold."""
    held = [Held()]
    reference = weakref.ref(held[0])

    def raise_all(engine: Held, left: tuple[type[BaseException], ...]) -> None:
        try:
            if left[1:]:
                raise_all(engine, left[1:])
        finally:
            raise left[0]("no such row")

    def run_rows(*_: Any) -> None:
        raise_all(held.pop(), errors)

    monkeypatch.setattr(run, "_run_rows", run_rows)
    return reference


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_an_interrupt_holds_no_engine(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    engine = end_with(monkeypatch, error, ValueError)
    with pytest.raises(error) as caught:
        run._attempt_rows(SPEC, CONFIG, *[None] * 3)  # type: ignore[arg-type]
    assert isinstance(caught.value.__context__, ValueError)
    assert engine() is None


@pytest.mark.slow
def test_an_error_of_the_driver_is_one_line_and_its_trace_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "stj.passes.run")
    engine = end_with(monkeypatch, TypeError)
    failure = run._attempt_rows(SPEC, CONFIG, *[None] * 3)  # type: ignore[arg-type]
    assert isinstance(failure, PassFailed)
    assert str(failure) == "the engines could not finish the rows: no such row"
    assert failure.__traceback__ is None
    assert "in raise_all" in caplog.text
    assert "TypeError: no such row" in caplog.text
    assert engine() is None
