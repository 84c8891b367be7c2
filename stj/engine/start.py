"""Starts the engine of a model: vLLM in a process of its own, or the client of an API."""

import socket

from stj.config import EngineConfig, ModelConfig
from stj.engine.hosted import HostedEngine
from stj.errors import CheckFailed
from stj.generate import Engine
from stj.machine.driver import driver_fault_here
from stj.machine.needs import machine_words


async def start_pooling(model: ModelConfig, config: EngineConfig, scope: str | None) -> HostedEngine:
    """An engine that embeds texts. Raises as `start_engine` does."""
    _check_driver(config)
    return await HostedEngine.start(model, config, 0, scope, pools=True)


async def start_engine(model: ModelConfig, config: EngineConfig, seed: int, scope: str | None) -> Engine:
    """An engine that answers; `scope` is HostedEngine's.

    Raises CheckFailed if torch cannot use the machine's GPUs, and ModelError, ConfigError and CapacityError as the engine does.
    """
    if model.endpoint is None:
        _check_driver(config)
        return await HostedEngine.start(model, config, seed, scope)
    from stj.engine.endpoint import EndpointEngine  # the client takes a second to import

    return EndpointEngine(model)


def _check_driver(config: EngineConfig) -> None:
    """Raises CheckFailed if torch cannot use the machine's GPUs, and engines are to run there."""
    if config.device == "gpu" and (fault := driver_fault_here()):
        raise CheckFailed(f"{machine_words([socket.gethostname()])}: {fault}")
