"""Texts through engines that embed: actors on the machines of engines, and batches that run a little ahead of their reader.

A pass (stj/passes/run.py) commits rows, because each row is a result. Here only all vectors together are one: curation decides
about every row by its neighbours, and is made again as a whole. So batches of texts go straight to the actors, and come back in
order. Ray starts an actor again whose engine died, and asks it again. Engines tell the registry what they cost, as in a pass.
"""

import asyncio
import itertools
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self

import ray
from ray.exceptions import RayActorError, RayError

from stj.config import EngineConfig, ModelConfig
from stj.curating.embedding import Vectors, usable_vectors
from stj.curation import EMBEDDING_MODEL
from stj.engine.hosted import HostedEngine
from stj.engine.start import start_pooling
from stj.engine.wire import Embedded
from stj.errors import CapacityError, PassFailed, RequestFailed, StjError
from stj.generate import Usage
from stj.machine.needs import MachineNeeds
from stj.models.pooling import refuse_other_files
from stj.passes.actor import earlier_starts
from stj.passes.cluster_machines import machines_of_cluster
from stj.passes.driver_actor import driver_actor
from stj.passes.ledger import Ledger
from stj.passes.node_check import refuse_unfit_node
from stj.passes.nodes import live_nodes
from stj.passes.ray_private import has_process
from stj.passes.registry import PassRegistry
from stj.passes.restarts import EngineRestart
from stj.passes.run import error_for_user
from stj.passes.session import engine_demand

log = logging.getLogger(__name__)

_BATCHES_AHEAD = 3  # For each engine: it computes one while the next waits beside it and a third is read.
_TRIES_A_DEATH = 3  # Ray also counts the tries that find an actor not yet back.
_LOOK_S = 2.0
_HEARTBEAT_S = 1.0
_PLACING_S = 10.0  # Never wait less for a machine: a cluster with free ones may need this long to place an engine.


class Pooling(Protocol):
    """An engine that embeds."""

    async def embed(self, texts: Sequence[str]) -> Embedded: ...

    @property
    def usage(self) -> Usage: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec:
    """The engines that embed."""

    model: ModelConfig
    identity: str
    """What the driver found the model's files to be; engines refuse others. Empty: not compared."""
    config: EngineConfig
    capacity_deadline_s: float
    """Longest wait for the machine of an engine."""
    make_engine: Callable[[ModelConfig, EngineConfig], Coroutine[Any, Any, Pooling]] | None = None
    """Starts an engine other than vLLM; runs inside the actor."""


class EmbeddingActor:
    """One engine that embeds. It starts with the first call, also after Ray has started the actor again."""

    def __init__(self, spec: EmbeddingSpec, registry: Any) -> None:
        self._spec, self._registry = spec, registry
        self._engine: Pooling | None = None
        self._starting = asyncio.Lock()
        self._began, self._name = time.monotonic(), uuid.uuid4().hex

    async def start(self) -> None:
        """Starts the engine, unless it runs. Raises what the start of an engine does, and PassFailed if each start kills it."""
        async with self._starting:
            if self._engine is None:
                self._engine = await self._started()
                self._beating = asyncio.create_task(self._heartbeat())

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of texts."""
        await self.start()
        assert self._engine is not None, "it was started"
        embedded = await self._engine.embed(texts)
        await self._report()  # the driver must not have vectors before the registry knows their cost
        return embedded

    async def close(self) -> None:
        """Ends the engine's processes, and with them what they hold of a GPU."""
        if self._engine:
            await self._report()
            self._engine.close()

    async def _heartbeat(self) -> NoReturn:
        while True:
            await self._report()
            await asyncio.sleep(_HEARTBEAT_S)

    async def _report(self) -> None:
        """Tells the registry what this engine has cost since its start."""
        assert self._engine is not None, "it was started"
        spent = Ledger(engine_seconds=time.monotonic() - self._began, usage=self._engine.usage)
        await self._registry.record_spending.remote(self._name, spent)

    async def _started(self) -> Pooling:
        spec, context = self._spec, ray.get_runtime_context()
        await asyncio.to_thread(earlier_starts, self._registry, spec.config)
        if packages := await self._registry.packages_for.remote(context.get_node_id()):
            refuse_unfit_node(MachineNeeds(packages=packages))
        if spec.identity:
            await asyncio.to_thread(refuse_other_files, spec.model, spec.identity)
        for attempt in itertools.count(1):
            try:
                engine = await (spec.make_engine or _scoped_engine)(spec.model, spec.config)
                break
            except CapacityError as error:
                if attempt >= spec.config.start_attempts:
                    raise
                await self._registry.record_failed_start.remote(str(error), spec.config.start_attempts)
        if isinstance(engine, HostedEngine):
            engine.on_death = self._record_death
        await self._registry.record_start.remote()
        return engine

    def _record_death(self, cause: str) -> None:
        """Leaves word of the engine's death; this process ends next, and Ray starts it again."""
        with suppress(RayError):
            ray.get(self._registry.record_death.remote(ray.get_runtime_context().get_actor_id(), cause), timeout=_LOOK_S)


