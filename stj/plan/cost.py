"""Cost: tokens, GPU-hours and dollars of each phase and iteration, under assumptions that are said."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from stj.config import Config, HardwareConfig, JudgeConfig, ModelConfig, SelectConfig, TrainConfig
from stj.models.shapes import DTYPE_BYTES, Shape, shape_of
from stj.plan.memory import GB, count, kv_room
from stj.sources import source_size
from stj.sources.heldout import heldout_size

_ALL = 0.995
"""A share that is told as 100%."""


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What no config says: lengths in tokens, shares, and how much of a GPU's peak is reached."""

    instructions: int = 838_000
    """Of a hub data set: those of WildChat-1M."""
    passing: float = 0.15
    """Share of instructions that become pairs: those of WildChat-1M in the two categories of reasoning."""
    instruction: int = 300
    answer: int = 500
    judged: int = 1800
    """Prompt of a judgment: Figure 8 with an instruction and two answers."""
    judgment: int = 500
    spread: float = 0.27
    """Standard deviation of the logarithm of a text's length, a prompt and its judgment, taken as normal."""
    longer: float = 1.27
    """The longer of two judgments, as a multiple of one."""
    right: float = 0.7
    """p: share of sampled judgments that agree with the label."""
    compute: float = 0.4
    """Share of peak FLOP/s in training and prefill."""
    bandwidth: float = 0.6
    """Share of peak memory bandwidth in decoding."""

    def kept(self, samples: int) -> float:
        """Share of pairs with a right judgment among N: 1 - (1-p)^N."""
        return float(1 - (1 - self.right) ** samples)

    def paired(self, judge: JudgeConfig) -> float:
        """Share of pairs with a right and a wrong judgment among N: 1 - (1-p)^N - p^N.

        Where sampling stops at the first right one, those of which the first was wrong: (1-p) - (1-p)^N.
        """
        if judge.sampling == "first_correct":
            return self.kept(judge.samples) - self.right
        return float(self.kept(judge.samples) - self.right**judge.samples)

    def fitting(self, texts: int, limit: int) -> tuple[float, float]:
        """Share of examples of so many texts, each of at most `limit` tokens, and the mean length of a text of these."""
        one = self.judged + self.judgment
        longest = self.judged + self.judgment * (self.longer if texts > 1 else 1)
        deviations = (math.log(limit / longest) + self.spread**2 / 2) / self.spread
        share = _below(deviations)
        return share, one * _below(deviations - self.spread) / share

    def draws(self, judge: JudgeConfig) -> float:
        """Expected judgments of a pair: until the first right one (1 - (1-p)^N) / p, until both kinds are there, or all N."""
        if judge.sampling == "all":
            return judge.samples
        if judge.sampling == "first_pair":
            return 1 + sum(self.right**drawn + (1 - self.right) ** drawn for drawn in range(1, judge.samples))
        return self.kept(judge.samples) / self.right


_MINI = Assumptions(passing=0.62, instruction=11, answer=5, judged=244, judgment=45, spread=0.05, right=0.6)
"""Of the mini world, in the tokens of its seed: as its runs have it."""


def assumed(config: Config) -> Assumptions:
    """What is assumed of a run: of the mini world what is known of it; and that all instructions pass where no rule is set."""
    found = _MINI if config.source.path.startswith("package://mini/") else Assumptions()
    return found if has_rule(config.select) else replace(found, passing=1.0)


def has_rule(select: SelectConfig) -> bool:
    """Whether the rule keeps instructions out, beside the few that their source marks toxic or redacted."""
    return replace(select, limit=None, toxic=False, redacted=False) != SelectConfig(categories=None)


