"""Room that a run takes on each machine: disk and /dev/shm in each phase, over all iterations, and where its checkpoints go.

Weights on the hub are fetched to the hub's cache (HF_HOME) and those at a URI to stj's own cache, once a machine. A run in an
object store fetches its trained models too, and writes each machine's part of a checkpoint to TMPDIR before it uploads it. A
run on a disk writes to that disk, and its models are read there. A GB is 10^9 bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stj.config import Config, ModelConfig
from stj.models.hub import is_hub_id
from stj.models.shapes import Shape, shape_of
from stj.models.zero import CHECKPOINT_BYTES
from stj.pair_sources import ANSWERS
from stj.panel import OPINIONS, other_weights
from stj.plan.disk import WEIGHT_BYTES, DiskPlan, disk_plan
from stj.plan.memory import GB, verdict
from stj.plan.places import machines_of, training_machines
from stj.plan.training import exported_parameters, stages, trained_parameters, training_plan
from stj.storage.folder import is_store
from stj.text import data_size

_STORE_SHARE, _STORE_MOST_GB = 0.3, 200
"""Ray's store of objects lies in /dev/shm: this share of memory, and at most so much (ray/_private/ray_constants.py)."""
_BROADCAST_GB, _RESPONSE_GB = 0.168, 0.252
"""vLLM's queues in /dev/shm for an engine of several workers: one for all, and one for each (vllm/v1/executor)."""
JUDGES, TRAINING = "judges M_1 and later", "training"
"""Names of the phases of trained judges, of which each is another copy, and of trainings."""
HUB, OURS, SCRATCH = "the hub's cache (HF_HOME)", "stj's cache of models", "TMPDIR"


@dataclass(frozen=True, kw_only=True)
class DiskPart:
    """What a phase holds on a machine's own disk."""

    what: str
    place: str
    size: int
    """In bytes."""

    def words(self) -> str:
        """This part in words."""
        return f"{data_size(self.size)} of {self.what} in {self.place}"


@dataclass(frozen=True, kw_only=True)
class PhaseRoom:
    """What a phase holds on each of its machines."""

    phase: str
    parts: tuple[DiskPart, ...]
    shm_gb: float
    """The part of /dev/shm that the phase takes beside Ray's objects."""
    model: str = ""
    """The path of the model whose engines run, of those that the config names."""

    def beside(self, parts: tuple[DiskPart, ...]) -> "PhaseRoom":
        """The same phase with further parts."""
        return replace(self, parts=(*self.parts, *parts))

    @property
    def disk_bytes(self) -> int:
        """All parts."""
        return sum(part.size for part in self.parts)

    def line(self) -> str:
        """This phase as a line of the printed plan."""
        parts = ", ".join(part.words() for part in self.parts) or "nothing is fetched"
        shm = f"; {self.shm_gb:.2g} GB of /dev/shm" if self.shm_gb else ""
        return f"{self.phase}: {parts}{shm}"


@dataclass(frozen=True, kw_only=True)
class RoomPlan:
    """The room of a run on the disks and in the memory of its machines."""

    run_root: str
    remote: bool
    """Whether run_root is an object store."""
    disk: str
    """What run_root is otherwise, in words."""
    written: DiskPlan
    """What run_root holds at most."""
    phases: tuple[PhaseRoom, ...]
    most_gb: float
    """The most that one phase needs on a machine's disk, if copies of models that nobody uses give way."""
    copies_gb: float
    """What lies on a machine's disk in the last training, if no copy gives way."""
    crowded: int | None
    """The first iteration whose training makes copies of models give way; None if there is room for all, or no known disk."""
    store_gb: float
    """Ray's store of objects in /dev/shm, at most."""
    memory: str
    """A warning if that store and the training may take more than the memory of a machine; empty if not."""
    disk_gb: float | None
    fits: bool
    remedy: str

    def lines(self) -> list[str]:
        """The room for a reader."""
        where = "an object store" if self.remote else self.disk
        return [
            f"{'room':<12} run_root={self.run_root} is {where}: it holds up to {self.written.words()}; checkpoints lie beside "
            "their model",
            *(f"{'':<12} on each machine, {phase.line()}" for phase in self.phases),
            f"{'':<12} up to {data_size(self.most_gb * GB)} of a machine's disk in one phase, and "
            f"{data_size(self.copies_gb * GB)} with copies of models that are no longer used; {self._verdict()}",
            f"{'':<12} up to {data_size(self.store_gb * GB)} of /dev/shm, which is memory, for Ray's objects{self.memory}",
        ]

    def _verdict(self) -> str:
        if self.disk_gb is None:
            return "set hardware.disk_gb to see whether that fits"
        crowded = f", and copies give way from iteration {self.crowded} on" if self.crowded and self.fits else ""
        return f"of {self.disk_gb:,.0f} GB: {verdict(self.fits, self.remedy)}{crowded}"


def room_plan(config: Config) -> RoomPlan | None:
    """The room of all iterations; None if the seed's shape is unknown."""
    seed = shape_of(config.models.seed)
    if seed is None:
        return None
    hardware, remote = config.hardware, is_store(config.run_root)
    written = disk_plan(seed, config.iterations * len(stages(config.train)), config)
    phases = tuple(_phases(config, seed, remote=remote))
    shared = 0 if remote or machines_of(config) > 1 else written.total
    most = shared + max(phase.disk_bytes for phase in phases)
    in_training = [_in_training(number, phases) + shared for number in range(1, config.iterations + 1)]
    crowded = [number for number, size in enumerate(in_training, 1) if hardware.disk_gb and size > hardware.disk_gb * GB]
    store_gb = min(_STORE_SHARE * hardware.host_memory_gb, _STORE_MOST_GB)
    remedy = _remedy(config, phases, most, shared)
    return RoomPlan(
        run_root=config.run_root,
        remote=remote,
        disk="a disk of the machine" if machines_of(config) == 1 else "a disk that all machines share",
        written=written,
        phases=phases,
        most_gb=most / GB,
        copies_gb=in_training[-1] / GB,
        crowded=crowded[0] if crowded else None,
        store_gb=store_gb,
        memory=_memory_warning(training_plan(seed, config).host_gb, store_gb, hardware.host_memory_gb),
        disk_gb=hardware.disk_gb,
        fits=not remedy,
        remedy=remedy,
    )


