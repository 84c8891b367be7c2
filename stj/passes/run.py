"""A pass: one stream of rows through one set of weights, into an artifact.

This is the only place where rows meet Ray Data and engines. Rows are read as they are needed. Each runs its chain of stages
as a coroutine on the engine of one actor, and vLLM's continuous batching serves them all. Rows arrive in any order and are
committed as they arrive. Choices that could depend on this order depend on position and id instead.
"""

import gc
import logging
import math
import re
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources

from stj import errors
from stj.config import EngineConfig
from stj.errors import EndpointError, PassFailed, StjError
from stj.passes.actor import PassActor
from stj.passes.block_stats import ForgetBlockStats
from stj.passes.capacity import CapacityWatch
from stj.passes.cluster_machines import machines_of_cluster
from stj.passes.demand import HELPER_CPUS, Demand
from stj.passes.driver_actor import driver_actor
from stj.passes.engine_waits import EngineWaits
from stj.passes.ray_private import SmallReads, StepCallback, call_each_step, end_streaming_executors, iteration_threads
from stj.passes.registry import PassRegistry
from stj.passes.routes import StreamCommitter
from stj.passes.row_bitmap import RowBitmap
from stj.passes.session import engine_demand
from stj.passes.source import SEALED, RowSource, unseal
from stj.passes.spec import Pass
from stj.passes.watch import PassWatch
from stj.passes.window import ReadingWindow
from stj.rows import Row
from stj.storage.artifacts import Artifact
from stj.text import LiveLine

log = logging.getLogger(__name__)

_CALLS_PER_ENGINE = 32  # Split the rows in flight into this many calls.
_ROWS_AHEAD = 2  # Queue this multiple of rows_in_flight: finished rows wait for the slowest of their call.
_READ_BLOCK_BYTES = 1 << 20  # Small, so that the first rows reach the engine while the rest is still being read.
_OUR_ERROR = re.compile(r"^(?:stj\.errors\.)(\w+): (.+)$", re.MULTILINE)
# Ray Data adds engines above this share of calls in use: nearly as many again if all are in use. Below 0.5 it stops some.
_ADD_ENGINES_ABOVE = 0.55
_READING_CPUS = 1  # CPUs per engine that splitting blocks may take beside it: engines on large machines leave many free.
_LAST_ROWS_S = 5.0  # Rows that an API answered before it refused may arrive after rows that it refused.
_EXECUTOR_TIMEOUT_S = 30.0  # Ray Data itself waits 2 s for its thread, which is not enough on a busy machine.


def run_pass(
    spec: Pass,
    artifact: Artifact,
    config: EngineConfig,
    on_row: Callable[[Row], None] | None = None,
    beside: Mapping[str, Artifact] | None = None,
    live_line: LiveLine | None = None,
) -> None:
    """Runs the rows of a pass that are not done yet, and finishes its artifact.

    A killed pass resumes after the rows that it has committed, and tries failed rows again. `on_row` gets each row that did
    not fail as soon as it arrives, a little before it is committed. `beside` names the artifacts of tasks that do not belong
    to the pass's own artifact; they are finished after it. The progress appears on `live_line`, or in the log.

    Raises PassFailed if more than `max_failed_fraction` of the rows failed or no engine starts. Raises CapacityError if an
    engine's machine is lost and not replaced, and EndpointError if the API of the model refuses every request.
    """
    started = time.monotonic()
    spec = replace(spec, weights=artifact.key.get("model", {}).get("weights", ""))
    live_line = live_line or LiveLine()
    committer = StreamCommitter(artifact, beside or {}, config, _clearing(live_line, on_row), spec.total)
    registry = driver_actor(PassRegistry, ray.get_runtime_context().get_node_id())
    waits = EngineWaits(engine_demand(config, [spec.model]), registry)
    watch = PassWatch(spec, committer, registry, live_line, config.commit_interval_s, waits)
    try:
        failure = _attempt_rows(spec, config, committer, registry, watch)
    finally:
        try:
            watch.close()
        finally:
            committer.commit()
    if failure:
        raise failure
    committer.finish(spec.dollars, spec.limit, spec.per_cluster, seconds=round(time.monotonic() - started, 1))


