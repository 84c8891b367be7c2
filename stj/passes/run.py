"""A pass: one stream of rows through one set of weights, into an artifact.

This is the only place where rows meet Ray Data and engines. Rows are read as they are needed, each runs its chain of stages
as a coroutine on the engine of one actor, and vLLM's continuous batching does the rest. Rows arrive in any order and are
committed as they come; whatever that order could decide is decided by position and id instead.
"""

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from stj import errors
from stj.config import EngineConfig
from stj.errors import PassFailed, StjError
from stj.passes.actor import PassActor
from stj.passes.block_stats import ForgetBlockStats
from stj.passes.capacity import CapacityWatch
from stj.passes.commit import RowCommitter
from stj.passes.helper import helper_actor
from stj.passes.registry import PassRegistry
from stj.passes.row_bitmap import RowBitmap
from stj.passes.source import SEALED, RowSource, opened
from stj.passes.spec import Pass
from stj.passes.watch import PassWatch
from stj.rows import Row
from stj.storage.artifacts import Artifact
from stj.text import LiveLine

_BLOCKS_PER_ENGINE = 32  # blocks that fill an engine
_ROWS_AHEAD = 2  # times the rows that an engine works on: of a block that waits for its slowest row the others are done
_READ_BLOCK_BYTES = 1 << 20  # small, so that the first rows reach the engine while the rest is still being read
_OUR_ERROR = re.compile(r"^(?:stj\.errors\.)(\w+): (.+)$", re.MULTILINE)
_ANOTHER_ENGINE = 0.55  # of all engines' calls taken: nearly as many again are started; Ray Data stops some below 0.5
_EXECUTOR_S = 30.0  # Ray Data itself waits 2 for its thread, which is not enough on a busy machine


def run_pass(spec: Pass, artifact: Artifact, config: EngineConfig, on_row: Callable[[Row], None] | None = None) -> None:
    """Runs what is not done yet of a pass, and finishes its artifact.

    A pass that was killed goes on from the rows that it had committed; failed rows are tried again. Each row that did not
    fail is told of as soon as it is there, a little before it is committed.

    Raises PassFailed where more than `max_failed_fraction` of the rows failed, or no engine would start; CapacityError where
    an engine's machine is lost and no other comes.
    """
    started = time.monotonic()
    live_line = LiveLine()
    writer = RowCommitter(artifact, config, _below(live_line, on_row), spec.total)
    ward = helper_actor(PassRegistry)
    watch = PassWatch(spec, writer, ward, live_line, config.commit_interval_s)
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
    writer.finish(spec.dollars_per_engine_hour, spec.limit, seconds=round(time.monotonic() - started, 1))


def _below(live_line: LiveLine, on_row: Callable[[Row], None] | None) -> Callable[[Row], None] | None:
    """What is told of a row may be printed on the same terminal: the live line makes room for it."""
    if on_row is None:
        return None

    def told(row: Row) -> None:
        live_line.clear()
        on_row(row)

    return told


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


def _stream(spec: Pass, finished: RowBitmap, config: EngineConfig, ward: Any) -> Iterator[pa.Table]:
    """Finished rows as tables, in the order in which they are finished."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it has to say comes back as an exception
    gpus = spec.model.gpus if config.device == "gpu" else 0
    rows = max(1, config.rows_in_flight // _BLOCKS_PER_ENGINE)
    calls = _ROWS_AHEAD * math.ceil(config.rows_in_flight / rows)
    dataset = (
        ray.data.read_datasource(RowSource(spec.read, finished, ward), override_num_blocks=1)
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
        yield from map(opened, table[SEALED])


def _end_executors() -> None:
    """Ends Ray Data's threads: one that is in Ray while that shuts down ends this process, with an exit code of its own."""
    for thread in threading.enumerate():
        if isinstance(thread, StreamingExecutor):
            thread.shutdown(force=True)
            thread.join(_EXECUTOR_S)


def _refuse_lost_rows(read: int, writer: RowCommitter) -> None:
    """Raises PassFailed where fewer rows came back than went in: no known fault does so, and none shall do it unseen."""
    if writer.came < read:
        raise PassFailed(
            f"{read - writer.came} of {read} rows did not come back from the engines. What came is kept; run the same command "
            "again for the others"
        )


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
