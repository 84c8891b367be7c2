"""A pass: one stream of rows through one set of weights, into an artifact.

This is the only place where rows meet Ray Data and engines. Rows are read as they are needed, each runs its chain of stages
as a coroutine on the engine of one actor, and vLLM's continuous batching does the rest. Rows arrive in any order and are
committed as they come; whatever that order could decide is decided by position and id instead.
"""

import asyncio
import logging
import math
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NoReturn

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data.block import BlockMetadata
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stj import errors
from stj.artifacts import Artifact
from stj.blockstats import ForgetBlockStats
from stj.capacity import CapacityWatch
from stj.commit import Writer
from stj.config import EngineConfig, ModelConfig
from stj.engine import Engine
from stj.engine.hosted import HostedEngine, MakeEngine
from stj.engine.load import Load
from stj.errors import PassFailed, StjError
from stj.finished import Finished
from stj.ledger import Ledger
from stj.metrics import PassMetrics
from stj.progress import Progress, Terminal
from stj.rows import Row, row_from_dict, rows_to_table
from stj.stages import Stage, run_stages
from stj.stages.select import passed_rule
from stj.ward import Gatekeeper, Ward

log = logging.getLogger(__name__)

_BLOCKS_PER_ENGINE = 32  # blocks that fill an engine
_ROWS_AHEAD = 2  # times the rows that an engine works on: of a block that waits for its slowest row the others are done
_READ_BLOCK_BYTES = 1 << 20  # small, so that the first rows reach the engine while the rest is still being read
_ROWS_READ = 16  # at once: Ray takes some 20 ms for whatever is read, and an engine would wait for single rows
_OUR_ERROR = re.compile(r"^(?:stj\.errors\.)(\w+): (.+)$", re.MULTILINE)
_TRIES = 3  # of a row with which engines die; the last one alone
_SUSPECTS = 8  # the part of an engine that rows may take with which one has died: so that few are left to be tried alone
_ANSWER_S = 30.0  # which the ward may take, before it is asked again
_ANOTHER_ENGINE = 0.55  # of all engines' calls taken: nearly as many again are started; Ray Data stops some below 0.5
_SEALED = "rows"
_LOOK_S = 1.0
_EXECUTOR_S = 30.0  # Ray Data itself waits 2 for its thread, which is not enough on a busy machine
_HEARTBEAT_S = 1.0


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
    dollars_per_engine_hour: float | None = None
    """For the ledger."""
    capacity_deadline_s: float = 1800
    """How long rows may wait for an engine that has no machine."""


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
        self._load = Load(self._engine, config.max_num_seqs)
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
        finished = _sealed(rows_to_table([one.result() for one in running]))
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


class RayGate:
    """A gate that lives in an actor of its own, told of the rows that an earlier start of the pass has finished."""

    def __init__(self, limit: int, artifact: Artifact) -> None:
        records = artifact.records(["position", "category", "dropped"])
        finished = [record["position"] for record in records if passed_rule(record["category"], record["dropped"])]
        # A gate that was started anew knows less and spares less; the limit stays exact through apply_limit.
        self._actor = _helper(Gatekeeper, limit, finished)

    async def over(self, position: int) -> bool:
        """Whether k passing rows before this one are known."""
        return bool(await self._actor.over.remote(position))

    async def passed(self, position: int) -> bool:
        """Notes a passing row; True where it is over the limit already."""
        return bool(await self._actor.passed.remote(position))


