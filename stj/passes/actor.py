"""The actor of a pass: one engine, and the rows that run their stages on it."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, NoReturn

import pyarrow as pa
import ray
from ray.exceptions import RayError

from stj.config import EngineConfig, ModelConfig
from stj.engine.hosted import HostedEngine
from stj.engine.load import EngineLoad
from stj.engine.start import start_engine
from stj.errors import CheckFailed, ConfigError, EndpointError, ModelError, PassFailed, StjError, StorageFailed
from stj.generate import Engine
from stj.machine.needs import MachineNeeds
from stj.models.digests import refuse_other_weights
from stj.passes.ledger import Ledger
from stj.passes.node_check import refuse_unfit_node
from stj.passes.nodes import live_nodes
from stj.passes.source import SEALED, seal, unseal
from stj.passes.spec import Pass
from stj.rows import Row, row_from_dict, rows_to_table
from stj.stages.runner import RequestSeeds, run_stages

_TRIES = 3  # Quarantine a row after this many engine deaths; on its last try it has the engine alone.
_SUSPECT_SHARE = 8  # Rows that an engine died with take 1/8 of the next engine: few are left to be tried alone.
_HEARTBEAT_S = 1.0
_LAST_WORDS_S = 5.0  # Seconds for the registry to take the cause of an engine's death; then the actor ends without.


class PassActor:
    """One engine and the rows on it. Ray Data creates it and calls it from several threads at once."""

    def __init__(self, spec: Pass, config: EngineConfig, registry: Any) -> None:
        pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own pool keeps the peak of each of its many threads
        self._stages = spec.stages
        self._gate = spec.gate
        self._seed, self._deterministic = spec.seed, config.deterministic
        self._registry = registry
        self._started = time.monotonic()
        self._name = uuid.uuid4().hex
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        self._slots = EngineSlots(config.rows_in_flight)
        self._actor, node = ray.get_runtime_context().get_actor_id(), ray.get_runtime_context().get_node_id()
        self._journal = RowJournal(registry, node)
        seed = spec.seed + earlier_starts(registry, config)  # engines with the same seed would draw the same samples
        self._refusal: StjError | None = None
        try:
            if packages := ray.get(registry.packages_for.remote(node)):
                refuse_unfit_node(MachineNeeds(packages=packages, place=spec.place))
            if spec.weights:
                refuse_other_weights(spec.model, spec.weights)
            starting = (spec.make_engine or _scoped_engine)(spec.model, config, seed)
            self._engine = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        except (CheckFailed, ConfigError, ModelError, StorageFailed) as error:
            self._refusal = error  # Ray Data would start an actor again whose constructor raises; the first call raises this
            return
        except StjError as error:
            ray.get(registry.record_failed_start.remote(str(error), config.start_attempts))
            raise
        if isinstance(self._engine, HostedEngine):
            self._engine.on_death = self._record_death
        registry.record_start.remote()
        self._load = EngineLoad(self._engine, config.slots)
        if not spec.model.endpoint:  # an API has room at any time, and each surplus sample has its price
            asyncio.run_coroutine_threadsafe(self._load.watch(), self._loop)
        asyncio.run_coroutine_threadsafe(self._heartbeat(), self._loop)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Runs the rows in the cells of a block and returns them together, sealed in one cell.

        Ray Data splits a table above its block size into several outputs. If this engine died between two of them, Ray would
        ask another engine for the whole block. It would skip as many outputs as it already has, whichever rows they hold.

        This never runs on the event loop, so a slow consumer never blocks the engine.

        Raises CheckFailed, ConfigError or ModelError if the engine did not start, and no other start would succeed.
        """
        if self._refusal:
            raise self._refusal
        rows = [row_from_dict(record) for cell in block[SEALED] for record in unseal(cell).to_pylist()]
        tries = zip(rows, self._engine_deaths(rows), strict=True)
        running = [asyncio.run_coroutine_threadsafe(self._run(row, deaths), self._loop) for row, deaths in tries]
        finished = seal([rows_to_table([future.result() for future in running])])
        reporting = asyncio.run_coroutine_threadsafe(self._report(), self._loop)
        reporting.result()  # the driver must not have a row before the registry knows its cost and that it has ended
        return finished

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()

    def _record_death(self, cause: str) -> None:
        """Leaves word of the engine's death; this process ends next, and Ray restarts it."""
        with suppress(RayError):
            ray.get(self._registry.record_death.remote(self._actor, cause), timeout=_LAST_WORDS_S)

    def _engine_deaths(self, rows: Sequence[Row]) -> list[int]:
        """How many engines died with each row, not counting those lost with their whole machine: no row causes that."""
        machines = ray.get(self._registry.engine_deaths.remote([row.id for row in rows]))
        alive = {node["NodeID"] for node in live_nodes()} if any(machines) else set()
        return [sum(machine in alive for machine in machines_of_row) for machines_of_row in machines]

    async def _run(self, row: Row, deaths: int) -> Row:
        row = await self._outcome(row, deaths)
        if self._gate is not None:  # the driver must not have a row whose end the gate does not know
            await self._gate.ended(row)
        return row

    async def _outcome(self, row: Row, deaths: int) -> Row:
        if deaths >= _TRIES:
            return replace(row, error=f"quarantined: an engine died {deaths} times with this row on it, the last time alone")
        async with self._slots.for_row(deaths):
            await self._journal.begin(row.id)
            seeds = RequestSeeds(self._seed, row.id) if self._deterministic else None
            try:
                row = await run_stages(row, self._stages[row.chain], self._load.ask, self._load.room, seeds)
            except EndpointError as error:  # the driver ends the pass, when it has the rows that were answered before
                await self._registry.record_refusal.remote(str(error))
                row = replace(row, error=str(error))
            self._journal.end(row.id)
        return row

    async def _heartbeat(self) -> NoReturn:
        while True:
            await self._report()
            await asyncio.sleep(_HEARTBEAT_S)

    async def _report(self) -> None:
        spent = Ledger(engine_seconds=time.monotonic() - self._started, usage=self._engine.usage)
        await self._registry.record_spending.remote(self._name, spent)
        await self._journal.flush()


