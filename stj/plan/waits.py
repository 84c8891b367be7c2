"""What a run does besides its tokens, as phases: fetching and loading weights, starting, last rows, checkpoints, exports.

GPUs that are held wait meanwhile. Bytes, on each of N machines, for P parameters of which T are trained:

    fetch        2P   from the hub or an object store, at `hardware.fetch_gbs`; of a judge, all but the machine's own export
    load         2P   from the local disk, at `hardware.disk_gbs`, once for all engines or ranks of a machine
    ranks        4P   over the network: rank 0 reads each parameter and sends it, and all ranks gather it
    checkpoint   12T/N   copied to memory; the rest happens behind the steps (stj/plan/checkpoints.py)
    export       2P   gathered by every machine; 2P/N hashed by its ranks, written, and sent to `run_root`

stj/plan/storage.py says what a fetch and a write take, by where the weights lie.
"""

import math
from collections.abc import Sequence

from stj.config import Config, ModelConfig
from stj.models.shapes import DTYPE_BYTES, Shape, shape_of
from stj.models.zero import CHECKPOINT_BYTES
from stj.panel import other_weights
from stj.plan.assumptions import Assumptions
from stj.plan.checkpoints import CheckpointPlan, written_behind
from stj.plan.memory import GB
from stj.plan.network import network_seconds
from stj.plan.phase_cost import PhasePlan, clock_words
from stj.plan.places import engines_at_once, machines_of, training_machines
from stj.plan.ranks import Ranks
from stj.plan.storage import Seconds, added, hashing, is_fetched, reading, scaled, writing
from stj.plan.training import exported_parameters, stages, trained_parameters, training_plan
from stj.storage.folder import is_store
from stj.train_config import TrainConfig

_ENGINE_S = 90.0
"""Seconds of an engine's start besides its weights: imports, compilation and graphs of a large model."""
_RANKS_S = 60.0
"""Seconds in which ranks import their packages and meet."""


def waits(config: Config, phases: Sequence[PhasePlan], a: Assumptions, *, measures: bool) -> list[PhasePlan]:
    """What happens beside these phases; empty on a CPU. `measures` says whether judges are measured.

    A phase whose model has an unknown shape has no GPU-hours. Raises ConfigError if the network is not known.
    """
    if not config.hardware.gpus:
        return []
    passes = _of_passes(config, phases, a, measures=measures) if config.engine.device == "gpu" else []
    training = _of_training(config, phases, measures=measures) if config.train.device == "gpu" else []
    return [*passes, *training]


def _of_passes(config: Config, phases: Sequence[PhasePlan], a: Assumptions, *, measures: bool) -> list[PhasePlan]:
    """The starts of all passes: in the first iteration one for each of the first models, policies and members of the panel with
    weights of their own, later for each judge."""
    models, last = config.models, config.iterations - 1
    first = [models.generator, models.first_judge, *([models.seed] if measures else [])]
    alone = 0 if models.share_first_pass else 1  # What makes the pairs has a start of its own.
    others = [model for place, model in enumerate(first) if model not in first[min(alone, place) : place]]
    embedding = config.curate.pooled_model
    answering = [*([embedding] if embedding else []), *config.policies.values()]
    panel = [model for model in other_weights(config.judge.panel).values() if model not in first[alone:]]
    different = [model for model in (*answering, *others, *panel) if not model.endpoint]
    named = {phase.name: phase for phase in phases}
    extra = [named[name].times for name in ("judged again", "selection") if name in named]
    later = [
        (number > 0) + (measures and number == last) + sum(times[number] for times in extra)
        for number in range(config.iterations)
    ]
    rows = []
    if different:
        rows.append(_row("first starts", (1, *[0] * last), _first_starts(different, config, a), config))
    if any(later):
        start = _judge_start(config, a)
        rows.append(_row("later starts", tuple(later), [(models.seed, start)], config))
    return rows


def _judge_start(config: Config, a: Assumptions) -> Seconds | None:
    """The start of a trained judge, of which each machine of the training keeps what it has exported to an object store.

    Engines on other machines fetch all of it, and the pass waits for them. Of a judge that is adapters alone, machines hold the
    seed.
    """
    seed = config.models.seed
    shape = shape_of(seed)
    if shape is None:
        return None
    new = max(exported_parameters(shape, train) for _, train in stages(config.train)) / shape.parameters
    everywhere = config.train.device == "gpu" and training_machines(config) == machines_of(config)
    fetched = new * (1 - 1 / training_machines(config) if everywhere else 1)
    return _start(seed, config, a, remote=is_store(config.run_root) or new < 1, held=1 - fetched)


def _first_starts(models: Sequence[ModelConfig], config: Config, a: Assumptions) -> list[tuple[ModelConfig, Seconds | None]]:
    """The starts of these models, each fetched once, whatever its other settings are."""
    starts, fetched = [], set()
    for model in models:
        held = float(_weights_of(model) in fetched)
        starts.append((model, _start(model, config, a, remote=is_fetched(model.path), held=held)))
        fetched.add(_weights_of(model))
    return starts


def _weights_of(model: ModelConfig) -> tuple[str, str | None]:
    """What names weights: two models with other settings may have the same."""
    return model.path, model.revision


def _start(model: ModelConfig, config: Config, a: Assumptions, *, remote: bool, held: float) -> Seconds | None:
    """From the demand for engines to their first token, and the half-empty engines at the end; None if the shape is unknown.

    Each machine has the share `held` of `remote` weights.
    """
    shape = shape_of(model)
    if shape is None:
        return None
    size = shape.parameters * DTYPE_BYTES[model.dtype]
    fetched = reading(size, machines_of(config), config.hardware, remote=remote, held=held)
    return added(fetched, {"engines": _ENGINE_S + _last_rows(shape, model, config, a) / 2})