class EngineEmbedding:
    """Embeds the instructions of a run by engines on its cluster, from `with` on until its end."""

    def __init__(self, spec: EmbeddingSpec) -> None:
        self._spec = spec
        self._engines: list[Any] = []
        self._restarts: list[EngineRestart] = []
        self.cut: int = 0
        """Texts that were longer than the model reads, so far."""
        self.dimensions = 0
        self._spent = Ledger()

    @property
    def spent(self) -> Ledger:
        """What the engines have cost so far, or had at their end; what is known if the registry does not answer."""
        if self._engines:
            with suppress(RayError):
                _, self._spent = ray.get(self._registry.snapshot.remote(), timeout=_LOOK_S)
        return self._spent

    def __enter__(self) -> Self:
        """Starts engines and waits for the first.

        Raises CapacityError if no machine can be had for it, and as the start of an engine does.
        """
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def embed_all(self, batches: Iterable[Sequence[str]]) -> Iterator[Vectors]:
        """The vectors of each batch, in order. At most three batches of each engine are in memory.

        The engines end with the last batch: what is made of the vectors needs none, and may take minutes.

        Raises PassFailed if an engine dies again and again, and ConfigError if vectors cannot be used.
        """
        waiting = deque[tuple[Any, Any]]()
        turns = itertools.cycle(self._engines)
        for batch in batches:
            if len(waiting) >= _BATCHES_AHEAD * len(self._engines):
                yield self._vectors(*waiting.popleft())
            engine = next(turns)
            waiting.append((engine, engine.embed.remote(list(batch))))
        while waiting:
            yield self._vectors(*waiting.popleft())
        self._end()

    def tells_apart(self, text: str) -> bool:
        """What a model reads is its user's choice."""
        return True

    def _start(self) -> None:
        config, model = self._spec.config, self._spec.model
        self._registry = driver_actor(PassRegistry, ray.get_runtime_context().get_node_id())
        most = max(config.min_replicas, machines_of_cluster().at_once(engine_demand(config, [model]), config.max_replicas))
        self._engines = [self._actor() for _ in range(most)]
        starts = {engine.start.remote(): engine for engine in self._engines}
        started = self._ended(starts)
        first = starts[started]
        self._result(started)
        for engine in self._engines:
            if engine is not first and not has_process(engine):
                ray.kill(engine)  # its batches would wait for a machine, and all later ones for them
        self._engines = [engine for engine in self._engines if engine is first or has_process(engine)]
        self.dimensions = self._embedded(first, first.embed.remote(["a text"])).vectors.shape[1]

    def _actor(self) -> Any:
        spec, config = self._spec, self._spec.config
        remote = ray.remote(
            num_cpus=config.cpus_per_replica,
            num_gpus=spec.model.gpus if config.device == "gpu" else 0,
            label_selector=dict(config.place) or None,
            max_concurrency=2 * _BATCHES_AHEAD,
            max_restarts=-1,
            max_task_retries=_TRIES_A_DEATH * config.start_attempts,  # of each batch: texts that end every engine end the run
        )
        return remote(EmbeddingActor).remote(spec, self._registry)

    def _vectors(self, engine: Any, call: Any) -> Vectors:
        embedded = self._embedded(engine, call)
        self.cut += embedded.cut
        return usable_vectors(embedded.vectors, f"{EMBEDDING_MODEL}={self._spec.model.path}", self.dimensions)

    def _embedded(self, engine: Any, call: Any) -> Embedded:
        embedded: Embedded = self._result(self._ended({call: engine}))
        return embedded

    def _result(self, call: Any) -> Any:
        """The result of a call that has ended. Raises the error for the user."""
        try:
            return ray.get(call)
        except RayActorError:
            causes = [restart.cause for restart in self._restarts if restart.cause]
            why = f" ({causes[-1]})" if causes else ""
            failure: StjError = PassFailed(
                f"an engine that embeds died again and again with the same texts{why}; if memory is short, lower "
                f"{EMBEDDING_MODEL}.max_model_len or engine.max_num_seqs"
            )
        except Exception as error:
            failure = error_for_user(error).with_traceback(None)
            if isinstance(failure, RequestFailed):
                failure = PassFailed(f"{EMBEDDING_MODEL}={self._spec.model.path}: its engine refused a text: {failure}")
        failure.__context__ = failure.__cause__ = None
        raise failure

    def _ended(self, calls: Mapping[Any, Any]) -> Any:
        """The call that ends first, of calls with the engines that they ask.

        Raises CapacityError if for too long none of these engines has a machine.
        """
        deadline_s, homeless_since = max(self._spec.capacity_deadline_s, _PLACING_S), None
        while True:
            ended, _ = ray.wait(list(calls), timeout=_LOOK_S)
            self._log_restarts()
            if ended:
                return ended[0]
            if any(map(has_process, calls.values())):
                homeless_since = None
            elif homeless_since is None:
                homeless_since = time.monotonic()
            elif time.monotonic() - homeless_since >= deadline_s:
                raise CapacityError(
                    f"an engine that embeds found no room within ray.capacity_deadline_s={self._spec.capacity_deadline_s:g} s: "
                    "add machines and run the same command again"
                )

    def _log_restarts(self) -> None:
        new = ray.get(self._registry.restarts.remote(len(self._restarts)))
        for restart in new:
            log.warning("%s", restart.line([node["NodeID"] for node in live_nodes()]))
        self._restarts += new

    def _end(self) -> None:
        """Ends the engines, and their actors: the next pass takes their machines."""
        if not self._engines:  # none was started
            return
        with suppress(RayError):
            ray.wait([engine.close.remote() for engine in self._engines], num_returns=len(self._engines), timeout=_LOOK_S)
        _, engines = self.spent, self._engines
        self._engines = []
        for engine in engines:
            ray.kill(engine)


async def _scoped_engine(model: ModelConfig, config: EngineConfig) -> Pooling:
    context = ray.get_runtime_context()
    return await start_pooling(model, config, scope=f"{context.get_job_id()} {context.get_node_id()}")
