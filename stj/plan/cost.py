"""Cost: tokens, GPU-hours and dollars of each phase, under assumptions that are said."""

import math
from dataclasses import dataclass

from stj.config import Config, HardwareConfig, JudgeConfig, ModelConfig, TrainConfig
from stj.plan.memory import GB, count, kv_room
from stj.plan.shapes import DTYPE_BYTES, Shape, shape_of
from stj.sources import source_size
from stj.sources.heldout import heldout_size


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What no config says: lengths in tokens, shares, and how much of a GPU's peak is reached."""

    instructions: int = 838_000
    """Of a hub data set: those of WildChat-1M."""
    passing: float = 0.15
    """Share of instructions that pass the selection rule."""
    instruction: int = 300
    answer: int = 500
    judged: int = 1800
    """Prompt of a judgment: Figure 8 with an instruction and two answers."""
    judgment: int = 500
    right: float = 0.7
    """p: share of sampled judgments that agree with the label."""
    compute: float = 0.4
    """Share of peak FLOP/s in training and prefill."""
    bandwidth: float = 0.6
    """Share of peak memory bandwidth in decoding."""

    def kept(self, samples: int) -> float:
        """Share of pairs with a right judgment among N: 1 - (1-p)^N."""
        return float(1 - (1 - self.right) ** samples)

    def paired(self, samples: int) -> float:
        """Share of pairs with a right and a wrong judgment among N: 1 - (1-p)^N - p^N."""
        return float(self.kept(samples) - self.right**samples)

    def draws(self, judge: JudgeConfig) -> float:
        """Expected judgments of a pair: until the first right one (1 - (1-p)^N) / p, until both kinds are there, or all N."""
        if judge.sampling == "all":
            return judge.samples
        if judge.sampling == "first_pair":
            return 1 + sum(self.right**drawn + (1 - self.right) ** drawn for drawn in range(1, judge.samples))
        return self.kept(judge.samples) / self.right


@dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """One phase of the run. Its tokens are those of one time, its hours and dollars those of all."""

    name: str
    times: int
    tokens_in: float
    tokens_out: float
    """Sampled; of training, those that the loss is on."""
    gpu_hours: float | None
    """None on CPU, and for a model of unknown shape."""
    dollars: float | None

    def line(self) -> str:
        """This phase for a reader."""
        hours = "" if self.gpu_hours is None else f", {self.gpu_hours:,.1f} GPU-hours"
        dollars = "" if self.dollars is None else f", ${self.dollars:,.0f}"
        times = f"{self.times} times " if self.times > 1 else ""
        return f"{self.name:<12} {times}{count(self.tokens_in)} tokens in, {count(self.tokens_out)} out{hours}{dollars}"


def phases(config: Config, a: Assumptions) -> tuple[PhasePlan, ...]:
    """The phases of all iterations: instructions are categorised and pairs written once.

    Raises SourceError where a local source is missing.
    """
    models, later = config.models, config.iterations - 1
    read, pairs = _rows(config, a)
    judged = _judging(pairs, config.judge, a)
    found = [
        _sampling("categories", 1, (read * (a.instruction + 400), read * 30), models.generator, config, a),
        _sampling(
            "pairs", 1, (pairs * (2 * a.instruction + a.answer + 200), pairs * 2.5 * a.answer), models.generator, config, a
        ),
        _sampling("judgments 1", 1, judged, models.first_judge, config, a),
    ]
    if later:
        found.append(_sampling("judgments 2+", later, judged, models.seed, config, a))
    if config.train.preference.source == "warm_up":
        found.append(
            _sampling("judged again", config.iterations, _judging(pairs, config.judge.again, a), models.seed, config, a)
        )
    if orders := 2 * (heldout_size(config.heldout) or 0):
        tokens = orders * a.judged, orders * (config.heldout.samples + config.heldout.greedy) * a.judgment
        found.append(_sampling("evaluation", config.iterations + 1, tokens, models.seed, config, a))
    trainings = [_Training.of(pairs, name, train, config.judge, a) for name, train in _stages(config.train)]
    if orders := 2 * (heldout_size(config.selected_on, "train.selection.path") or 0):
        tokens = orders * a.judged, orders * config.heldout.samples * a.judgment
        times = config.iterations * sum(training.checkpoints for training in trainings)
        found.append(_sampling("selection", times, tokens, models.seed, config, a))
    return (*found, *(_fine_tuning(training, config, a) for training in trainings))


