"""The metrics of a step, as a line of metrics.jsonl and as a line for a reader.

Needs no torch, because the driver reads them too.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from stj.text import Part, duration, line_of


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """A line of metrics.jsonl: one step, over all ranks."""

    step: int
    """Counts from 1."""
    epoch: int
    loss: float
    """In nats; for `sft`, the mean over the step's supervised tokens."""
    preferred: float | None
    """Share of the step's pairs whose right judgment has gained more than the wrong one; None for `sft`."""
    lr: float
    grad_norm: float
    tokens_per_s: float
    """Tokens of examples, of all ranks together."""
    mfu: float | None = None
    """Share of the devices' peak (stj/train/flops.py); None if that is not known."""


def read_metrics(text: str) -> Iterator[StepMetrics]:
    """The steps of a metrics.jsonl, without a last line that a kill cut short and without lines that are damaged."""
    return (step for line in _whole_lines(text) if (step := _step(line)))


def last_metrics(text: str) -> StepMetrics | None:
    """The last step of a metrics.jsonl; None if there is none yet, or if its line is damaged."""
    lines = _whole_lines(text)
    return _step(lines[-1]) if lines else None


def step_line(metrics: StepMetrics, total: int, eta_s: float | None) -> str:
    """One step for a reader; `eta_s` is the time to the last step at the pace so far, in seconds."""
    return line_of(step_parts(metrics, total, eta_s))


def step_parts(metrics: StepMetrics, total: int, eta_s: float | None, checkpoint: int = 0) -> list[Part]:
    """The parts of that line, and the step from which the training would resume; 0 if there is no checkpoint."""
    parts = [Part(f"step {metrics.step}/{total}"), Part(f"loss {metrics.loss:.3f}")]
    if metrics.preferred is not None:
        parts.append(Part(f"preferred {metrics.preferred:.0%}", 4))
    parts += [Part(f"grad_norm {metrics.grad_norm:.2f}", 6), Part(f"lr {metrics.lr:.1e}", 7)]
    parts.append(Part(f"{metrics.tokens_per_s:,.0f} tok/s", 2))
    if metrics.mfu is not None:
        parts.append(Part(f"mfu {metrics.mfu:.0%}", 5))
    if checkpoint:
        parts.append(Part(f"checkpoint {checkpoint}", 3))
    if eta_s is not None:
        parts.append(Part(f"eta {duration(eta_s)}"))
    return parts


def _step(line: str) -> StepMetrics | None:
    """The step of a line; None if the line is damaged: no training is worth less for it."""
    try:
        return StepMetrics(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None


def _whole_lines(text: str) -> list[str]:
    return text.rpartition("\n")[0].splitlines()
