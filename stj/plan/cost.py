"""The phases of a run that read or write tokens, with their GPU-hours and dollars, under stated assumptions."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stj.cluster_config import HardwareConfig
from stj.config import Config, JudgeConfig, ModelConfig
from stj.models.shapes import DTYPE_BYTES, Shape, shape_of
from stj.pair_sources import ANSWERS, PairSource
from stj.panel import OPINIONS, PanelMember, following, other_weights
from stj.plan.assumptions import Assumptions
from stj.plan.memory import GB, kv_room
from stj.plan.network import MicroStep, micro_step, reading_step, update
from stj.plan.phase_cost import PhasePlan
from stj.plan.places import engines_at_once
from stj.plan.training import stages
from stj.sources import source_size
from stj.sources.heldout import heldout_size
from stj.sources.heldout_grades import heldout_grades_size
from stj.sources.labelled import labelled_size
from stj.sources.preferences import preferences_size
from stj.train_config import TrainConfig

_ALL = 0.995
"""Shares from here on are shown as 100%."""
_CHECK = (80, 10)
"""Tokens of what asks for the verdict behind a rationale, and of that verdict."""
_EMBEDDED = 500
"""Tokens of the 2,000 characters that are embedded of a longer text."""
_ANSWERS = 4
"""Answers to a question until one is right and one is wrong."""


@dataclass(frozen=True, kw_only=True)
class GivenPairs:
    """The pairs that measure each judge. Only the benchmarks themselves know their sizes, so the plan is given them."""

    heldout: int | None
    """Held-out pairs; None if a benchmark of unknown size holds them."""
    benchmarks: tuple[tuple[str, int | None, int], ...]
    """Name, number of pairs (None if not known) and judgments in each order, for each benchmark."""


def assumed_pairs(config: Config) -> GivenPairs:
    """The pairs as far as a config says: files are counted, and benchmarks have unknown sizes.

    Raises SourceError if a local file is missing.
    """
    named = config.heldout.path is not None and re.fullmatch(r"[a-z][a-z0-9-]*(:.*)?", config.heldout.path)
    unknown = named and not Path(config.heldout.path or "").exists()
    heldout = None if unknown else heldout_size(config.heldout) or 0
    return GivenPairs(heldout=heldout, benchmarks=tuple((word, None, 1) for word in config.benchmarks))


def phases(config: Config, a: Assumptions, given: GivenPairs) -> tuple[PhasePlan, ...]:
    """The phases of all iterations. Instructions are categorised once, and pairs are written once.

    Raises SourceError if a local source is missing.
    """
    models, later = config.models, config.iterations - 1
    once, later_only, always = (1, *[0] * later), (0, *[1] * later), (1,) * config.iterations
    read, made = _rows(config, a)
    pairs = made + _given(config, a)
    judged = _judging(pairs, config.judge, a)
    alone = config.examples.labelled_alone
    phase_plans = [*_embedding(once, config, a), *_sorting(read, once, config, a)]
    phase_plans += _making_pairs(made, once, config, a) if config.makes_synthetic else []
    phase_plans += _answering(once, config, a)
    if not alone:
        phase_plans.append(_sampling("judgments 1", once, judged, models.first_judge, config, a))
    if later and not alone:
        phase_plans.append(_sampling("judgments 2+", later_only, judged, models.seed, config, a))
    phase_plans += _opinions(pairs, once, later_only, config, a)
    if config.train.preference.source == "warm_up":
        judged_again = _judging(pairs, config.judge.again, a)
        phase_plans.append(_sampling("judged again", always, judged_again, models.seed, config, a))
    measuring = (*[1] * later, 2)
    if pairs_held_out := a.benchmark if given.heldout is None else given.heldout:
        judgments = config.heldout.samples + config.heldout.greedy
        phase_plans.append(
            _sampling("evaluation", measuring, _both_orders(pairs_held_out, judgments, a), models.seed, config, a)
        )
    if answers := heldout_grades_size(config):
        grades = config.heldout.samples + config.heldout.greedy
        each = answers * a.judged, answers * grades * a.judgment
        phase_plans.append(_sampling("held-out grades", measuring, each, models.seed, config, a))
    if given.benchmarks:
        costs = [_both_orders(a.benchmark if size is None else size, times, a) for _, size, times in given.benchmarks]
        tokens = sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)
        phase_plans.append(_sampling("benchmarks", measuring, tokens, models.seed, config, a))
    compared = compared_by(config)
    trainings = [
        _Training.of(_examples(_mixed(made, config, a), train, compared, config, a), name, train, a)
        for name, train in stages(config.train)
    ]
    if orders := 2 * (heldout_size(config.selected_on, "train.selection.path") or 0):
        tokens = orders * a.judged, orders * config.heldout.samples * a.judgment
        checkpoints = sum(training.checkpoints for training in trainings)
        phase_plans.append(_sampling("selection", (checkpoints,) * config.iterations, tokens, models.seed, config, a))
    return (*phase_plans, *(_fine_tuning(training, config, a) for training in trainings))


def _embedding(once: tuple[int, ...], config: Config, a: Assumptions) -> Iterator[PhasePlan]:
    """The vectors of all instructions and given pairs by engines, before any rule of a model's drops one."""
    if (model := config.curate.pooled_model) is not None:
        rows = _given(config, a) + (source_size(config.source) or a.instructions if config.makes_synthetic else 0)
        each = min(a.instruction, _EMBEDDED, model.max_model_len)
        yield _sampling("embedding", once, (rows * each, 0), model, config, a)


