"""Memory of a training rank in each phase, whether it fits, and what to change if it does not.

The formulas follow DeepSpeed 0.19 with the settings of train/zero.py. benchmarks/plan_check.py compares them with the memory
of real ranks on a CPU.
"""

from dataclasses import dataclass, replace

from stj.config import Config
from stj.models.shapes import Shape
from stj.models.zero import CHECKPOINT_BYTES, SNAPSHOT_SHARE, ZeroSizes
from stj.plan.memory import GB, count, verdict
from stj.plan.ranks import uneven
from stj.text import data_size
from stj.train_config import TrainConfig

_TRAINING_SHARE = 0.95
"""Usable share of a GPU's memory; the driver, communication and fragments take the rest."""
_LOGITS_SHARE = 0.1
"""Share of all logits in fp32 that loss and gradient hold at once, at most (measured in tests/train/test_head.py)."""
GRADIENT_BYTES = {"fp32": 4, "bf16": 2}
"""Bytes of a gradient while ranks exchange it, by train.gradient_dtype."""


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
    copy_gb: float
    """The rank's share of its machine's second copy of the weights, in bf16 (train.shard_within_machine)."""
    activations_gb: float
    logits_gb: float
    """Logits of one slice of the vocabulary (train/head.py) over the whole micro-batch."""
    gradients_gb: float
    """Gradients of a layer, and summing them over the ranks: a bucket, its copies, and the sums in fp32 beyond 2 bytes each."""
    update_gb: float
    """At the update, without gathered layers: the bucket, the sums, and a copy of the sums that are used at once."""
    export_gb: float
    """At the export, beside the states: the bucket, the sums, and the largest parameter, gathered and merged."""
    checkpoint_gb: float
    """A checkpoint of all ranks on disk; two are kept, beside a third that is being written."""
    snapshot_gb: float
    """Host memory of a machine for its ranks' copies of a checkpoint; 0 without room for them: then steps wait for the disk."""
    model_gb: float
    """The exported model on disk."""
    fits: bool
    remedy: str

    @property
    def rank_gb(self) -> float:
        """Peak memory of one rank on its GPU, over all phases."""
        step = self.gathered_gb + self.activations_gb + self.logits_gb + self.gradients_gb
        return self.states_gb + self.copy_gb + max(step, self.update_gb, self.export_gb)

    def line(self) -> str:
        """Training as a line of the printed plan."""
        adapters = f"adapters of {count(self.adapters)} parameters, " if self.adapters else ""
        copy = f"{self.copy_gb:.2g} second copy of the weights, " if self.copy_gb else ""
        host = f" and {data_size(self.host_gb * GB)} of host memory a machine" if self.host_gb else ""
        return (
            f"{'training':<12} {adapters}ZeRO-3 over {self.ranks} ranks, each {data_size(self.rank_gb * GB)}{host} "
            f"(in GB: {self.states_gb:.3g} states, {copy}{self.gathered_gb:.2g} gathered layers, "
            f"{self.activations_gb:.2g} activations, {self.logits_gb:.2g} logits, {self.gradients_gb:.2g} summing gradients; "
            f"beside the states {self.update_gb:.2g} at an update and {self.export_gb:.2g} at the export; on disk "
            f"{data_size(self.checkpoint_gb * GB)} a checkpoint and {data_size(self.model_gb * GB)} a model; "
            f"{self._snapshot_words()}): {verdict(self.fits, self.remedy)}"
        )

    def _snapshot_words(self) -> str:
        if not self.snapshot_gb:
            return "no room in memory to write checkpoints behind the steps"
        return f"{data_size(self.snapshot_gb * GB)} of a machine's memory to write checkpoints behind the steps"


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
    bucket, copies = _bucket_bytes(shape, trained, train, per_machine)
    loading = _loading_bytes(shape)
    sums = 0 if offloaded else 2 * part  # Beyond bf16; offloaded, they are on the host.
    plan = TrainingPlan(
        ranks=train.workers,
        adapters=trained if train.lora else 0,
        states_gb=((2 if offloaded else 16) * part + 2 * frozen) / GB,
        host_gb=max(loading, 16 * part if offloaded else 0) * per_machine / GB,  # 12 for the optimizer, 4 for gradients.
        gathered_gb=_gathered_bytes(shape, train) / GB,
        copy_gb=_copy_bytes(shape, train, per_machine) / GB,
        activations_gb=activation_bytes(shape, train) * train.max_num_tokens / GB,
        logits_gb=_LOGITS_SHARE * 4 * shape.vocab * train.max_num_tokens / GB,
        gradients_gb=(_layer_gradient_bytes(shape, trained, train) + bucket + copies + sums) / GB,
        update_gb=(bucket + sums + (0 if offloaded else 4 * min(part, _sizes(shape, train).sub_group_size))) / GB,
        export_gb=(bucket + sums + _export_bytes(shape, train)) / GB,
        checkpoint_gb=CHECKPOINT_BYTES * trained / GB,
        snapshot_gb=0.0,
        model_gb=2 * exported_parameters(shape, train) / GB,
        fits=True,
        remedy="",
    )
    room = hardware.gpu_memory_gb * _TRAINING_SHARE if train.device == "gpu" else hardware.host_memory_gb / per_machine
    remedy = _training_remedy(
        train,
        uneven=uneven(train, hardware),
        load_full=loading * per_machine / GB > hardware.host_memory_gb,
        host_full=plan.host_gb > hardware.host_memory_gb,
        copy_full=plan.rank_gb - plan.copy_gb <= room < plan.rank_gb,
        batch_full=plan.rank_gb - plan.copy_gb - plan.states_gb - sums / GB > room,
        full=plan.rank_gb > room,
    )
    return replace(
        plan, snapshot_gb=_snapshot_gb(plan, part * per_machine, per_machine, config), fits=not remedy, remedy=remedy
    )