def _in_training(number: int, phases: Sequence[PhaseRoom]) -> int:
    """What lies on a disk in the training of an iteration, if every copy of a model stays: bytes."""
    once = {part for phase in phases if phase.phase != JUDGES for part in phase.parts}
    judges = sum(part.size for phase in phases if phase.phase == JUDGES for part in set(phase.parts) - once)
    return sum(part.size for part in once) + (number - 1) * judges


def _memory_warning(host_gb: float, store_gb: float, memory_gb: float) -> str:
    if host_gb + store_gb <= memory_gb:
        return ""
    left = max(1, int(memory_gb - host_gb))
    return (
        f"; with {data_size(host_gb * GB)} of the training that may be more than the machine's {memory_gb:,.0f} GB: set "
        f"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES={left * 10**9 // 2} where Ray starts"
    )


def _phases(config: Config, seed: Shape, *, remote: bool) -> Iterator[PhaseRoom]:
    models = config.models
    if (embedding := config.curate.pooled_model) is not None:
        shm_gb = _engine_shm(embedding, config)
        yield PhaseRoom(phase="curated", parts=tuple(_fetched(embedding)), shm_gb=shm_gb, model=embedding.path)
    for title, model in config.policies.items():
        yield PhaseRoom(
            phase=f"{ANSWERS}{title}", parts=tuple(_fetched(model)), shm_gb=_engine_shm(model, config), model=model.path
        )
    first = list(dict.fromkeys([models.generator, models.first_judge]))
    for model in first:
        roles = [name for name, role in (("pairs", models.generator), ("judgments 1", models.first_judge)) if role == model]
        yield PhaseRoom(
            phase=", ".join(roles), parts=tuple(_fetched(model)), shm_gb=_engine_shm(model, config), model=model.path
        )
    if models.seed not in first and (config.heldout.measures or config.benchmarks):
        yield PhaseRoom(
            phase="measuring M_0",
            parts=tuple(_fetched(models.seed)),
            shm_gb=_engine_shm(models.seed, config),
            model=models.seed.path,
        )
    for title, model in other_weights(config.judge.panel).items():
        if model not in (*first, models.seed):
            yield PhaseRoom(
                phase=f"{OPINIONS}{title}",
                parts=tuple(_fetched(model)),
                shm_gb=_engine_shm(model, config),
                model=model.path,
            )
    judge = [DiskPart(what="a trained judge", place=OURS, size=_model_bytes(config, seed))] if remote else []
    alone = config.train.lora is not None and config.train.lora.export == "adapter"
    yield PhaseRoom(
        phase=JUDGES,
        parts=(*judge, *(_fetched(models.seed) if alone else ())),
        shm_gb=_engine_shm(models.seed, config),
    )
    yield PhaseRoom(phase=TRAINING, parts=tuple(_training_parts(config, seed, remote=remote)), shm_gb=0)


def _training_parts(config: Config, seed: Shape, *, remote: bool) -> Iterator[DiskPart]:
    yield from _fetched(config.models.seed)
    if not remote:
        return
    machines = training_machines(config)
    trained = max(trained_parameters(seed, train) for _, train in stages(config.train))
    model = _model_bytes(config, seed)
    shards = min(model, int(config.train.shard_gb * GB) * -(-config.train.workers // machines))
    scratch = max(CHECKPOINT_BYTES * trained // machines, shards)
    yield DiskPart(what="a checkpoint's part" if machines > 1 else "a checkpoint", place=SCRATCH, size=scratch)
    yield DiskPart(what="exported shards", place=OURS, size=model // machines)


def _fetched(model: ModelConfig) -> Iterator[DiskPart]:
    """The weights of a model that a machine fetches; none for a model behind an API, on a disk, or of unknown shape."""
    shape = None if model.endpoint else shape_of(model)
    place = HUB if is_hub_id(model.path) else OURS if is_store(model.path) else None
    if shape and place:
        yield DiskPart(what=model.path, place=place, size=WEIGHT_BYTES * shape.parameters)


def _model_bytes(config: Config, seed: Shape) -> int:
    return WEIGHT_BYTES * max(exported_parameters(seed, train) for _, train in stages(config.train))


def _engine_shm(model: ModelConfig, config: Config) -> float:
    """vLLM's queues of all engines of a machine."""
    if model.gpus < 2:
        return 0.0
    engines = min(config.engine.max_replicas, max(1, config.hardware.gpus // model.gpus))
    return engines * (_BROADCAST_GB + _RESPONSE_GB * model.gpus)


def _remedy(config: Config, phases: tuple[PhaseRoom, ...], most: int, shared: int) -> str:
    hardware = config.hardware
    if hardware.disk_gb is None or most <= hardware.disk_gb * GB:
        return ""
    fullest = max(phases, key=lambda phase: phase.disk_bytes)
    filled = ", ".join([part.words() for part in fullest.parts] + ([f"{data_size(shared)} in run_root"] if shared else []))
    more = ", or more machines" if training_machines(config) > 1 and fullest.phase == TRAINING else ""
    return f"{fullest.phase} fills the disk with {filled}: take machines with larger disks{more}"