def _last_rows(shape: Shape, model: ModelConfig, config: Config, a: Assumptions) -> float:
    """Seconds from the first empty place of an engine to the last judgment.

    The last row is the one that draws most often; of n rows, about 1 + ln n / ln (1/(1-p)).
    """
    rows = config.engine.rows_in_flight * engines_at_once(model, config)
    most = 1 + math.log(rows) / -math.log(1 - a.right)
    draws = 1 if config.judge.sampling == "all" else min(config.judge.samples, most)
    bandwidth = model.gpus * config.hardware.gpu_bandwidth_gbs * GB * a.bandwidth
    return draws * a.judgment * shape.active_parameters * DTYPE_BYTES[model.dtype] / bandwidth


def _of_training(config: Config, phases: Sequence[PhasePlan], *, measures: bool) -> list[PhasePlan]:
    """The fetch of the seed, the starts of ranks, the checkpoints and the exports of all trainings."""
    shape, kinds, count = shape_of(config.models.seed), stages(config.train), config.iterations
    named, gpus = {phase.name: phase for phase in phases}, config.train.workers
    start, export = (None, None) if shape is None else _seconds(shape, config)
    saves = [_checkpoints(named[name], shape, train, config) for name, train in kinds]
    saved = sum(plan.count for plan in saves)
    save = scaled(added(*(plan.waiting() for plan in saves)), 1 / saved) if saved and shape else None
    rows = [
        _held("rank starts", (len(kinds),) * count, gpus, start, config),
        *([_held("checkpoints", (saved,) * count, gpus, save, config)] if saved else []),
        _held("export", (len(kinds),) * count, gpus, export, config),
    ]
    models = config.models
    first = {_weights_of(model) for setting, model in config.named_models.items() if setting != "models.seed"}
    fetched = config.engine.device == "gpu" and (measures or _weights_of(models.seed) in first)
    if shape is not None and not fetched and is_fetched(models.seed.path):
        fetch = {"network": 2 * shape.parameters / GB / config.hardware.fetch_gbs}
        rows.insert(0, _held("seed fetch", (1, *[0] * (count - 1)), gpus, fetch, config))
    return rows


def _checkpoints(training: PhasePlan, shape: Shape | None, train: TrainConfig, config: Config) -> CheckpointPlan:
    """The checkpoints of one training; of a seed of unknown shape, only their number."""
    stop: Seconds = {}
    behind: Seconds = {}
    if shape:
        stop, behind = written_behind(
            CHECKPOINT_BYTES * trained_parameters(shape, train),
            Ranks.of(train, config.hardware),
            config.hardware,
            remote=is_store(config.run_root),
            copied=training_plan(shape, config).snapshot_gb > 0,
        )
    return CheckpointPlan(
        every=train.checkpoint_every_steps,
        steps=training.steps,
        step_seconds=training.step_seconds,
        ends=config.train.selection.path is not None,
        stop=stop,
        behind=behind,
    )


def _seconds(shape: Shape, config: Config) -> tuple[Seconds, Seconds]:
    """Of one start of the ranks and one export."""
    train, hardware, remote = config.train, config.hardware, is_store(config.run_root)
    ranks, weights = Ranks.of(train, hardware), 2.0 * shape.parameters
    machines = ranks.machines
    exported = 2.0 * max(exported_parameters(shape, stage) for _, stage in stages(train))

    def exchanged(size: float) -> Seconds:
        return {"network": network_seconds(size * ranks.others, hardware, machines)}

    seed = reading(weights, machines, hardware, remote=is_fetched(config.models.seed.path), held=1.0)
    start = added(seed, exchanged(2 * weights), {"engines": _RANKS_S})
    written = added(hashing(exported / ranks.count), writing(exported / machines, machines, hardware, remote=remote))
    return start, added(written, exchanged(exported))


def _row(name: str, times: tuple[int, ...], starts: Sequence[tuple[ModelConfig, Seconds | None]], config: Config) -> PhasePlan:
    """The starts of several models, one after the other."""
    held = [(engines_at_once(model, config) * model.gpus, seconds) for model, seconds in starts]
    known = [(gpus, seconds) for gpus, seconds in held if seconds is not None]
    if len(known) < len(held):
        return _held(name, times, 0, None, config)
    most = max(gpus for gpus, _ in known)
    weighted = [{limit: time * gpus / most for limit, time in seconds.items()} for gpus, seconds in known]
    return _held(name, times, most, added(*weighted), config)


def _held(name: str, times: tuple[int, ...], gpus: int, seconds: Seconds | None, config: Config) -> PhasePlan:
    """A phase in which GPUs wait for this many seconds."""
    price = config.hardware.dollars_per_gpu_hour
    hours = None if seconds is None else sum(seconds.values()) * gpus / 3600
    return PhasePlan(
        name=name,
        times=times,
        tokens_in=0,
        tokens_out=0,
        gpu_hours=hours,
        dollars=None if hours is None or price is None else hours * price,
        gpus=gpus,
        bound="" if not seconds else max(seconds, key=lambda limit: seconds[limit]),
        waiting=hours or 0.0,
        parts="" if not seconds else _parts(seconds),
    )


def _parts(seconds: Seconds) -> str:
    return ", ".join(f"{limit} {clock_words(time / 3600)}" for limit, time in seconds.items() if time >= 1)