def _snapshot_gb(plan: TrainingPlan, trained: float, per_machine: int, config: Config) -> float:
    """What copies of a checkpoint take on a machine whose ranks train this many parameters; 0 without room for them."""
    used = plan.host_gb if config.train.device == "gpu" else plan.rank_gb * per_machine
    copies = CHECKPOINT_BYTES * trained / GB
    return copies if copies <= SNAPSHOT_SHARE * (config.hardware.host_memory_gb - used) else 0.0


def _loading_bytes(shape: Shape) -> float:
    """Host memory of a rank while the seed loads: all weights of a mixture of experts, nothing of a dense model.

    transformers merges the experts of each layer on every rank before ZeRO-3 takes its part.
    """
    return 2.0 * shape.parameters if shape.experts > 1 else 0.0


def _sizes(shape: Shape, train: TrainConfig) -> ZeroSizes:
    return ZeroSizes.of(shape.layer_parameters(shape.experts), train)


def _copy_bytes(shape: Shape, train: TrainConfig, per_machine: int) -> float:
    """A share of all weights in bf16, from the forward pass to the update; none if a machine has all ranks, or only one."""
    shared = train.shard_within_machine and 1 < per_machine < train.workers
    return 2 * shape.parameters / per_machine if shared else 0.0


def _gathered_bytes(shape: Shape, train: TrainConfig) -> float:
    """Two layers and the head, or what DeepSpeed may gather at once if that is more; at most the whole model.

    A single rank gathers nothing (_no_gather_coalesced in deepspeed/runtime/zero/partition_parameters.py).
    """
    if train.workers == 1:
        return 0.0
    at_work = 2 * shape.layer_parameters(shape.experts) + shape.vocab * shape.hidden
    return 2 * min(shape.parameters, max(at_work, _sizes(shape, train).stage3_max_live_parameters))


def _layer_gradient_bytes(shape: Shape, trained: int, train: TrainConfig) -> float:
    """A layer's gradients in bf16: ZeRO-3 sums them once the layer's backward pass has ended (train/model.py)."""
    return 2 * (trained / shape.layers if train.lora else shape.layer_parameters(shape.experts))


def _bucket_bytes(shape: Shape, trained: int, train: TrainConfig, per_machine: int) -> tuple[float, float]:
    """The bucket of gradients in train.gradient_dtype, and the copies from which it is summed.

    A gradient larger than the bucket is summed alone, and is itself a copy in bf16. On a CPU only the used part of the bucket
    takes memory. There the same memory takes gloo's copy of the layers that it gathers: it counts if it is larger, as with
    adapters.
    """
    bucket, size = _sizes(shape, train).reduce_bucket_size, GRADIENT_BYTES[train.gradient_dtype]
    used = min(trained, bucket)
    copies = _copies_bytes(train, per_machine, used, min(shape.largest_parameter, used))
    if train.device == "cpu":
        return size * used, max(copies, _gathered_bytes(shape, train))
    largest = shape.largest_parameter if not train.lora and shape.largest_parameter > bucket else 0
    return size * bucket, max(copies, 2 * largest + _copies_bytes(train, per_machine, largest, largest))