def _sorting(read: float, once: tuple[int, ...], config: Config, a: Assumptions) -> Iterator[PhasePlan]:
    """The categories of instructions, and of the pairs of sources that keep only some; all of these are taken to stay."""
    read += sum(_size(source, a) for source in config.preferences if source.filtered)
    if read or config.makes_synthetic:
        yield _sampling("categories", once, (read * (a.instruction + 400), read * 30), config.models.generator, config, a)


def _answering(once: tuple[int, ...], config: Config, a: Assumptions) -> Iterator[PhasePlan]:
    """The answers to questions: by the generator, and by each policy in a pass of its own."""
    named = {"answers": None, **{f"{ANSWERS}{title}": model for title, model in config.policies.items()}}
    for name, model in named.items():
        sources = [source for source in config.preferences if source.asks and config.policy_of(source) == model]
        if questions := sum(_size(source, a) for source in sources):
            tokens = questions * a.instruction, questions * _ANSWERS * a.answer
            yield _sampling(name, once, tokens, model or config.models.generator, config, a)


def _opinions(
    pairs: float, once: tuple[int, ...], later_only: tuple[int, ...], config: Config, a: Assumptions
) -> Iterator[PhasePlan]:
    """The opinions of the panel: with the weights of each judge, and once with weights that members name."""
    panel = config.judge.panel
    asked = [("opinions 1", once, config.models.first_judge, following(panel))]
    if any(later_only):
        asked.append(("opinions 2+", later_only, config.models.seed, following(panel)))
    if config.train.preference.source == "warm_up":
        asked.append(("opinions again", (1,) * config.iterations, config.models.seed, following(panel)))
    for title, model in other_weights(panel).items():
        asked.append((f"{OPINIONS}{title}", once, model, tuple(member for member in panel if member.model == model)))
    for name, times, model, members in asked:
        if members:
            yield _sampling(name, times, _panel_tokens(pairs, members, a), model, config, a)


def _panel_tokens(pairs: float, members: Sequence[PanelMember], a: Assumptions) -> tuple[float, float]:
    """Tokens of these opinions; samples of one prompt read it once."""
    prompts = len({member.prompt for member in members})
    return pairs * prompts * a.judged, pairs * sum(member.samples for member in members) * a.judgment


def _making_pairs(pairs: float, once: tuple[int, ...], config: Config, a: Assumptions) -> Iterator[PhasePlan]:
    """What the generator writes: pairs and, if it is asked for them, rubrics."""
    model = config.models.generator
    tokens = pairs * (2 * a.instruction + a.answer + 200), pairs * 2.5 * a.answer
    yield _sampling("pairs", once, tokens, model, config, a)
    if config.judge.grades and config.grading.written:  # a rubric, and a grade of each answer by it
        tokens = pairs * (a.instruction + 200 + 2 * a.judged), pairs * (a.rubric + 2 * a.judgment)
        yield _sampling("rubrics", once, tokens, model, config, a)


def nothing_fits(config: Config, a: Assumptions) -> str:
    """What to change if a training would drop every example, in words; empty if it keeps some."""
    for _, train in stages(config.train):
        if a.fitting(1 + (train.objective != "sft"), train.max_seq_len)[0] < 1 - _ALL:
            return f"all examples are longer than {_length_key(train)}={train.max_seq_len} tokens and dropped: raise it"
    return ""