def _below(deviations: float) -> float:
    """Share of a normal distribution below so many standard deviations."""
    return math.erfc(-deviations / math.sqrt(2)) / 2


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What something takes, once."""

    tokens_in: float
    tokens_out: float
    """Sampled; of training, those that the loss is on."""
    gpu_hours: float | None
    """None on CPU, and for a model of unknown shape."""
    dollars: float | None

    def told(self) -> str:
        """For a reader."""
        spent = ", ".join(["", *spent_words(self.gpu_hours, self.dollars)])
        return f"{count(self.tokens_in)} tokens in, {count(self.tokens_out)} out{spent}"


@dataclass(frozen=True, kw_only=True)
class PhasePlan(Cost):
    """One phase of the run, once."""

    name: str
    times: tuple[int, ...]
    """How often, in each iteration."""
    dropped: str = ""
    """Of a training: which examples it leaves out."""

    def line(self) -> str:
        """This phase for a reader."""
        times = sum(self.times)
        spent = ", ".join(spent_words(*total([(times, self)])))
        often = f"; {times} times{': ' if spent else ''}{spent}" if times > 1 else ""
        return f"{self.name:<12} {self.told()}{often}" + (f"; {self.dropped}" if self.dropped else "")


@dataclass(frozen=True, kw_only=True)
class IterationPlan(Cost):
    """What each of some iterations takes, one after another, that take the same."""

    first: int
    last: int

    def line(self) -> str:
        """These iterations for a reader."""
        name = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}, each"
        return f"{'iteration':<12} {name}: {self.told()}"


def iterations(found: Sequence[PhasePlan]) -> tuple[IterationPlan, ...]:
    """What the iterations take; the first one also makes the pairs, the last one also measures M_T."""
    plans: list[IterationPlan] = []
    for times, same in groupby(zip(*(phase.times for phase in found), strict=True)):
        first = plans[-1].last + 1 if plans else 1
        each = [(often, phase) for often, phase in zip(times, found, strict=True) if often]
        gpu_hours, dollars = total(each)
        plans.append(
            IterationPlan(
                first=first,
                last=first + sum(1 for _ in same) - 1,
                tokens_in=sum(often * phase.tokens_in for often, phase in each),
                tokens_out=sum(often * phase.tokens_out for often, phase in each),
                gpu_hours=gpu_hours,
                dollars=dollars,
            )
        )
    return tuple(plans)


def total(costs: Iterable[tuple[int, Cost]]) -> tuple[float | None, float | None]:
    """GPU-hours and dollars of costs, each so many times, as far as they are known; None where none is."""
    found = list(costs)
    hours = [times * cost.gpu_hours for times, cost in found if cost.gpu_hours is not None]
    dollars = [times * cost.dollars for times, cost in found if cost.dollars is not None]
    return sum(hours) if hours else None, sum(dollars) if dollars else None


def spent_words(gpu_hours: float | None, dollars: float | None) -> list[str]:
    """GPU-hours and dollars for a reader, as far as they are known."""
    hours = [] if gpu_hours is None else [f"{gpu_hours:,.1f} GPU-hours"]
    return hours if dollars is None else [*hours, f"${dollars:,.0f}"]


def phases(config: Config, a: Assumptions) -> tuple[PhasePlan, ...]:
    """The phases of all iterations: instructions are categorised and pairs written once.

    Raises SourceError where a local source is missing.
    """
    models, later = config.models, config.iterations - 1
    once, again, each = (1, *[0] * later), (0, *[1] * later), (1,) * config.iterations
    read, pairs = _rows(config, a)
    judged = _judging(pairs, config.judge, a)
    found = [
        _sampling("categories", once, (read * (a.instruction + 400), read * 30), models.generator, config, a),
        _sampling(
            "pairs", once, (pairs * (2 * a.instruction + a.answer + 200), pairs * 2.5 * a.answer), models.generator, config, a
        ),
        _sampling("judgments 1", once, judged, models.first_judge, config, a),
    ]
    if later:
        found.append(_sampling("judgments 2+", again, judged, models.seed, config, a))
    if config.train.preference.source == "warm_up":
        found.append(_sampling("judged again", each, _judging(pairs, config.judge.again, a), models.seed, config, a))
    if orders := 2 * (heldout_size(config.heldout) or 0):
        tokens = orders * a.judged, orders * (config.heldout.samples + config.heldout.greedy) * a.judgment
        found.append(_sampling("evaluation", (*[1] * later, 2), tokens, models.seed, config, a))
    compared = compared_by(config)
    trainings = [_Training.of(pairs, name, train, compared, a) for name, train in _stages(config.train)]
    if orders := 2 * (heldout_size(config.selected_on, "train.selection.path") or 0):
        tokens = orders * a.judged, orders * config.heldout.samples * a.judgment
        checkpoints = sum(training.checkpoints for training in trainings)
        found.append(_sampling("selection", (checkpoints,) * config.iterations, tokens, models.seed, config, a))
    return (*found, *(_fine_tuning(training, config, a) for training in trainings))


def compared_by(config: Config) -> JudgeConfig:
    """How the judgments are sampled that preferences are learned from; a warm-up has as many right ones of either pass."""
    return config.judge.again if config.train.preference.source == "warm_up" else config.judge


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
    name: str, times: tuple[int, ...], tokens: tuple[float, float], model: ModelConfig, config: Config, a: Assumptions
) -> PhasePlan:
    shape = shape_of(model)
    hours = None
    if shape and config.engine.device == "gpu":
        hours = _gpu_seconds(shape, model, tokens, config, a) / 3600
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
    dropped: str

    @classmethod
    def of(cls, pairs: float, name: str, train: TrainConfig, judge: JudgeConfig, a: Assumptions) -> "_Training":
        """Of one kept judgment a pair, or of a right and a wrong one."""
        preferring = train.objective != "sft"
        share, text = a.fitting(1 + preferring, train.max_seq_len)
        example = (1 + preferring) * text
        examples = share * pairs * (a.paired(judge) if preferring else a.kept(judge.samples))
        step = train.workers * train.gradient_accumulation * train.max_num_tokens
        steps = min(examples * train.max_epochs * example / step, train.max_steps or math.inf)
        key = "train.preference.max_seq_len" if preferring else "train.max_seq_len"
        dropped = f"{1 - share:.0%} of examples are longer than {key}={train.max_seq_len} tokens and dropped"
        return cls(
            name=name,
            tokens=steps * step,
            learnt=steps * step * a.judgment / (a.judged + a.judgment),
            referred=examples * example * preferring,
            checkpoints=math.ceil(steps / train.checkpoint_every_steps),
            dropped=dropped if share < _ALL else "",
        )


def _fine_tuning(training: _Training, config: Config, a: Assumptions) -> PhasePlan:
    """Forward and backward are 6 FLOPs a parameter and token, 8 where the activations are computed again."""
    shape = shape_of(config.models.seed)
    hours = None
    if shape and config.train.device == "gpu":
        work = (8 if config.train.activation_checkpointing else 6) * training.tokens + 2 * training.referred
        flops = config.hardware.gpu_tflops * 1e12 * a.compute
        hours = shape.active_parameters * work / flops / 3600
    tokens = training.tokens, training.learnt
    return _phase(training.name, (1,) * config.iterations, tokens, hours, config.hardware, training.dropped)


def _phase(
    name: str,
    times: tuple[int, ...],
    tokens: tuple[float, float],
    hours: float | None,
    hardware: HardwareConfig,
    dropped: str = "",
) -> PhasePlan:
    dollars = None
    if hours is not None and hardware.dollars_per_gpu_hour is not None:
        dollars = hours * hardware.dollars_per_gpu_hour
    return PhasePlan(
        name=name,
        times=times,
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        gpu_hours=hours,
        dollars=dollars,
        dropped=dropped,
    )