def _copies_bytes(train: TrainConfig, per_machine: int, numbers: int, largest: int) -> float:
    """Copies of gradients while they are summed, the largest of which has `largest` numbers: one in fp32, and gloo's own copy.

    With train.gradient_dtype=bf16 (mean_by_machine in train/deepspeed_private.py) each gradient is padded in bf16 before. The
    sum of a machine's ranks in fp32 is beside the copy, and then, if there are several machines, that sum and the last one in
    bf16.
    """
    gloo = 2 if train.device == "cpu" else 1
    if train.gradient_dtype == "fp32":
        return 4.0 * gloo * numbers
    padded = 2 * largest
    inside = 4 * gloo * numbers - 4 * numbers + 4 * numbers / per_machine
    across = (4 + 2 * gloo) * numbers / per_machine + 2 * numbers / train.workers if train.workers > per_machine else 0
    return 4 * numbers + max(padded, inside, across)


def _export_bytes(shape: Shape, train: TrainConfig) -> float:
    """The largest parameter, gathered in bf16, or the largest one with an adapter while it is merged in fp32 and rounded."""
    gathered = 0 if train.workers == 1 else 4 if train.device == "cpu" else 2  # gloo holds it twice
    merging = 6 * shape.mlp * shape.hidden if exported_parameters(shape, train) > trained_parameters(shape, train) else 0
    return max(gathered * shape.largest_parameter, merging)


def activation_bytes(shape: Shape, train: TrainConfig) -> int:
    """Bytes of one token, at the layer whose backward pass holds most.

    A layer that is computed again keeps its input alone, 2 bytes a hidden unit. Any other layer keeps what its backward pass
    needs (`_kept_bytes`). Backward begins with the last layer: if that one is computed again, it holds both for a while. The
    layer at work also holds gradients: of its output and input and of two norms, and of the products in its MLP.

    With dropout, adapters of a layer hold their own inputs and a mask: 3 bytes for each input of its seven matrices.
    """
    kept = _kept_bytes(shape, train)
    every = train.activation_checkpointing_every if train.activation_checkpointing else None
    again = -(-shape.layers // every) if every else 0
    whole = shape.layers - again + (1 if every and (shape.layers - 1) % every == 0 else 0)
    gradients = 6 * shape.hidden + 4 * shape.mlp * shape.active_experts
    return 2 * shape.hidden * again + kept * whole + gradients


def _kept_bytes(shape: Shape, train: TrainConfig) -> int:
    """Bytes of one token in a layer of the Llama family that keeps its activations, all in bf16 but for the norms.

    - two RMSNorms, 8 bytes a hidden unit each: the input in fp32, the scaled input, and the output, which the matrices share
    - attention, 2 bytes a number: queries, keys, values, and the output, which the last matrix shares
    - the gated MLP, 2 bytes a number: gate, its activation, the other half, and their product

    For the 70B (MLP of 3.5 hidden sizes, 8 heads a key) that is 48.5 bytes a hidden unit, or 3.3 GB for 8,192 tokens. The loop
    over texts copies queries, keys and values, and is used on a CPU: 51 bytes. tests/plan/test_activations.py measures both.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    copied = 2 * queries + 4 * keys if train.device == "cpu" else 0
    dropped = 3 * (6 * shape.hidden + shape.mlp) if train.lora and train.lora.dropout else 0
    return 16 * shape.hidden + 4 * (queries + keys) + 8 * shape.mlp * shape.active_experts + copied + dropped


def _training_remedy(
    train: TrainConfig, *, uneven: str, load_full: bool, host_full: bool, copy_full: bool, batch_full: bool, full: bool
) -> str:
    if uneven:
        return uneven
    if load_full:
        return "each rank loads the whole mixture of experts into host memory: take machines with more memory or fewer GPUs"
    if host_full:
        return "the host's memory is too small for the optimizer: raise train.workers over more machines"
    if copy_full:
        return "set train.shard_within_machine=false, or raise train.workers"
    if batch_full:
        every = "set train.activation_checkpointing_every=1, or " if train.activation_checkpointing_every > 1 else ""
        return f"{every}lower train.max_num_tokens"
    if full:
        others = "" if train.lora else ", or train adapters (train.lora={})"
        offload = "" if train.offload == "optimizer" or train.lora else ", or set train.offload=optimizer"
        return "raise train.workers" + offload + others
    return ""
