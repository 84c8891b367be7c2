"""The engine's actor of a pass: one engine, and the rows that run their stages on it."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, NoReturn

import pyarrow as pa
import ray

from stj.config import EngineConfig, ModelConfig
from stj.engine.hosted import HostedEngine
from stj.engine.load import EngineLoad
from stj.errors import PassFailed
from stj.generate import Engine
from stj.passes.ledger import Ledger
from stj.passes.source import sealed
from stj.passes.spec import Pass
from stj.rows import Row, row_from_dict, rows_to_table
from stj.stages.runner import run_stages

_TRIES = 3  # of a row with which engines die; the last one alone
_SUSPECTS = 8  # the part of an engine that rows may take with which one has died: so that few are left to be tried alone
_HEARTBEAT_S = 1.0


class PassActor:
    """One engine, and the rows that are on it. Ray Data makes and calls it, from several threads at once."""

    def __init__(self, spec: Pass, config: EngineConfig, ward: Any) -> None:
        pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what each of many threads has ever held
        self._stages = spec.stages
        self._ward = ward
        self._started = time.monotonic()
        self._name = uuid.uuid4().hex
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="engine-loop", daemon=True).start()
        self._slots = asyncio.Semaphore(config.rows_in_flight)
        self._all_slots = config.rows_in_flight
        self._suspects = asyncio.Semaphore(max(1, config.rows_in_flight // _SUSPECTS))
        self._one_alone = asyncio.Lock()
        self._notes = _Notes(ward, ray.get_runtime_context().get_node_id())
        seed = spec.seed + _starts_before(ward, config)  # engines of one seed would draw alike
        made = (spec.make_engine or _vllm_engine)(spec.model, config, seed)
        self._engine = asyncio.run_coroutine_threadsafe(made, self._loop).result()
        ward.started.remote()
        self._load = EngineLoad(self._engine, config.max_num_seqs)
        asyncio.run_coroutine_threadsafe(self._load.watch(), self._loop)
        asyncio.run_coroutine_threadsafe(self._account(), self._loop)

    def __call__(self, block: pa.Table) -> pa.Table:
        """The rows of a block, finished and sealed.

        They are given back together, in one cell: of a table that is larger than its blocks are to be Ray Data makes several
        outputs, and were this engine to die between two of them, Ray would ask another one for the whole block and pass over
        as many outputs as it has had, whatever rows were in them. Nothing here waits on the event loop, so that a slow
        consumer never blocks the engine's.
        """
        rows = [row_from_dict(record) for record in block.to_pylist()]
        deaths = self._deaths(rows)
        running = [asyncio.run_coroutine_threadsafe(self._run(*each), self._loop) for each in zip(rows, deaths, strict=True)]
        finished = sealed(rows_to_table([one.result() for one in running]))
        self._report()
        asyncio.run_coroutine_threadsafe(self._notes.flush(), self._loop)
        return finished

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()

    def _deaths(self, rows: Sequence[Row]) -> list[int]:
        """How many engines died with each row; that an engine went with its whole machine is not its rows' doing."""
        machines = ray.get(self._ward.deaths.remote([row.id for row in rows]))
        there = {node["NodeID"] for node in ray.nodes() if node["Alive"]} if any(machines) else set()
        return [sum(machine in there for machine in one) for one in machines]

    async def _run(self, row: Row, deaths: int) -> Row:
        if deaths >= _TRIES:
            return replace(row, error=f"quarantined: an engine died {deaths} times with this row on it, the last time alone")
        async with self._place(deaths):
            await self._notes.begin(row.id)
            row = await run_stages(row, self._stages[row.task], self._load.ask, self._load.room)
            self._notes.end(row.id)
        return row

    async def _account(self) -> NoReturn:
        while True:
            self._report()
            await self._notes.flush()
            await asyncio.sleep(_HEARTBEAT_S)

    def _report(self) -> None:
        spent = Ledger(engine_seconds=time.monotonic() - self._started, usage=self._engine.usage)
        self._ward.report.remote(self._name, spent)

    @asynccontextmanager
    async def _place(self, deaths: int) -> AsyncIterator[None]:
        """Room for a row that so many engines have died with."""
        if deaths == _TRIES - 1:
            async with self._alone():
                yield
        else:
            async with AsyncExitStack() as places:
                if deaths:
                    await places.enter_async_context(self._suspects)
                await places.enter_async_context(self._slots)
                yield

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """The engine for one row, so that nobody else is suspected if it dies."""
        async with self._one_alone, AsyncExitStack() as slots:
            for _ in range(self._all_slots):
                await slots.enter_async_context(self._slots)
            yield


class _Notes:
    """What is to be noted of rows: rows that begin in the same moment are one call, for whole blocks do."""

    def __init__(self, ward: Any, node: str) -> None:
        self._ward = ward
        self._node = node
        self._begun: list[str] = []
        self._ended: list[str] = []
        self._noting: asyncio.Task[None] | None = None

    async def begin(self, row_id: str) -> None:
        """Returns when it is noted that the row begins: from here on its engine may die of it."""
        self._begun.append(row_id)
        if self._noting is None:
            self._noting = asyncio.create_task(self._note())
        await self._noting

    def end(self, row_id: str) -> None:
        """Has it noted with the next row that begins, or soon."""
        self._ended.append(row_id)

    async def _note(self) -> None:
        await asyncio.sleep(0)  # whoever begins now is in it too
        self._noting = None
        await self.flush()

    async def flush(self) -> None:
        """Notes what there is."""
        begun, ended = self._begun, self._ended
        self._begun, self._ended = [], []
        await self._ward.note.remote(self._node, begun, ended)


def _starts_before(ward: Any, config: EngineConfig) -> int:
    """How many starts of engines there were before this one of the pass.

    Raises PassFailed where an engine's process was killed by each of its starts: Ray would start that without end. What a
    constructor raises is bounded by Ray Data; what kills its process, as the kernel does when memory is short, is not.
    """
    before, times = ray.get(ward.starting.remote(ray.get_runtime_context().get_actor_id()))
    if times > config.start_attempts:
        raise PassFailed(
            f"an engine's process was killed in each of engine.start_attempts={config.start_attempts} starts; where that is "
            "for want of memory, lower engine.kv_cache_gib or gpu_memory_utilization, or give it a larger machine"
        )
    return int(before)


async def _vllm_engine(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    context = ray.get_runtime_context()
    return await HostedEngine.start(model, config, seed, scope=f"{context.get_job_id()} {context.get_node_id()}")