def run_pass(spec: Pass, artifact: Artifact, config: EngineConfig, tell: Callable[[Row], None] | None = None) -> None:
    """Runs what is not done yet of a pass, and finishes its artifact.

    A pass that was killed goes on from the rows that it had committed; failed rows are tried again. Each row that did not
    fail is told of as soon as it is there, a little before it is committed.

    Raises PassFailed where more than `max_failed_fraction` of the rows failed, or no engine would start; CapacityError where
    an engine's machine is lost and no other comes.
    """
    started = time.monotonic()
    terminal = Terminal()
    writer = Writer(artifact, config, _below(terminal, tell), spec.total)
    ward = _helper(Ward)
    watch = _Watch(spec, writer, ward, terminal, config.commit_interval_s)
    try:
        with DataContext.current(_context(spec, config, ward)):
            for table in _stream(spec, writer.finished, config, ward):
                watch.add(table)
        watch.look()
        _refuse_lost_rows(ray.get(ward.rows_read.remote()), writer)
    except BrokenPipeError:  # whoever was told has seen enough
        raise
    except Exception as error:
        raise _cause(error) from None
    except (KeyboardInterrupt, SystemExit):
        _end_executors()
        raise
    finally:
        try:
            watch.close()
        finally:
            writer.commit()
    writer.finish(spec.dollars_per_engine_hour, seconds=round(time.monotonic() - started, 1))


def _helper(made: type, *args: Any) -> Any:
    """An actor that many talk to, on the driver's machine: what it knows lasts as long as the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(made).remote(*args)


def _below(terminal: Terminal, tell: Callable[[Row], None] | None) -> Callable[[Row], None] | None:
    """What is told of a row may be printed on the same terminal: the live line makes room for it."""
    if tell is None:
        return None

    def told(row: Row) -> None:
        terminal.clear()
        tell(row)

    return told


class _Watch(threading.Thread):
    """Every second shows how far the pass is, and commits what is due: also while no row comes, for some take long."""

    def __init__(self, spec: Pass, writer: Writer, ward: Any, terminal: Terminal, interval_s: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._writer = writer
        self._ward = ward
        self._progress = Progress(name=spec.name, total=spec.total, done=writer.finished.count)
        self._metrics = PassMetrics(spec.name)
        self._terminal = terminal
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._said = ""
        self._line_at = time.monotonic()
        self._line_every_s = interval_s
        self._say(self._line())
        self.start()

    def run(self) -> None:
        """Until it is closed. What goes wrong here is told and tried again: if it lasts, the driver's own thread meets it."""
        while not self._closed.wait(_LOOK_S):
            try:
                with self._lock:
                    self._look()
                    self._commit_due()
            except Exception as error:
                if str(error) != self._said:
                    log.warning("%s: not committed for now: %s", self._progress.name, error)
                self._said = str(error)

    def add(self, table: pa.Table) -> None:
        """Takes finished rows, and counts those that are new."""
        with self._lock:
            self._progress.add(self._writer.add(table))
            self._commit_due()

    def look(self) -> None:
        """Brings everything up to date."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        in_flight, self._writer.spent = ray.get(self._ward.look.remote(), timeout=_ANSWER_S)
        done, failed = self._writer.finished.count, self._writer.failed
        self._progress.look(done=done, failed=failed, in_flight=in_flight, usage=self._writer.spent.usage)
        self._metrics.show(self._progress)
        self._terminal.show(self._line())

    def _line(self, *, every_category: bool = False) -> str:
        if self._progress.done or self._progress.failed or self._progress.in_flight:
            return self._progress.line(every_category=every_category)
        return f"{self._progress.name}: starting engines"

    def _commit_due(self) -> None:
        if not self._writer.due:
            return
        now = time.monotonic()
        if not self._terminal.live and now - self._line_at > self._line_every_s:  # nobody watches: it goes to the log
            self._line_at = now
            self._say(self._line(every_category=True))
        self._writer.commit()

    def _say(self, line: str) -> None:
        if self._terminal.live:
            self._terminal.show(line)
        else:
            log.info("%s", line)

    def close(self) -> None:
        """Leaves the terminal to others, and Ray: a thread that is in Ray while that shuts down would crash."""
        self._closed.set()
        self.join()
        self._terminal.clear()


def _context(spec: Pass, config: EngineConfig, ward: Any) -> DataContext:
    """How Ray Data runs a pass; as long as it lasts, since this process may use Ray Data, or another Ray, afterwards."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _READ_BLOCK_BYTES
    context.max_consecutive_actor_init_deaths = config.start_attempts - 1
    context.autoscaling_config.actor_pool_util_upscaling_threshold = _ANOTHER_ENGINE
    context.memory_usage_poll_interval_s = None  # else each call has a thread that looks at memory every second
    context.execution_no_progress_timeout_s = -1  # a first download, or a wait for spot machines, may take long
    context.custom_execution_callback_classes = [partial(CapacityWatch, spec.capacity_deadline_s, ward), ForgetBlockStats]
    return context


