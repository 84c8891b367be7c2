"""Settings of a training: objective, ranks, optimizer, adapters, and the choice of a checkpoint."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from stj.deepspeed_settings import used_settings
from stj.pair_fields import PairFields, Ties
from stj.setting_checks import MAX_SEED, above_0, at_least, check, label_selectors, numbers, one_of, zero_to_one

Objective = Literal["sft", "dpo", "rpo", "sft_then_dpo"]
TRACKERS = ("tensorboard", "mlflow", "wandb")
MOST_RANK = 512
"""The highest rank of an adapter that vLLM loads (MaxLoRARanks in vllm/config/lora.py)."""

_MOST_RANKS = 100_000  # More than a cluster of 2026 has GPUs. The plan holds every machine.


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """Learning from a right and a wrong judgment of the same comparison. The defaults are the released recipe's numbers.

    A setting here replaces the one of the same name in `train` if training is on pairs of judgments.
    """

    source: Literal["judged", "warm_up"] = "judged"
    """Which judgments to learn from. `judged` takes those of the judge's pass. `warm_up`, for `sft_then_dpo`, has the warmed-up
    model judge the same pairs: one more pass an iteration. It then learns from what it still gets wrong (RISE, arXiv
    2502.11689)."""
    beta: float = 0.1
    """Weight of a gain in log-probability over the reference model. A higher value keeps the model closer to the reference."""
    nll_scale: float = 1.5
    """Weight of the right judgment's negative log-likelihood in the loss; 0 leaves it out."""
    length_normalized: bool = False
    """Average log-probabilities over a judgment's tokens instead of summing them, so that length alone is no advantage."""
    lr: float = 5.5e-8
    """Peak learning rate on pairs of judgments."""
    max_seq_len: int = 2048
    """Longest judgment with its prompt, in tokens. Longer pairs are dropped and counted. Two must fit into
    `train.max_num_tokens`."""
    gradient_accumulation: int = 4
    """Micro-batches of each rank in one step on pairs."""
    max_grad_norm: float | None = 1.0
    """Clip the global norm of the gradient at this value; `null` does not clip."""
    max_steps: int | None = 3000
    """Stop after this many steps on pairs; `null` ends with the epochs."""

    def __post_init__(self) -> None:
        above_0("train.preference.", self, "beta", "lr", "max_grad_norm")
        at_least(0, "train.preference.", self, "nll_scale")
        at_least(1, "train.preference.", self, "max_seq_len", "gradient_accumulation", "max_steps")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which checkpoint of a training becomes the model, by how well each one judges held-out pairs.

    The paper selects by "a combination of pairwise judgment accuracy and position bias" (section 4.1). Here a checkpoint's
    score is its accuracy, the mean of both orders, less `position_weight` times the difference between the two orders.
    Checkpoints judge as `heldout` says, in both orders, without its greedy judgments. The earlier of two equals is chosen.
    Every training of a run selects, including a warm-up before DPO.
    """

    path: str | None = None
    """A file of pairs like `heldout.path`; `null` selects nothing and takes the last step. Do not name the file of
    `heldout.path`: a judge looks too good on the pairs that selected it."""
    fields: PairFields = field(default_factory=PairFields)
    """The names of the fields in `path`, as in `heldout.fields`."""
    ties: Ties = "skip"
    """What a pair counts that people call a tie, as in `heldout.ties`."""
    limit: int | None = None
    """Use only this many pairs, the first ones; `null` uses all. Every checkpoint costs a pass over them."""
    patience: int = 3
    """Stop training after this many checkpoints in a row that are no better than the best before them."""
    position_weight: float = 0.5
    """Weight of position bias, from 0 to 1. The paper names none. With 0.5 the score is the accuracy in the order in which the
    judge is worse; 0 is accuracy alone."""

    def __post_init__(self) -> None:
        at_least(1, "train.selection.", self, "limit", "patience")
        one_of("train.selection.ties", self.ties, Ties)
        zero_to_one("train.selection.", self, "position_weight")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters in place of whole weights: LoRA (Hu et al., arXiv 2106.09685).

    A layer computes W x + alpha / rank * B A x. W stays as it is, and only A and B are trained. They need a higher learning
    rate than whole weights, about ten times as high (Schulman et al., "LoRA Without Regret", 2025): set `train.lr`.
    """

    rank: int = 16
    """Rank of A and B. A layer of m x n weights trains rank * (m + n) numbers."""
    alpha: int = 32
    """Adapters are multiplied by `alpha / rank`. 32 is the value of "LoRA Without Regret"; the best learning rate depends on
    it."""
    dropout: float = 0
    """Share of each adapter's inputs that training sets to 0, from 0 to below 1. Only in training."""
    targets: tuple[str, ...] | None = None
    """Names of the linear layers that get adapters, as `[q_proj, v_proj]`. `null` takes every linear layer except the head, as
    QLoRA does (arXiv 2305.14314). Experts that a model keeps in one tensor get none."""
    export: Literal["merged", "adapter"] = "merged"
    """`merged` adds the adapters to the weights and writes a whole model in bf16. `adapter` writes the adapters alone; engines
    load them over the model that training began from, which must stay where it is."""

    def __post_init__(self) -> None:
        at_least(1, "train.lora.", self, "rank", "alpha")
        numbers("train.lora.", self, ("dropout",), lambda share: 0 <= share < 1, "0 or more, and below 1")
        check(self.targets != (), "train.lora.targets=[]: nothing would be trained; null takes every linear layer")
        check(self.targets is None or all(self.targets), "train.lora.targets holds an empty name")
        check(
            self.export == "merged" or self.rank <= MOST_RANK,
            f"train.lora.rank={self.rank}: vLLM loads adapters of a rank up to {MOST_RANK}: lower it, or set "
            "train.lora.export=merged",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tuning of the seed model: Table 7, with ZeRO-3 in place of FSDP and tensor parallelism."""

    objective: Objective = "sft"
    """`sft` learns right judgments, as in the paper. `dpo` and `rpo` learn right ones over wrong ones (stj/train/losses.py).
    `sft_then_dpo` does both in turn."""
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    """Settings of every objective except `sft`."""
    workers: int = 32
    """Data-parallel ranks, with one GPU each. More ranks make each step larger and each rank's share of the memory smaller."""
    device: Literal["gpu", "cpu"] = "gpu"
    """`gpu`, or `cpu` for small models on a machine without GPUs."""
    cpus_per_worker: float = 1
    """CPUs that Ray reserves for each rank, and the rank's threads."""
    place: dict[str, str] = field(default_factory=dict, hash=False)
    """Labels of the machines that ranks may use, in the form of `engine.place`. `{market-type: on-demand}` keeps training off
    spot machines."""
    max_seq_len: int = 4096
    """Longest example, in tokens; longer ones are dropped and counted. At most `max_num_tokens`."""
    max_num_tokens: int = 8192
    """Size of a micro-batch of one rank, a packed row of examples, in tokens. Lower it if training runs out of GPU memory."""
    lr: float = 1e-6
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """The two betas of AdamW, each from 0 to below 1."""
    final_lr_ratio: float = 0.2
    """The cosine schedule ends at this share of `lr`, from 0 to 1."""
    weight_decay: float = 0.1
    """Weight decay of AdamW."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises to `lr`."""
    gradient_accumulation: int = 1
    """Micro-batches of each rank in one step. Raise it to keep a step large on few GPUs."""
    max_epochs: int = 2
    """Passes over all examples."""
    max_steps: int | None = None
    """Stop after this many steps; `null` ends with the epochs."""
    max_grad_norm: float | None = None
    """Clip the global norm of the gradient at this value; `null` does not clip (the paper names no clipping)."""
    checkpoint_every_steps: int = 100
    """Steps between two checkpoints. After a failure at most this many steps are repeated, and those in which a checkpoint was
    being written. Each checkpoint takes disk and, while it is written, host memory."""
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    """Choice of a checkpoint, and an early stop. The learning rate still follows the schedule of all steps."""
    seed: int = 2
    """Seed of the order of examples and of dropout, from 0 to 2147483647."""
    activation_checkpointing: bool = True
    """Recompute activations in the backward pass: a third more compute for much less memory."""
    activation_checkpointing_every: int = 1
    """With `activation_checkpointing`: recompute every k-th layer, counted from the first; the other layers keep their
    activations. 1 recomputes all layers, 2 recomputes half of them. `stj plan` knows the memory."""
    offload: Literal["none", "optimizer"] = "none"
    """`optimizer` keeps the optimizer's states in host memory: 16 bytes a parameter over all ranks. Steps are slower."""
    shard_within_machine: bool = False
    """Keep a second copy of the weights on each machine, in bf16, shared by its GPUs (hpZ of ZeRO++). Then only the forward
    pass gathers weights over the network. Each GPU holds 2 bytes a parameter more, divided by the machine's GPUs. The trained
    weights are the same. Needs equally many ranks on each machine."""
    gradient_dtype: Literal["fp32", "bf16"] = "fp32"
    """Number format in which machines exchange gradients. `bf16` halves their traffic and rounds them once a machine. The ranks
    of a machine, and `gradient_accumulation`, sum in fp32 with both. `bf16` needs equally many ranks on each machine."""
    deepspeed: dict[str, Any] = field(default_factory=dict, hash=False)
    """More settings of DeepSpeed, merged over those of stj, as in `{zero_optimization: {reduce_bucket_size: 200000000}}`. A
    setting that stj makes itself is refused, unless it has the same value."""
    max_failures: int = 3
    """Number of times that training restarts from its last checkpoint after a rank has died."""
    shard_gb: float = 5
    """Size of one file of the exported weights, in GB."""
    lora: LoraConfig | None = None
    """Adapters that are trained instead of all weights: `train.lora={}` or `train.lora.rank=8`. `null` trains all weights, as
    the paper does."""
    trackers: tuple[str, ...] = ()
    """Where metrics go beside metrics.jsonl: any of `tensorboard`, `mlflow` and `wandb`."""

    def __post_init__(self) -> None:
        whole = ("gradient_accumulation", "checkpoint_every_steps", "max_epochs", "max_steps", "max_seq_len")
        at_least(1, "train.", self, *whole, "activation_checkpointing_every")
        check(
            1 <= self.workers <= _MOST_RANKS,
            f"train.workers={self.workers} ranks: must be 1 to {_MOST_RANKS}; set the number of GPUs that train",
        )
        at_least(0, "train.", self, "warmup_steps", "weight_decay", "max_failures", "cpus_per_worker")
        above_0("train.", self, "lr", "shard_gb", "max_grad_norm")
        zero_to_one("train.", self, "final_lr_ratio")
        numbers("train.", self, ("betas",), lambda beta: 0 <= beta < 1, "0 or more, and below 1")
        check(0 <= self.seed <= MAX_SEED, f"train.seed={self.seed}: must be 0 to {MAX_SEED}")
        unknown = sorted(set(self.trackers) - set(TRACKERS))
        check(not unknown, f"train.trackers={', '.join(unknown)}: no such tracker; stj has {', '.join(TRACKERS)}")
        check(
            self.activation_checkpointing or self.activation_checkpointing_every == 1,
            f"train.activation_checkpointing_every={self.activation_checkpointing_every} recomputes nothing with "
            "train.activation_checkpointing=false: set that to true, or leave this out",
        )
        one_of("train.gradient_dtype", self.gradient_dtype, Literal["fp32", "bf16"])
        object.__setattr__(self, "deepspeed", used_settings(self))  # as frozen dataclasses do in __init__
        label_selectors("train.place", self.place)
        check(
            self.max_seq_len <= self.max_num_tokens,
            f"train.max_seq_len={self.max_seq_len} tokens does not fit in train.max_num_tokens={self.max_num_tokens} tokens: "
            "raise train.max_num_tokens or lower train.max_seq_len",
        )
        check(
            self.objective == "sft" or 2 * self.preference.max_seq_len <= self.max_num_tokens,
            f"train.objective={self.objective}: two judgments of train.preference.max_seq_len={self.preference.max_seq_len} "
            f"tokens do not fit in train.max_num_tokens={self.max_num_tokens} tokens: "
            "raise train.max_num_tokens or lower train.preference.max_seq_len",
        )

    def stage(self, objective: Literal["sft", "dpo", "rpo"]) -> "TrainConfig":
        """The settings of one training; for pairs of judgments, settings under `preference` replace those of the same name."""
        if objective == "sft":
            # A warm-up's adapters are merged: the preference training begins from its weights, with new adapters.
            lora = self.lora
            if lora and self.objective == "sft_then_dpo":
                lora = replace(lora, export="merged")
            return replace(self, objective=objective, lora=lora)
        names = {field.name for field in fields(self.preference)} & vars(self).keys()
        return replace(self, objective=objective, **{name: getattr(self.preference, name) for name in names})