def _attempt_rows(
    spec: Pass, config: EngineConfig, committer: StreamCommitter, registry: Any, watch: PassWatch
) -> StjError | None:
    """Runs the rows, and returns the error for the user if that fails. No error holds engines, which would keep their machines.

    An error is returned without frames. Ctrl-C and a broken pipe are raised with frames whose variables are cleared.
    """
    failure: StjError | None = None
    try:
        _run_rows(spec, config, committer, registry, watch)
    except BaseException as error:
        # A thread that calls Ray while Ray shuts down ends this process, with an exit code of Ray's.
        end_streaming_executors(_EXECUTOR_TIMEOUT_S)
        if isinstance(error, BrokenPipeError) or not isinstance(error, Exception):
            _clear_frames(error)
            raise  # Ctrl-C, or the reader of on_row's output has seen enough
        log.debug("the rows ended with an error:\n%s", traceback.format_exc())
        failure = error_for_user(error).with_traceback(None)
        failure.__context__ = failure.__cause__ = None
    if failure:
        gc.collect()  # Objects of Ray Data that refer to each other hold the engines too.
    return failure


def _clear_frames(error: BaseException) -> None:
    """Forgets what the ended functions of an error's tracebacks held. Its tracebacks still name their lines."""
    link: BaseException | None = error
    while link:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()


def _run_rows(spec: Pass, config: EngineConfig, committer: StreamCommitter, registry: Any, watch: PassWatch) -> None:
    """Streams the rows that are not done into the committer, again if rows up to the limit turn out to be missing."""
    incomplete = True
    while incomplete:
        # The stream is closed here after an error too: Ray Data's iterator would start another Ray when it is collected.
        with (
            DataContext.current(_context(spec, config, registry)),
            closing(_stream(spec, committer.finished, config.serving(spec.model), registry)) as tables,
        ):
            for table in _until_refused(tables, registry) if spec.model.endpoint else tables:
                watch.add(table)
        watch.update()
        _refuse_lost_rows(ray.get(registry.rows_read.remote()), committer)
        incomplete = _begin_missing(spec, committer, registry, watch)


def _clearing(live_line: LiveLine, on_row: Callable[[Row], None] | None) -> Callable[[Row], None] | None:
    """The callback, with the live line removed first: the callback may print on the same terminal."""
    if on_row is None:
        return None

    def clear_and_call(row: Row) -> None:
        live_line.clear()
        on_row(row)

    return clear_and_call


def _context(spec: Pass, config: EngineConfig, registry: Any) -> DataContext:
    """Ray Data's settings for one pass only: this process may use Ray Data, or another Ray, afterwards."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _READ_BLOCK_BYTES
    context.max_consecutive_actor_init_deaths = config.start_attempts - 1
    context.autoscaling_config.actor_pool_util_upscaling_threshold = _ADD_ENGINES_ABOVE
    context.memory_usage_poll_interval_s = None  # otherwise each call has a thread that looks at memory every second
    context.execution_no_progress_timeout_s = -1  # a first download, or a wait for spot machines, may take long
    demand = engine_demand(config, [spec.model])
    context.execution_options.resource_limits = _limits(demand, config.serving(spec.model).max_replicas)
    callbacks: list[Callable[[], StepCallback]] = [partial(CapacityWatch, spec.capacity_deadline_s, registry), ForgetBlockStats]
    call_each_step(context, [*callbacks, SmallReads] if spec.gate else callbacks)
    return context


def _limits(demand: Demand, engines: int) -> ExecutionResources:
    """The most that Ray Data may use. It asks the autoscaler for all that it could use, whatever the labels are."""
    cpus = engines * (demand.cpus + _READING_CPUS) + HELPER_CPUS
    return ExecutionResources.for_limits(cpu=cpus, gpu=engines * demand.gpus)


def _stream(spec: Pass, finished: RowBitmap, config: EngineConfig, registry: Any) -> Generator[pa.Table, None, None]:
    """The unfinished rows as tables, in the order in which engines finish them."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors come back as exceptions
    batches = iter(_dataset(spec, finished, config, registry).iter_batches(batch_size=None, batch_format="pyarrow"))
    others = iteration_threads()
    try:
        with closing(batches):
            for table in batches:
                yield from map(unseal, table[SEALED])
    finally:
        for thread in iteration_threads() - others:
            thread.join(_EXECUTOR_TIMEOUT_S)


