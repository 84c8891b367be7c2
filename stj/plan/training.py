"""Memory of a training rank in each phase, whether it fits, and what to change if it does not.

The formulas follow DeepSpeed 0.19 with the settings of train/model.py. benchmarks/plan_check.py compares them with the memory
of real ranks on a CPU.
"""

from dataclasses import dataclass, replace

from stj.config import Config, TrainConfig
from stj.models.shapes import Shape
from stj.plan.memory import GB, count, verdict

TRAINING_SHARE = 0.95
"""Usable share of a GPU's memory; the driver, communication and fragments take the rest."""
_LOGITS_SHARE = 0.1
"""Share of all logits in fp32 that loss and gradient hold at once, at most (measured in tests/train/test_head.py)."""
_LIVE = 1_000_000_000
"""Parameters that DeepSpeed may gather at once (max_live_parameters), or update at once (sub_group_size)."""
_BUCKET = 500_000_000
"""Gradients that DeepSpeed sums at once (reduce_bucket_size)."""
_ADAPTERS_BUCKET = 50_000_000
"""The same if only adapters are trained, as train/model.py sets it."""
CHECKPOINT_BYTES = 12
"""Bytes of a trained parameter in a checkpoint: weight and two moments in fp32. What is frozen is not in it."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Memory of each rank that fine-tunes the seed with ZeRO-3, in GB."""

    ranks: int
    adapters: int
    """Parameters of the adapters (LoRA) that are trained; 0 if all of the seed's are."""
    states_gb: float
    """The rank's share of 16 bytes a trained parameter (weights and gradients in bf16, master weights and two moments in fp32),
    and of 2 bytes a frozen parameter."""
    host_gb: float
    """Host memory of all ranks of a machine: a mixture of experts while it loads, later the offloaded optimizer."""
    gathered_gb: float
    """Layers and head that are gathered while they are used; a single rank uses its own part in place."""
    activations_gb: float
    logits_gb: float
    """Logits of one slice of the vocabulary (train/head.py) over the whole micro-batch."""
    gradients_gb: float
    """Summing gradients over the ranks in fp32: a bucket, its copies, and the sums beyond 2 bytes each."""
    update_gb: float
    """At the update, without gathered layers: the bucket, the sums, and a copy of the sums that are used at once."""
    export_gb: float
    """At the export, beside the states: the bucket, the sums, and the largest parameter, gathered and merged."""
    checkpoint_gb: float
    """A checkpoint of all ranks on disk; two are kept, beside a third that is being written."""
    model_gb: float
    """The exported model on disk."""
    fits: bool
    remedy: str

    @property
    def rank_gb(self) -> float:
        """Peak memory of one rank on its GPU, over all phases."""
        step = self.gathered_gb + self.activations_gb + self.logits_gb + self.gradients_gb
        return self.states_gb + max(step, self.update_gb, self.export_gb)

    def line(self) -> str:
        """Training as a line of the printed plan."""
        adapters = f"adapters of {count(self.adapters)} parameters, " if self.adapters else ""
        host = f" and {self.host_gb:.3g} GB of host memory a machine" if self.host_gb else ""
        return (
            f"{'training':<12} {adapters}ZeRO-3 over {self.ranks} ranks, each {self.rank_gb:.3g} GB{host} "
            f"({self.states_gb:.3g} states, {self.gathered_gb:.2g} gathered layers, {self.activations_gb:.2g} activations, "
            f"{self.logits_gb:.2g} logits, {self.gradients_gb:.2g} summing gradients; beside the states {self.update_gb:.2g} "
            f"at an update and {self.export_gb:.2g} at the export; on disk {self.checkpoint_gb:.3g} GB a checkpoint and "
            f"{self.model_gb:.3g} GB a model): {verdict(self.fits, self.remedy)}"
        )


def stages(train: TrainConfig) -> list[tuple[str, TrainConfig]]:
    """The trainings of an iteration, by name, with their settings."""
    if train.objective == "sft_then_dpo":
        return [("warm-up", train.stage("sft")), ("preference", train.stage("dpo"))]
    return [("fine-tuning", train.stage(train.objective))]


def trained_parameters(shape: Shape, train: TrainConfig) -> int:
    """Number of parameters that are trained: all of the seed's, or those of adapters on it."""
    return shape.adapter_parameters(train.lora.rank, train.lora.targets) if train.lora else shape.parameters


def exported_parameters(shape: Shape, train: TrainConfig) -> int:
    """Number of parameters in the files of the exported model."""
    alone = train.lora and train.lora.export == "adapter"
    return trained_parameters(shape, train) if alone else shape.parameters