def _stream(spec: Pass, finished: Finished, config: EngineConfig, ward: Any) -> Iterator[pa.Table]:
    """Finished rows as tables, in the order in which they are finished."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it has to say comes back as an exception
    gpus = spec.model.gpus if config.device == "gpu" else 0
    rows = max(1, config.rows_in_flight // _BLOCKS_PER_ENGINE)
    calls = _ROWS_AHEAD * math.ceil(config.rows_in_flight / rows)
    dataset = (
        ray.data.read_datasource(_RowSource(spec.read, finished, ward), override_num_blocks=1)
        .repartition(target_num_rows_per_block=rows, strict=True)
        .map_batches(
            PassActor,
            fn_constructor_args=(spec, config, ward),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(
                min_size=config.min_replicas,
                max_size=config.max_replicas,
                max_tasks_in_flight_per_actor=calls + 2,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=True,
            ),
            num_cpus=config.cpus_per_replica,
            num_gpus=gpus,
        )
    )
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from map(_opened, table[_SEALED])


def _sealed(table: pa.Table) -> pa.Table:
    """A table as one cell of another, which cannot be cut in two."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.table({_SEALED: pa.array([sink.getvalue().to_pybytes()], pa.large_binary())})


def _opened(cell: pa.LargeBinaryScalar) -> pa.Table:
    return pa.ipc.open_stream(cell.as_buffer()).read_all()


def unfinished(read: Callable[[], Iterator[Row]], finished: Finished) -> Iterator[Row]:
    """The rows that are not done."""
    return (row for row in read() if not finished.has(row.task, row.position))


class _RowSource(Datasource):  # type: ignore[misc]
    """Rows of a pass that are not done, read by one task that yields them as it goes, and says in the end how many."""

    def __init__(self, read: Callable[[], Iterator[Row]], finished: Finished, ward: Any) -> None:
        self._read = read
        self._finished = finished
        self._ward = ward

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(self._tables, metadata)]

    def _tables(self) -> Iterator[pa.Table]:
        ray.get(self._ward.reads.remote())
        rows, count = unfinished(self._read, self._finished), 0
        while some := list(islice(rows, _ROWS_READ)):
            count += len(some)
            yield rows_to_table(some)
        ray.get(self._ward.read.remote(count))


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


def _end_executors() -> None:
    """Ends Ray Data's threads: one that is in Ray while that shuts down ends this process, with an exit code of its own."""
    for thread in threading.enumerate():
        if isinstance(thread, StreamingExecutor):
            thread.shutdown(force=True)
            thread.join(_EXECUTOR_S)


def _refuse_lost_rows(read: int, writer: Writer) -> None:
    """Raises PassFailed where fewer rows came back than went in: no known fault does so, and none shall do it unseen."""
    if writer.came < read:
        raise PassFailed(
            f"{read - writer.came} of {read} rows did not come back from the engines. What came is kept; run the same command "
            "again for the others"
        )


async def _vllm_engine(model: ModelConfig, config: EngineConfig, seed: int) -> Engine:
    context = ray.get_runtime_context()
    return await HostedEngine.start(model, config, seed, scope=f"{context.get_job_id()} {context.get_node_id()}")


def _cause(error: Exception) -> StjError:
    """The error to tell the user: our own where one lies at the bottom, else the last line of what Ray says.

    Where an actor's constructor fails, Ray passes its error on as text alone.
    """
    cause = getattr(error, "cause", None) or error  # Ray's copy of an error prints with the whole traceback
    if isinstance(cause, StjError):
        return cause
    if ours := _OUR_ERROR.findall(str(error)):
        name, message = ours[-1]
        return getattr(errors, name, PassFailed)(message)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return PassFailed(f"the engine or its rows could not be served: {lines[-1] if lines else type(error).__name__}")