class EngineSlots:
    """The places for rows on an engine. The more engines died with a row, the fewer rows run beside it."""

    def __init__(self, rows_in_flight: int) -> None:
        self._count = rows_in_flight
        self._slots = asyncio.Semaphore(rows_in_flight)
        self._suspects = asyncio.Semaphore(max(1, rows_in_flight // _SUSPECT_SHARE))
        self._whole_engine_lock = asyncio.Lock()

    @asynccontextmanager
    async def for_row(self, deaths: int) -> AsyncIterator[None]:
        """Holds a place for a row that `deaths` engines died with."""
        async with AsyncExitStack() as held:
            if deaths == _TRIES - 1:
                await self._take_whole_engine(held)
            else:
                if deaths:
                    await held.enter_async_context(self._suspects)
                await held.enter_async_context(self._slots)
            yield

    async def _take_whole_engine(self, held: AsyncExitStack) -> None:
        """Takes all places, so that no other row is suspected if the engine dies."""
        await held.enter_async_context(self._whole_engine_lock)
        for _ in range(self._count):
            await held.enter_async_context(self._slots)


class RowJournal:
    """Records in the registry which rows are on this engine. Rows that begin together share one call, as whole blocks do."""

    def __init__(self, registry: Any, node: str) -> None:
        self._registry = registry
        self._node = node
        self._begun: list[str] = []
        self._ended: list[str] = []
        self._begin_call: asyncio.Task[None] | None = None

    async def begin(self, row_id: str) -> None:
        """Returns when the row's start is recorded: from then on the row may be what kills the engine."""
        self._begun.append(row_id)
        if self._begin_call is None:
            self._begin_call = asyncio.create_task(self._record_begun())
        await self._begin_call

    def end(self, row_id: str) -> None:
        """Records the row's end, together with the next row that starts or the next flush."""
        self._ended.append(row_id)

    async def _record_begun(self) -> None:
        await asyncio.sleep(0)  # rows that begin now join this call
        self._begin_call = None
        await self.flush()

    async def flush(self) -> None:
        """Records all starts and ends of rows up to now."""
        begun, ended = self._begun, self._ended
        self._begun, self._ended = [], []
        await self._registry.record_rows.remote(self._node, begun, ended)


def earlier_starts(registry: Any, config: EngineConfig) -> int:
    """The number of engine starts of this pass before this one.

    Raises PassFailed if each start killed the engine's process: Ray would restart it forever. Ray Data limits how often a
    constructor may raise, but not how often its process may be killed. The kernel kills processes if memory is short.
    """
    context = ray.get_runtime_context()
    starting = registry.record_start_attempt.remote(context.get_actor_id(), context.get_node_id(), config.start_attempts)
    earlier, attempts = ray.get(starting)
    if attempts > config.start_attempts:
        raise PassFailed(
            f"an engine's process was killed in each of engine.start_attempts={config.start_attempts} starts; if memory is "
            "short, lower engine.kv_cache_gib or gpu_memory_utilization, or use a larger machine"
        )
    return int(earlier)


async def _scoped_engine(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    context = ray.get_runtime_context()
    return await start_engine(model, config, seed, scope=f"{context.get_job_id()} {context.get_node_id()}")