def _judging(pairs: float, judge: JudgeConfig, a: Assumptions) -> tuple[float, float]:
    """Tokens of judging the pairs once."""
    return pairs * a.judged, pairs * a.draws(judge) * a.judgment


def _rows(config: Config, a: Assumptions) -> tuple[float, float]:
    """Instructions that are categorised, and pairs that come of them: none after the limit is full."""
    there = source_size(config.source) or a.instructions
    wanted = config.select.limit or there
    read = min(there, wanted / a.passing)
    return read, min(wanted, read * a.passing)


def _sampling(
    name: str, times: int, tokens: tuple[float, float], model: ModelConfig, config: Config, a: Assumptions
) -> PhasePlan:
    shape = shape_of(model)
    hours = None
    if shape and config.engine.device == "gpu":
        hours = times * _gpu_seconds(shape, model, tokens, config, a) / 3600
    return _phase(name, times, tokens, hours, config.hardware)


def _gpu_seconds(shape: Shape, model: ModelConfig, tokens: tuple[float, float], config: Config, a: Assumptions) -> float:
    """Prefill is bound by compute; a step of decoding reads the weights and the KV cache of all its sequences."""
    flops = config.hardware.gpu_tflops * 1e12 * a.compute
    bandwidth = config.hardware.gpu_bandwidth_gbs * GB * a.bandwidth
    parallel = max(1.0, min(config.engine.max_num_seqs, kv_room(shape, model, config) / (a.judged + a.judgment)))
    cache = parallel * (a.judged + a.judgment / 2) * shape.kv_bytes(model.dtype)
    read = (shape.parameters * DTYPE_BYTES[model.dtype] + cache) / bandwidth
    work = 2 * shape.active_parameters / flops
    return tokens[0] * work + tokens[1] / parallel * max(read, work * parallel)


def _stages(train: TrainConfig) -> list[tuple[str, TrainConfig]]:
    """The trainings of an iteration, with the settings of each."""
    if train.objective == "sft_then_dpo":
        return [("warm-up", train.stage("sft")), ("preference", train.stage("dpo"))]
    return [("fine-tuning", train.stage(train.objective))]


@dataclass(frozen=True, kw_only=True)
class _Training:
    """What one training goes through."""

    name: str
    tokens: float
    """Of all steps."""
    learnt: float
    """Those that the loss is on."""
    referred: float
    """Those that the reference model reads, once."""
    checkpoints: int

    @classmethod
    def of(cls, pairs: float, name: str, train: TrainConfig, judge: JudgeConfig, a: Assumptions) -> "_Training":
        """Of one kept judgment a pair, or of a right and a wrong one."""
        preferring = train.objective != "sft"
        example = (1 + preferring) * (a.judged + a.judgment)
        examples = pairs * (a.paired(judge.samples) if preferring else a.kept(judge.samples))
        step = train.workers * train.gradient_accumulation * train.max_num_tokens
        steps = min(examples * train.max_epochs * example / step, train.max_steps or math.inf)
        return cls(
            name=name,
            tokens=steps * step,
            learnt=steps * step * a.judgment / (a.judged + a.judgment),
            referred=examples * example * preferring,
            checkpoints=math.ceil(steps / train.checkpoint_every_steps),
        )


def _fine_tuning(training: _Training, config: Config, a: Assumptions) -> PhasePlan:
    """Forward and backward are 6 FLOPs a parameter and token, 8 where the activations are computed again."""
    shape = shape_of(config.models.seed)
    hours = None
    if shape and config.train.device == "gpu":
        work = (8 if config.train.activation_checkpointing else 6) * training.tokens + 2 * training.referred
        flops = config.hardware.gpu_tflops * 1e12 * a.compute
        hours = config.iterations * shape.active_parameters * work / flops / 3600
    return _phase(training.name, config.iterations, (training.tokens, training.learnt), hours, config.hardware)


def _phase(name: str, times: int, tokens: tuple[float, float], hours: float | None, hardware: HardwareConfig) -> PhasePlan:
    dollars = None
    if hours is not None and hardware.dollars_per_gpu_hour is not None:
        dollars = hours * hardware.dollars_per_gpu_hour
    return PhasePlan(name=name, times=times, tokens_in=tokens[0], tokens_out=tokens[1], gpu_hours=hours, dollars=dollars)
