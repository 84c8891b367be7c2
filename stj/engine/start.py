"""Starts the engine of a model: vLLM in a process of its own, or the client of an API."""

from stj.config import EngineConfig, ModelConfig
from stj.engine.hosted import HostedEngine
from stj.generate import Engine


async def start_engine(model: ModelConfig, config: EngineConfig, seed: int, scope: str | None) -> Engine:
    """An engine that answers; `scope` is HostedEngine's.

    Raises ModelError, ConfigError and CapacityError as the engine does.
    """
    if model.endpoint is None:
        return await HostedEngine.start(model, config, seed, scope)
    from stj.engine.endpoint import EndpointEngine  # the client takes a second to import

    return EndpointEngine(model)
