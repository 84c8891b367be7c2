"""Memory of a training rank in each phase, whether it fits, and what to change if it does not.

The formulas follow DeepSpeed 0.19 with the settings of train/model.py. benchmarks/plan_check.py compares them with the memory
of real ranks on a CPU.
"""

from dataclasses import dataclass, replace

from stj.config import Config, TrainConfig
from stj.models.shapes import Shape
from stj.plan.memory import GB, verdict

_TRAINING_SHARE = 0.95
"""Usable share of a GPU's memory; the driver, communication and fragments take the rest."""
_LOGITS_SHARE = 0.1
"""Share of all logits in fp32 that loss and gradient hold at once, at most (measured in tests/train/test_head.py)."""
_LIVE = 1_000_000_000
"""Parameters that DeepSpeed may gather at once (max_live_parameters), or update at once (sub_group_size)."""
_BUCKET = 500_000_000
"""Gradients that DeepSpeed sums at once (reduce_bucket_size)."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Memory of each rank that fine-tunes the seed with ZeRO-3, in GB."""

    ranks: int
    states_gb: float
    """The rank's share of 16 bytes a parameter: weights and gradients in bf16, master weights and two moments in fp32."""
    host_gb: float
    """Host memory of all ranks of a machine: a mixture of experts while it loads, later the offloaded optimizer."""
    gathered_gb: float
    """Layers and head that are gathered while they are used."""
    activations_gb: float
    logits_gb: float
    """Logits of one slice of the vocabulary (train/head.py) over the whole micro-batch."""
    gradients_gb: float
    """Summing gradients over the ranks in fp32: a bucket, its copies, and the sums beyond 2 bytes each."""
    update_gb: float
    """At the update, without gathered layers: the bucket, the sums, and a copy of the sums that are used at once."""
    export_gb: float
    """At the export, beside the states: the bucket, the sums, and the largest parameter, gathered."""
    fits: bool
    remedy: str

    @property
    def rank_gb(self) -> float:
        """Peak memory of one rank on its GPU, over all phases."""
        step = self.gathered_gb + self.activations_gb + self.logits_gb + self.gradients_gb
        return self.states_gb + max(step, self.update_gb, self.export_gb)

    def line(self) -> str:
        """Training as a line of the printed plan."""
        host = f" and {self.host_gb:.3g} GB of host memory a machine" if self.host_gb else ""
        return (
            f"{'training':<12} ZeRO-3 over {self.ranks} ranks, each {self.rank_gb:.3g} GB{host} ({self.states_gb:.3g} states, "
            f"{self.gathered_gb:.2g} gathered layers, {self.activations_gb:.2g} activations, {self.logits_gb:.2g} logits, "
            f"{self.gradients_gb:.2g} summing gradients; beside the states {self.update_gb:.2g} at an update and "
            f"{self.export_gb:.2g} at the export): {verdict(self.fits, self.remedy)}"
        )


def training_plan(shape: Shape, config: Config) -> TrainingPlan:
    """What a rank of the fine-tuning holds with a full micro-batch."""
    train, hardware = config.train, config.hardware
    per_machine = min(train.workers, hardware.gpus or train.workers)
    offloaded = train.offload == "optimizer"
    part = shape.parameters / train.workers
    bucket, copies = _bucket_bytes(shape, train)
    loading = _loading_bytes(shape)
    sums = 0 if offloaded else 2 * part  # Beyond bf16; offloaded, they are on the host.
    plan = TrainingPlan(
        ranks=train.workers,
        states_gb=(2 if offloaded else 16) * part / GB,
        host_gb=max(loading, 16 * part if offloaded else 0) * per_machine / GB,  # 12 for the optimizer, 4 for gradients.
        gathered_gb=_gathered_bytes(shape) / GB,
        activations_gb=_activation_bytes(shape, train) * train.max_num_tokens / GB,
        logits_gb=_LOGITS_SHARE * 4 * shape.vocab * train.max_num_tokens / GB,
        gradients_gb=(bucket + copies + sums) / GB,
        update_gb=(bucket + sums + (0 if offloaded else 4 * min(part, _LIVE))) / GB,
        export_gb=(bucket + sums + _gather_bytes(train) * shape.largest_parameter) / GB,
        fits=True,
        remedy="",
    )
    room = hardware.gpu_memory_gb * _TRAINING_SHARE if train.device == "gpu" else hardware.host_memory_gb / per_machine
    remedy = _training_remedy(
        train,
        load_full=loading * per_machine / GB > hardware.host_memory_gb,
        host_full=plan.host_gb > hardware.host_memory_gb,
        batch_full=plan.rank_gb - plan.states_gb > room,
        full=plan.rank_gb > room,
    )
    return replace(plan, fits=not remedy, remedy=remedy)


def _loading_bytes(shape: Shape) -> float:
    """Host memory of a rank while the seed loads: all weights of a mixture of experts, nothing of a dense model.

    transformers merges the experts of each layer on every rank before ZeRO-3 takes its part.
    """
    return 2.0 * shape.parameters if shape.experts > 1 else 0.0


def _gathered_bytes(shape: Shape) -> float:
    """Two layers and the head, or what DeepSpeed may gather at once if that is more; at most the whole model."""
    at_work = 2 * shape.layer_parameters(shape.experts) + shape.vocab * shape.hidden
    return 2 * min(shape.parameters, max(at_work, _LIVE))


def _bucket_bytes(shape: Shape, train: TrainConfig) -> tuple[float, float]:
    """The bucket of gradients in fp32, and the copies from which it is summed.

    A gradient larger than the bucket is summed alone, with a copy in bf16 and one in fp32. On a CPU only the used part of the
    bucket takes memory, and gloo sums another copy.
    """
    used = 4 * min(shape.parameters, _BUCKET)
    if train.device == "cpu":
        return used, 2 * used
    alone = 6 * shape.largest_parameter if shape.largest_parameter > _BUCKET else 0
    return 4 * _BUCKET, max(used, alone)


def _gather_bytes(train: TrainConfig) -> int:
    """Bytes of a gathered parameter in bf16; gloo holds it twice."""
    return 4 if train.device == "cpu" else 2


def _activation_bytes(shape: Shape, train: TrainConfig) -> int:
    """Bytes of one token: each layer's input, and about 34 bytes a hidden unit for every layer at work at once."""
    at_work = 1 if train.activation_checkpointing else shape.layers
    return 2 * shape.layers * shape.hidden + 34 * shape.hidden * at_work


def _training_remedy(train: TrainConfig, *, load_full: bool, host_full: bool, batch_full: bool, full: bool) -> str:
    if load_full:
        return "each rank loads the whole mixture of experts into host memory: take machines with more memory or fewer GPUs"
    if host_full:
        return "the host's memory is too small for the optimizer: raise train.workers over more machines"
    if batch_full:
        return "lower train.max_num_tokens"
    if full:
        return "raise train.workers" + ("" if train.offload == "optimizer" else ", or set train.offload=optimizer")
    return ""