def training_plan(shape: Shape, config: Config) -> TrainingPlan:
    """What a rank of the fine-tuning holds with a full micro-batch."""
    train, hardware = config.train, config.hardware
    per_machine = min(train.workers, hardware.gpus or train.workers)
    offloaded = train.offload == "optimizer"
    trained = trained_parameters(shape, train)
    part, frozen = trained / train.workers, (shape.parameters if train.lora else 0) / train.workers
    bucket, copies = _bucket_bytes(shape, trained, train)
    loading = _loading_bytes(shape)
    sums = 0 if offloaded else 2 * part  # Beyond bf16; offloaded, they are on the host.
    plan = TrainingPlan(
        ranks=train.workers,
        adapters=trained if train.lora else 0,
        states_gb=((2 if offloaded else 16) * part + 2 * frozen) / GB,
        host_gb=max(loading, 16 * part if offloaded else 0) * per_machine / GB,  # 12 for the optimizer, 4 for gradients.
        gathered_gb=_gathered_bytes(shape, train) / GB,
        activations_gb=_activation_bytes(shape, train) * train.max_num_tokens / GB,
        logits_gb=_LOGITS_SHARE * 4 * shape.vocab * train.max_num_tokens / GB,
        gradients_gb=(bucket + copies + sums) / GB,
        update_gb=(bucket + sums + (0 if offloaded else 4 * min(part, _LIVE))) / GB,
        export_gb=(bucket + sums + _export_bytes(shape, train)) / GB,
        checkpoint_gb=CHECKPOINT_BYTES * trained / GB,
        model_gb=2 * exported_parameters(shape, train) / GB,
        fits=True,
        remedy="",
    )
    room = hardware.gpu_memory_gb * TRAINING_SHARE if train.device == "gpu" else hardware.host_memory_gb / per_machine
    remedy = _training_remedy(
        train,
        load_full=loading * per_machine / GB > hardware.host_memory_gb,
        host_full=plan.host_gb > hardware.host_memory_gb,
        batch_full=plan.rank_gb - plan.states_gb - sums / GB > room,
        full=plan.rank_gb > room,
    )
    return replace(plan, fits=not remedy, remedy=remedy)


def _loading_bytes(shape: Shape) -> float:
    """Host memory of a rank while the seed loads: all weights of a mixture of experts, nothing of a dense model.

    transformers merges the experts of each layer on every rank before ZeRO-3 takes its part.
    """
    return 2.0 * shape.parameters if shape.experts > 1 else 0.0


def _gathered_bytes(shape: Shape, train: TrainConfig) -> float:
    """Two layers and the head, or what DeepSpeed may gather at once if that is more; at most the whole model.

    A single rank gathers nothing (_no_gather_coalesced in deepspeed/runtime/zero/partition_parameters.py).
    """
    if train.workers == 1:
        return 0.0
    at_work = 2 * shape.layer_parameters(shape.experts) + shape.vocab * shape.hidden
    return 2 * min(shape.parameters, max(at_work, _LIVE))


def _bucket_bytes(shape: Shape, trained: int, train: TrainConfig) -> tuple[float, float]:
    """The bucket of gradients in fp32, and the copies from which it is summed.

    A gradient larger than the bucket is summed alone, with a copy in bf16 and one in fp32. On a CPU only the used part of the
    bucket takes memory, and gloo sums another copy. There the same memory takes gloo's copy of the layers that it gathers: it
    counts if it is larger, as with adapters.
    """
    bucket = _ADAPTERS_BUCKET if train.lora else _BUCKET
    used = 4 * min(trained, bucket)
    if train.device == "cpu":
        return used, max(2 * used, _gathered_bytes(shape, train))
    alone = 6 * shape.largest_parameter if not train.lora and shape.largest_parameter > _BUCKET else 0
    return 4 * bucket, max(used, alone)


def _export_bytes(shape: Shape, train: TrainConfig) -> float:
    """The largest parameter, gathered in bf16, or the largest one with an adapter while it is merged in fp32 and rounded."""
    gathered = 0 if train.workers == 1 else 4 if train.device == "cpu" else 2  # gloo holds it twice
    merging = 6 * shape.mlp * shape.hidden if exported_parameters(shape, train) > trained_parameters(shape, train) else 0
    return max(gathered * shape.largest_parameter, merging)


def _activation_bytes(shape: Shape, train: TrainConfig) -> int:
    """Bytes of one token: each layer's input, and about 34 bytes a hidden unit for every layer at work at once.

    With dropout, adapters of such a layer hold their own inputs and a mask: 3 bytes for each input of its seven matrices.
    """
    at_work = 1 if train.activation_checkpointing else shape.layers
    dropped = 3 * (6 * shape.hidden + shape.mlp) if train.lora and train.lora.dropout else 0
    return 2 * shape.layers * shape.hidden + (34 * shape.hidden + dropped) * at_work


def _training_remedy(train: TrainConfig, *, load_full: bool, host_full: bool, batch_full: bool, full: bool) -> str:
    if load_full:
        return "each rank loads the whole mixture of experts into host memory: take machines with more memory or fewer GPUs"
    if host_full:
        return "the host's memory is too small for the optimizer: raise train.workers over more machines"
    if batch_full:
        return "lower train.max_num_tokens"
    if full:
        others = "" if train.lora else ", or train adapters (train.lora={})"
        offload = "" if train.offload == "optimizer" or train.lora else ", or set train.offload=optimizer"
        return "raise train.workers" + offload + others
    return ""