def _length_key(train: TrainConfig) -> str:
    """The setting of the longest example of one training."""
    return "train.max_seq_len" if train.objective == "sft" else "train.preference.max_seq_len"


def _both_orders(given: int, judgments: int, a: Assumptions) -> tuple[float, float]:
    """Tokens of judging given pairs in both orders, `judgments` times each; samples of one prompt read it once."""
    return 2 * given * a.judged, 2 * given * judgments * a.judgment


def compared_by(config: Config) -> JudgeConfig:
    """How the judgments of preference training are sampled. A warm-up gets as many right judgments from either pass."""
    return config.judge.again if config.train.preference.source == "warm_up" else config.judge


def _judging(pairs: float, judge: JudgeConfig, a: Assumptions) -> tuple[float, float]:
    """Tokens of judging the pairs once."""
    tokens = (0.0, 0.0)
    if judge.compares:
        tokens = pairs * a.judged, pairs * a.draws(judge) * a.judgment
    if judge.rescue:
        written = pairs * (1 - a.kept(judge.samples)) * judge.rescue.samples  # at most, as the first may pass
        question, verdict = _CHECK
        read = 2 * a.judged + a.judgment + question  # the checks of a rationale share a prompt
        tokens = tokens[0] + written * read, tokens[1] + written * (a.judgment + judge.rescue.checks * verdict)
    if judge.grades:  # each answer alone, beside a rubric that is about as long as the other answer
        tokens = tokens[0] + 2 * pairs * a.judged, tokens[1] + 2 * pairs * a.draws(judge) * a.judgment
    return tokens


def _examples(pairs: float, train: TrainConfig, judge: JudgeConfig, config: Config, a: Assumptions) -> float:
    """Examples before those that are too long: one of each pair that is kept, or a grade of each answer, and the labelled."""
    known = 0
    if config.examples.labelled:
        known = labelled_size(config.examples.labelled, a.labelled)
    if config.examples.labelled_alone:
        return known
    if train.objective != "sft":
        return pairs * (a.paired(judge) + (1 - a.kept(judge.samples) if judge.rescue else 0))
    kept = pairs if judge.rescue else pairs * a.kept(judge.samples)  # at most, if every pair is rescued
    share = config.grading.share
    made = {"pairwise": kept, "absolute": 2 * kept, "both": min(kept / (1 - share), 2 * kept / share)}[judge.task]
    labelled_share = config.examples.labelled_share
    return made + known if labelled_share is None else min(made / (1 - labelled_share), known / labelled_share)


def _rows(config: Config, a: Assumptions) -> tuple[float, float]:
    """Numbers of categorised instructions and of pairs; categorising stops at `select.limit`.

    Near-duplicates are not foreseen. Each of the k-means clusters is taken to have `select.per_cluster` rows that pass.
    """
    if not config.makes_synthetic:
        return 0, 0
    available = source_size(config.source) or a.instructions
    available = min(available, config.curate.sample_size or available)
    wanted = config.select.limit or available
    read = min(available, wanted / a.passing) if a.passing else available
    by_cluster = config.select.per_cluster if config.curate.clustering == "kmeans" else None
    return read, min(wanted if by_cluster is None else by_cluster * config.curate.clusters, read * a.passing)


def _given(config: Config, a: Assumptions) -> float:
    """The pairs that are not synthetic."""
    return sum(_size(source, a) for source in config.preferences if source.given)


def _size(source: PairSource, a: Assumptions) -> float:
    size = preferences_size(source)
    return float(a.labelled if size is None else size)


def _mixed(made: float, config: Config, a: Assumptions) -> float:
    """The pairs that are learned from, after mixing, repeats too; several synthetic sources are taken to be of one size."""
    if not config.preferences:
        return made
    synthetic = made / max(1, sum(not source.given for source in config.preferences))
    sources = config.mixed_preferences
    units = [(_size(source, a) if source.given else synthetic) / source.weight for source in sources]
    unit = max(units) if config.examples.mixing == "up" else min(units)
    return unit * sum(source.weight for source in sources)


def _sampling(
    name: str, times: tuple[int, ...], tokens: tuple[float, float], model: ModelConfig, config: Config, a: Assumptions
) -> PhasePlan:
    if model.endpoint:
        return _bought(name, times, tokens, model)
    shape = shape_of(model)
    hours = None
    if shape and config.hardware.gpus and config.engine.device == "gpu":
        hours = _gpu_seconds(shape, model, tokens, config, a) / 3600
    planned = _phase(name, times, tokens, hours, config.hardware)
    return planned if hours is None else replace(planned, gpus=engines_at_once(model, config) * model.gpus, bound="engines")


