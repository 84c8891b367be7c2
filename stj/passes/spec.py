"""What one pass does: which rows go through which stages, and which model answers them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stj.config import Config, ModelConfig
from stj.engine.hosted import MakeEngine
from stj.machine.place import SharedPlace, place_in
from stj.passes.gate import RayGate
from stj.passes.ledger import Ledger
from stj.rows import Row
from stj.stages.runner import Stage
from stj.storage.folder import Folder
from stj.use_config import UseConfig


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One stream of rows through one set of weights."""

    name: str = "pass"
    """Name in the live line, the log and the metrics."""
    run: str = ""
    """The run's directory, for the metrics."""
    model: ModelConfig
    read: Callable[[], Iterator[Row]]
    """Reads the rows; runs on the cluster. With a `gate`: the training rows alone, by position, which counts from 0."""
    read_after: Callable[[], Iterator[Row]] | None = None
    """Reads rows of other tasks, which follow them and which no limit bounds."""
    stages: Mapping[str, Sequence[Stage]]
    """Chain of stages of each task."""
    seed: int = 0
    """Seed of the first engine's sampler."""
    make_engine: MakeEngine | None = None
    """Starts an engine other than vLLM; runs inside the actor."""
    total: int | None = None
    """Number of rows that `read` yields, if known."""
    limit: int | None = None
    """Number of rows that may pass the instruction rule. Rows beyond the last of them are not part of the result."""
    per_cluster: int | None = None
    """Number of rows of each cluster that may pass the instruction rule. Later ones are tombstones."""
    gate: RayGate | None = None
    """The gate that the stages ask about the limit: reading stops with it."""
    dollars_per_engine_hour: float | None = None
    """Price of one engine on our machines, for the ledger."""
    capacity_deadline_s: float = 1800
    """Longest wait of rows for an engine without a machine."""
    weights: str = ""
    """Identity of the weights as the driver knows them; engines refuse others. Empty: not compared."""
    place: SharedPlace | None = None
    """A directory that the machines of engines must see; None if only the driver works there."""

    def dollars(self, spent: Ledger) -> float | None:
        """The price of what was spent: of engine hours, or of an API's tokens. None if no price is known."""
        if prices := self.model.dollars_per_million_tokens:
            return (spent.usage.prompt_tokens * prices[0] + spent.usage.output_tokens * prices[1]) / 1e6
        return None if self.dollars_per_engine_hour is None else spent.engine_seconds / 3600 * self.dollars_per_engine_hour


def pass_under(
    config: Config | UseConfig,
    *,
    name: str,
    model: ModelConfig,
    read: Callable[[], Iterator[Row]],
    stages: Mapping[str, Sequence[Stage]],
    read_after: Callable[[], Iterator[Row]] | None = None,
    total: int | None = None,
    limit: int | None = None,
    per_cluster: int | None = None,
    gate: RayGate | None = None,
) -> Pass:
    """A pass with the seed, the price and the deadline of a config."""
    return Pass(
        name=name,
        run=config.run_root or "",
        model=model,
        read=read,
        read_after=read_after,
        stages=stages,
        total=total,
        limit=limit,
        per_cluster=per_cluster,
        gate=gate,
        seed=config.seed,
        dollars_per_engine_hour=config.dollars_per_engine_hour(model) if isinstance(config, Config) else None,
        capacity_deadline_s=config.ray.capacity_deadline_s,
        place=place_in(Folder.at(config.run_root)) if isinstance(config, Config) else None,
    )
