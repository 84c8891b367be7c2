"""What one pass does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stj.config import Config, ModelConfig, UseConfig
from stj.engine.hosted import MakeEngine
from stj.rows import Row
from stj.stages.runner import Stage


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass does: to whose weights, to which rows, by which stages."""

    name: str = "pass"
    """For whoever watches."""
    model: ModelConfig
    read: Callable[[], Iterator[Row]]
    """Reads the rows; called on the cluster."""
    stages: Mapping[str, Sequence[Stage]]
    """The chain of each task."""
    seed: int = 0
    """Where the engines' samplers begin."""
    make_engine: MakeEngine | None = None
    """Another engine than vLLM; called inside the actor."""
    total: int | None = None
    """How many rows `read` gives, where that is known."""
    limit: int | None = None
    """N of the first N rows that pass the instruction rule; rows beyond them become tombstones when the pass finishes."""
    dollars_per_engine_hour: float | None = None
    """For the ledger."""
    capacity_deadline_s: float = 1800
    """How long rows may wait for an engine that has no machine."""


def pass_under(
    config: Config | UseConfig,
    *,
    name: str,
    model: ModelConfig,
    read: Callable[[], Iterator[Row]],
    stages: Mapping[str, Sequence[Stage]],
    total: int | None = None,
    limit: int | None = None,
) -> Pass:
    """A pass with the seed, the price and the deadline of a config."""
    return Pass(
        name=name,
        model=model,
        read=read,
        stages=stages,
        total=total,
        limit=limit,
        seed=config.seed,
        dollars_per_engine_hour=config.dollars_per_engine_hour(model) if isinstance(config, Config) else None,
        capacity_deadline_s=config.ray.capacity_deadline_s,
    )