def _bought(name: str, times: tuple[int, ...], tokens: tuple[float, float], model: ModelConfig) -> PhasePlan:
    """A phase behind an API: it takes no GPU, and its tokens have a price if the config names one."""
    prices = model.dollars_per_million_tokens
    dollars = (tokens[0] * prices[0] + tokens[1] * prices[1]) / 1e6 if prices else None
    return PhasePlan(name=name, times=times, tokens_in=tokens[0], tokens_out=tokens[1], gpu_hours=0.0, dollars=dollars)


def _gpu_seconds(shape: Shape, model: ModelConfig, tokens: tuple[float, float], config: Config, a: Assumptions) -> float:
    """Compute limits prefill. A decoding step reads the weights and the KV cache of all its sequences."""
    flops = config.hardware.gpu_tflops * 1e12 * a.compute
    bandwidth = config.hardware.gpu_bandwidth_gbs * GB * a.bandwidth
    parallel = max(1.0, min(config.engine.slots, kv_room(shape, model, config) / (a.judged + a.judgment)))
    cache = parallel * (a.judged + a.judgment / 2) * shape.kv_bytes(model.dtype)
    read = (shape.parameters * DTYPE_BYTES[model.dtype] + cache) / bandwidth
    work = 2 * shape.active_parameters / flops
    return tokens[0] * work + tokens[1] / parallel * max(read, work * parallel)


@dataclass(frozen=True, kw_only=True)
class _Training:
    """The size of one training."""

    name: str
    settings: TrainConfig
    tokens: float
    """Tokens of all steps."""
    learnt: float
    """Tokens under the loss."""
    referred: float
    """Tokens that the reference model reads, once."""
    text: float
    """Mean tokens of a text."""
    steps: float
    checkpoints: int
    dropped: str

    @classmethod
    def of(cls, examples: float, name: str, train: TrainConfig, a: Assumptions) -> "_Training":
        """A training on this many examples: single judgments, or a right and a wrong one each."""
        preferring = train.objective != "sft"
        share, text = a.fitting(1 + preferring, train.max_seq_len)
        example = (1 + preferring) * text
        examples *= share
        step = train.workers * train.gradient_accumulation * train.max_num_tokens
        steps = min(examples * train.max_epochs * example / step, train.max_steps or math.inf)
        dropped = f"{1 - share:.0%} of examples are longer than {_length_key(train)}={train.max_seq_len} tokens and dropped"
        return cls(
            name=name,
            settings=train,
            tokens=steps * step,
            learnt=steps * step * a.judgment / (a.judged + a.judgment),
            referred=examples * example * preferring,
            text=text,
            steps=steps,
            checkpoints=math.ceil(steps / train.checkpoint_every_steps),
            dropped=dropped if share < _ALL else "",
        )


def _fine_tuning(training: _Training, config: Config, a: Assumptions) -> PhasePlan:
    """The steps of a training, and the reference's reading of its examples, if it has one."""
    tokens, times = (training.tokens, training.learnt), (1,) * config.iterations
    shape, train = shape_of(config.models.seed), training.settings
    if not shape or not config.hardware.gpus or train.device != "gpu":
        planned = _phase(training.name, times, tokens, None, config.hardware, training.dropped)
        return replace(planned, steps=training.steps)
    step, after = micro_step(shape, train, config.hardware, training.text), update(shape, train, config.hardware)
    parts = [(training.steps * train.gradient_accumulation, step), (training.steps, after)]
    if training.referred:
        often = training.referred / train.workers / train.max_num_tokens
        parts.append((often, reading_step(shape, train, config.hardware, training.text)))
    hours = train.workers / 3600
    planned = _phase(training.name, times, tokens, hours * _seconds(parts, "whole"), config.hardware, training.dropped)
    limits = {name: sum(often * step.limits[name] for often, step in parts) for name in parts[0][1].limits}
    return replace(
        planned,
        gpus=train.workers,
        bound=max(limits, key=lambda name: limits[name]),
        waiting=hours * _seconds(parts, "waiting"),
        steps=training.steps,
        step_seconds=train.gradient_accumulation * step.whole + after.whole,
    )


def _seconds(parts: Iterable[tuple[float, MicroStep]], name: Literal["whole", "waiting"]) -> float:
    """The seconds of (times, micro-step) pairs, whole or only those of waiting."""
    return sum(times * (step.whole if name == "whole" else step.waiting) for times, step in parts)


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