def _dataset(spec: Pass, finished: RowBitmap, config: EngineConfig, registry: Any) -> Dataset:
    rows_per_call = max(1, config.rows_in_flight // _CALLS_PER_ENGINE)
    calls = _ROWS_AHEAD * math.ceil(config.rows_in_flight / rows_per_call)
    window = ReadingWindow(spec.gate, registry, config.max_replicas * config.rows_in_flight) if spec.gate else None
    source = RowSource(spec.read, finished, registry, rows_per_call, spec.read_after, window)
    return (
        ray.data.read_datasource(source, override_num_blocks=1)
        .repartition(target_num_rows_per_block=1, strict=True)  # a block for each cell
        .map_batches(
            PassActor,
            fn_constructor_args=(spec, config, registry),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ActorPoolStrategy(
                min_size=config.min_replicas,
                initial_size=_first_engines(spec, finished, config, rows_per_call),
                max_size=config.max_replicas,
                max_tasks_in_flight_per_actor=calls + 2,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=True,
            ),
            num_cpus=config.cpus_per_replica,
            num_gpus=spec.model.gpus if config.device == "gpu" else 0,
            label_selector=dict(config.place) or None,
        )
    )


def _first_engines(spec: Pass, finished: RowBitmap, config: EngineConfig, rows_per_call: int) -> int:
    """Engines that start at once: all that there are rows for, and that the cluster should be asked for.

    An engine that waits for its machine is what the autoscaler sees: it adds that machine, and keeps it while a model is
    fetched. Ray Data alone would ask for the second engine when the first one is busy.
    """
    most = config.max_replicas
    if spec.total is not None:
        most = min(most, math.ceil((spec.total - finished.count) / rows_per_call))
    if most > config.min_replicas:
        most = machines_of_cluster().at_once(engine_demand(config, [spec.model]), most)
    return max(config.min_replicas, most)


def _until_refused(tables: Iterable[pa.Table], registry: Any) -> Iterator[pa.Table]:
    """The tables. If an API comes to refuse every request: the rows that it answered before, and then EndpointError."""
    refusal, deadline = "", math.inf
    for table in tables:
        unanswered = table["error"].null_count < table.num_rows
        if unanswered and not refusal and (refusal := ray.get(registry.refusal.remote())):
            deadline = time.monotonic() + _LAST_ROWS_S
        yield table.filter(pc.is_null(table["error"])) if refusal else table
        if time.monotonic() > deadline:
            break
    if refusal:
        raise EndpointError(refusal)


def _refuse_lost_rows(read: int, committer: StreamCommitter) -> None:
    """Raises PassFailed if fewer rows came back than were read: no known fault loses rows, and none may do so unnoticed."""
    if committer.received < read:
        raise PassFailed(
            f"{read - committer.received} of {read} rows did not come back from the engines. The others are kept; run the "
            "same command again for the missing ones"
        )


def _begin_missing(spec: Pass, committer: StreamCommitter, registry: Any, watch: PassWatch) -> bool:
    """Whether rows up to the limit are missing, which another stream must read.

    An engine that died may have reported that a row passes, and on the next engine it does not. Then the limit seemed to be
    reached too early. What is on disk shows where it is.
    """
    if spec.limit is None:
        return False
    watch.commit()
    _, stopped_at = ray.get(registry.earlier_reading.remote())
    if not committer.cut_left_out(spec.limit, stopped_at):
        return False
    if spec.gate is None:
        raise PassFailed("the limit seemed to be reached too early, because an engine died; run the same command again")
    committer.begin_stream()
    ray.get(registry.forget_reading.remote())
    spec.gate.load()
    return True


def error_for_user(error: Exception) -> StjError:
    """The error for the user: our own if one is the cause, otherwise the last line of Ray's text.

    If an actor's constructor fails, Ray passes its error on as text only.
    """
    cause = getattr(error, "cause", None) or error  # Ray's copy of an error would print the whole traceback
    if isinstance(cause, StjError):
        return cause
    if ours := _OUR_ERROR.findall(str(error)):
        name, message = ours[-1]
        return getattr(errors, name, PassFailed)(message)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return PassFailed(f"the engines could not finish the rows: {lines[-1] if lines else type(error).__name__}")
