"""Memory of a training rank in each phase, whether it fits, and what to change where it does not.

The formulas follow what DeepSpeed 0.19 does with the settings of train/model.py; benchmarks/plan_check.py holds them against
what ranks on a CPU really take.
"""

from dataclasses import dataclass, replace

from stj.config import Config, TrainConfig
from stj.models.shapes import Shape
from stj.plan.memory import GB, verdict

_TRAINING_SHARE = 0.95
"""Of a GPU's memory; the rest is the driver's, the communication's and fragments."""
_LOGITS_SHARE = 0.1
"""Of all logits in fp32, at the most: what the loss and its gradient hold at once (measured in tests/train/test_head.py)."""
_LIVE = 1_000_000_000
"""Parameters that DeepSpeed may keep whole at once (max_live_parameters), or update at once (sub_group_size)."""
_BUCKET = 500_000_000
"""Gradients that DeepSpeed sums up at once (reduce_bucket_size)."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Fine-tuning of the seed with ZeRO-3, for each rank, in GB."""

    ranks: int
    states_gb: float
    """This rank's share of 16 bytes a parameter: weights and gradients in bf16; master weights and two moments in fp32."""
    host_gb: float
    """Of all ranks of one machine: a mixture of experts while it loads, then the optimizer where it is offloaded."""
    gathered_gb: float
    """Layers and the head, whole, while they are used."""
    activations_gb: float
    logits_gb: float
    """Of the slice of the vocabulary that is at work (train/head.py), over the whole micro-batch."""
    gradients_gb: float
    """What it takes to sum gradients over the ranks in fp32: a bucket, its copies, and the sums beyond 2 bytes each."""
    update_gb: float
    """At the update, when nothing is gathered: the bucket, the sums, and a copy of those that are used at once."""
    export_gb: float
    """At the export, beside the states and what is left of the update: the largest parameter, whole."""
    fits: bool
    remedy: str

    @property
    def rank_gb(self) -> float:
        """The most that one rank holds on its GPU, over all phases."""
        step = self.gathered_gb + self.activations_gb + self.logits_gb + self.gradients_gb
        return self.states_gb + max(step, self.update_gb, self.export_gb)

    def line(self) -> str:
        """Training for a reader."""
        host = f" and {self.host_gb:.3g} GB of host memory a machine" if self.host_gb else ""
        return (
            f"{'training':<12} ZeRO-3 over {self.ranks} ranks, each {self.rank_gb:.3g} GB{host} ({self.states_gb:.3g} states, "
            f"{self.gathered_gb:.2g} gathered layers, {self.activations_gb:.2g} activations, {self.logits_gb:.2g} logits, "
            f"{self.gradients_gb:.2g} summing gradients; beside the states {self.update_gb:.2g} at an update and "
            f"{self.export_gb:.2g} at the export): {verdict(self.fits, self.remedy)}"
        )


def training_plan(shape: Shape, config: Config) -> TrainingPlan:
    """What a rank of the fine-tuning holds, at a full micro-batch."""
    train, hardware = config.train, config.hardware
    per_machine = min(train.workers, hardware.gpus or train.workers)
    offloaded = train.offload == "optimizer"
    part = shape.parameters / train.workers
    bucket, copies = _bucket_bytes(shape, train)
    loading = _loading_bytes(shape)
    sums = 0 if offloaded else 2 * part  # beyond bf16; on the host with the optimizer
    plan = TrainingPlan(
        ranks=train.workers,
        states_gb=(2 if offloaded else 16) * part / GB,
        host_gb=max(loading, 16 * part if offloaded else 0) * per_machine / GB,  # 12 of the optimizer, 4 of gradients
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
    """What a rank holds on the host while the seed loads.

    Of a mixture all of it: transformers puts the experts of each layer together on every rank before ZeRO-3 takes its part.
    """
    return 2.0 * shape.parameters if shape.experts > 1 else 0.0


def _gathered_bytes(shape: Shape) -> float:
    """Two layers and the head, or all that DeepSpeed may keep whole; of a small model all of it."""
    at_work = 2 * shape.layer_parameters(shape.experts) + shape.vocab * shape.hidden
    return 2 * min(shape.parameters, max(at_work, _LIVE))


def _bucket_bytes(shape: Shape, train: TrainConfig) -> tuple[float, float]:
    """The bucket in which gradients are gathered, in fp32, and the copies from which it is summed.

    A gradient that is larger than the bucket goes by itself: in bf16, and in fp32. On a CPU the bucket takes what is used of
    it, and gloo sums another copy.
    """
    used = 4 * min(shape.parameters, _BUCKET)
    if train.device == "cpu":
        return used, 2 * used
    alone = 6 * shape.largest_parameter if shape.largest_parameter > _BUCKET else 0
    return 4 * _BUCKET, max(used, alone)


def _gather_bytes(train: TrainConfig) -> int:
    """Of a parameter that is gathered in bf16: gloo holds it twice."""
    return 4 if train.device == "cpu" else 2


def _activation_bytes(shape: Shape, train: TrainConfig) -> int:
    """Of one token: each layer's input, and about 34 bytes a hidden unit of each layer that is at work at once."""
    at_work = 1 if train.activation_checkpointing else shape.layers
    return 2 * shape.layers * shape.hidden + 34 * shape.hidden * at_work


def _training_remedy(train: TrainConfig, *, load_full: bool, host_full: bool, batch_full: bool, full: bool) -> str:
    if load_full:
        return (
            "each rank loads the whole mixture of experts into the host's memory: take machines with more of it or fewer GPUs"
        )
    if host_full:
        return "the host's memory is too small for the optimizer: raise train.workers over more machines"
    if batch_full:
        return "lower train.max_num_tokens"
    if full:
        return "raise train.workers" + ("" if train.offload == "optimizer" else ", or set train.offload=optimizer")
    return ""
