"""Settings of a judge in use, and of what is done with models and pairs beside a run: merge and annotate."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from stj.cluster_config import RayConfig
from stj.config import (
    Aggregate,
    EngineConfig,
    JudgeMode,
    ModelConfig,
    StopRule,
    check_format_is_used,
    installed_engine,
    location,
    pack_prompt,
    pair_rubric,
)
from stj.generate import Sampling
from stj.pair_fields import PairFields, Ties
from stj.prompts.given import is_given, packed, variant_of
from stj.prompts.grading import GRADE, GRADES, GradePrompt, grade_prompt_of
from stj.prompts.variants import Variant
from stj.rubrics import Rubric, rubric
from stj.setting_checks import above_0, check, one_of, stop_error, zero_to_one
from stj.verdict import Parser

MergeMethod = Literal["linear", "task_arithmetic", "ties", "dare_linear", "dare_ties"]


@dataclass(frozen=True, kw_only=True)
class GradeConfig:
    """How a judge in use grades a response by a rubric."""

    prompt: str = "grade"
    """The words of a grade: `grade`, or a YAML file with `system` and `user` (stj/prompts/grading.py)."""
    prompt_format: str | None = None
    """Only with a file in `prompt`: the style of its scores, by its name in stj/verdict/scales.py."""
    parser: Parser = "distinct"
    """How scores are read, as in `judge.parser`."""
    votes: int = 1
    """Grades of a response by each rubric, from 1 to 1000: 1 is greedy, more are sampled. Costs grow in proportion."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """Sampling if `votes` is above 1. A greedy grade uses only its `max_tokens`."""
    aggregate: Aggregate = "distribution"
    """Where the probability of each point comes from. `distribution` takes the mean of the votes' own probabilities, from the
    log-probabilities of the tokens that write the score. `majority` counts votes; an API may give no log-probabilities."""

    def __post_init__(self) -> None:
        prompt = packed(self.prompt, self.prompt_format, "grade.prompt", GRADES)
        if prompt != self.prompt:
            object.__setattr__(self, "prompt", prompt)  # as frozen dataclasses do in __init__
            object.__setattr__(self, "prompt_format", None)  # the words hold it
        check_format_is_used(self.prompt_format, [self.prompt], "grade.prompt")
        number = type(self.votes) is int
        check(number and 1 <= self.votes <= 1000, f"grade.votes={self.votes} grades of a response: must be 1 to 1000")
        one_of("grade.parser", self.parser, Parser)
        one_of("grade.aggregate", self.aggregate, Aggregate)

    @property
    def key(self) -> dict[str, Any]:
        """The settings that decide which grades exist, and how they are read, as JSON values."""
        asked = self if self.votes > 1 else replace(self, decoding=self.decoding.greedy())
        key = asdict(asked)
        del key["prompt_format"], key["prompt"]  # The prompt's hashes stand beside this key.
        return key


@dataclass(frozen=True, kw_only=True)
class VoteConfig:
    """How a judge in use votes on a pair: in both orders, with one vote for each judgment, or by a grade of each response."""

    mode: JudgeMode = "pairwise"
    """`pairwise` shows the judge both responses, in both orders. `pointwise` has it grade each response alone, by `rubric`. The
    vote is for the one with the higher score, and equal scores are a tie."""
    rubric: str | None = None
    """Only with `mode=pointwise`: the name of a rubric in the library (docs/rubrics.md), or a file of YAML or JSON."""
    prompt: str = "figure8"
    """The judge prompt: `figure8`, `arena`, `prometheus`, `mtbench`, or a YAML file with `system` and `user`. stj trains judges
    on `figure8`. With `mode=pointwise` it is the words of a grade, as in `grade.prompt`."""
    prompt_format: str | None = None
    """Only with a file in `prompt`: the format of its verdicts, by its name in stj/verdict/formats.py, or in scales.py for
    grades."""
    parser: Parser = "distinct"
    """How verdicts are read, as in `judge.parser`."""
    votes: int = 1
    """Judgments in each order, from 1 to 1000: 1 is greedy, more are sampled. Costs grow in proportion."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    """Sampling if `votes` is above 1. A greedy judgment uses only its `max_tokens`."""
    stop: StopRule = "exact"
    """When the votes on a pair end, if `votes` is above 1. `exact` stops when no vote that is left can change the verdict: it
    is the verdict of all votes. `unlikely` also stops when a change is unlikely, by `stop_error`. `all` asks every vote, as a
    mean of all votes needs."""
    stop_error: float = 0.02
    """Only for `stop=unlikely`: the greatest probability, for any pair, that the verdict differs from that of all votes. A
    share above 0, up to 0.5."""
    aggregate: Aggregate = "majority"
    """How votes become a verdict. `majority` counts them. `distribution` takes the mean of their probabilities of each verdict,
    from the log-probabilities of the tokens that write it. It asks every vote, and also works with one."""

    def __post_init__(self) -> None:
        one_of("vote.mode", self.mode, JudgeMode)
        if self.mode == "pointwise":
            self._pack_grading()
        else:
            check(self.rubric is None, f"vote.rubric={self.rubric}: only vote.mode=pointwise grades by a rubric; leave it out")
            pack_prompt(self, "vote.prompt")
        number = type(self.votes) is int
        check(number and 1 <= self.votes <= 1000, f"vote.votes={self.votes} judgments in each order: must be 1 to 1000")
        one_of("vote.parser", self.parser, Parser)
        one_of("vote.stop", self.stop, StopRule)
        one_of("vote.aggregate", self.aggregate, Aggregate)
        stop_error("vote.stop_error", self.stop_error)
        check(
            self.aggregate == "majority" or self.stop != "unlikely",
            "vote.stop=unlikely: vote.aggregate=distribution is a mean, which needs every vote; leave out vote.stop",
        )

    def _pack_grading(self) -> None:
        """Replaces the rubric and the words of a grade by themselves, as `_pack_prompt` does with those of pairs."""
        check(bool(self.rubric), "vote.mode=pointwise: name the rubric to grade by with vote.rubric=NAME")
        by = pair_rubric(self.rubric or "", "vote.rubric")
        prompt = GRADE if self.prompt == "figure8" else packed(self.prompt, self.prompt_format, "vote.prompt", GRADES)
        wording = None if is_given(prompt) else self.prompt_format
        for name, value in {"rubric": by, "prompt": prompt, "prompt_format": wording}.items():
            object.__setattr__(self, name, value)  # as frozen dataclasses do in __init__

    @property
    def words(self) -> Variant | GradePrompt:
        """The words that the judge is asked in."""
        return grade_prompt_of(self.prompt) if self.mode == "pointwise" else variant_of(self.prompt)

    @property
    def graded_by(self) -> Rubric:
        """The rubric of a pointwise judge."""
        return rubric(self.rubric or "", "vote.rubric")

    @property
    def grading(self) -> GradeConfig:
        """How a pointwise judge grades each response."""
        return GradeConfig(
            prompt=self.prompt, parser=self.parser, votes=self.votes, decoding=self.decoding, aggregate=self.aggregate
        )

    @property
    def key(self) -> dict[str, Any]:
        """The settings that decide which judgments exist, and how they are read, as JSON values."""
        key = asdict(self)
        del key["prompt_format"]  # The prompt's words hold it.
        if self.mode == "pairwise":
            del key["mode"], key["rubric"]
        else:
            key["rubric"] = self.graded_by.digest
        if self.stop != "unlikely":
            del key["stop_error"]
        if self.votes == 1 or self.stop == "all" or self.aggregate == "distribution" or self.mode == "pointwise":
            del key["stop"]  # All votes are asked, as before there was a rule.
            key.pop("stop_error", None)
        if self.aggregate == "majority":
            del key["aggregate"]
        return key


@dataclass(frozen=True, kw_only=True)
class UseConfig:
    """A judge in use: `stj judge`, `stj grade` and `stj serve`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The judge. If `max_model_len` exceeds the model's context, the model's context is used. If one GPU of this machine cannot
    hold the model, as few as hold it share its layers."""
    vote: VoteConfig = field(default_factory=VoteConfig)
    """How the judge votes on a pair."""
    rubric: tuple[str, ...] = ()
    """Only `stj grade`: the rubrics, each by its name in the library (docs/rubrics.md) or as a file of YAML or JSON. Without
    any, each row of the file brings its own."""
    weights: tuple[float, ...] = ()
    """Only `stj grade`: the weight of each rubric in the total, above 0; `[]` weighs all alike."""
    grade: GradeConfig = field(default_factory=GradeConfig)
    """How the judge grades a response."""
    fields: PairFields = field(default_factory=PairFields)
    """Only `stj judge`, `stj calibrate` and `stj grade`: the names of the fields in a file of pairs, if they are others."""
    ties: Ties = "skip"
    """Only `stj judge`: what a pair counts that people call a tie. `skip` takes it for one whose winner is not known. `count`
    takes a juror for right if it has no verdict because its votes are equal. `half` counts one half for a pair with votes."""
    engine: EngineConfig = field(default_factory=installed_engine)
    """The pool of vLLM engines; by default one engine for the device that vLLM was built for."""
    run_root: str | None = None
    """Only `stj judge` and `stj grade`: the directory or URI of the judged rows. `null` is `runs/judge/pairs` for
    `pairs.jsonl`, or `runs/grade/answers` for `answers.jsonl`."""
    seed: int = 0
    """Seed of the engine's sampler."""
    ray: RayConfig = field(default_factory=lambda: RayConfig(address="local"))
    """Only `stj judge`: the Ray cluster."""

    def __post_init__(self) -> None:
        check(self.run_root != "", "run_root is empty; name a directory or a URI, or leave it out")
        one_of("ties", self.ties, Ties)
        self._pack_rubrics()
        location("run_root", self.run_root or "")

    def _pack_rubrics(self) -> None:
        """Replaces the rubrics' names by the rubrics themselves, so that they travel with the settings."""
        rubrics = [rubric(word, "rubric") for word in self.rubric]
        names = [by.name for by in rubrics]
        twice = next((name for name in names if names.count(name) > 1), None)
        check(twice is None, f"rubric={twice}: two rubrics have this name; results are told apart by it, so rename one of them")
        check(
            not self.weights or len(self.weights) == len(rubrics),
            f"weights={list(self.weights)}: {len(self.weights)} weights for {len(rubrics)} rubrics; give each rubric one",
        )
        above_0("", self, "weights")
        object.__setattr__(self, "rubric", tuple(by.packed for by in rubrics))  # as frozen dataclasses do in __init__


_BASE = {
    True: "counts from the base of both models: name it, as in base=meta-llama/Llama-3.1-8B-Instruct",
    False: "reads no base: leave it out, or name another method",
}


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """A merge of two models: `stj merge`."""

    weight: float = 0.5
    """Share of the first model, from 0 to 1; the second has the rest."""
    method: MergeMethod = "linear"
    """`linear` is the weighted mean of all weights. The others count from the `base`, and need the extra `merge`: mergekit
    computes them, in 6 to 11 times the memory of the largest tensor in float32."""
    base: str | None = None
    """Not with `linear`: the model that both were trained from, named like the two."""
    density: float = 0.5
    """Only with `ties`, `dare_linear` and `dare_ties`: share of the numbers that each model's change from the base keeps."""
    seed: int = 0
    """Only with `dare_linear` and `dare_ties`: seed of the numbers that are kept."""
    shard_gb: float = 5.0
    """Size of one file of the merged weights, in GB."""

    def __post_init__(self) -> None:
        zero_to_one("", self, "weight", "density")
        above_0("", self, "shard_gb", "density")
        needed = self.method != "linear"
        check(
            needed or (self.density, self.seed) == (0.5, 0),
            f"density={self.density}, seed={self.seed}: method=linear keeps all numbers; leave them out, or set method",
        )
        check(bool(self.base) == needed, f"base={self.base or 'null'}: method={self.method} {_BASE[needed]}")


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """A file of labels and who fills it: `stj annotate`."""

    name: str | None = None
    """The annotator, 1 to 60 printable characters; `null` asks on the page, so that several people can share a server."""
    out: str | None = None
    """The .jsonl file of the labels, which several servers may fill; `null` is `pairs.labels.jsonl` for `pairs.jsonl`."""
    seed: int = 0
    """Seed of the order of the pairs and of the responses; the same for all who fill one file."""
    limit: int | None = None
    """Number of pairs, the first ones of the file that can be labelled; `null` takes all."""
    fields: PairFields = field(default_factory=PairFields)
    """The names of the fields in the file of pairs, if they are others than stj's own."""

    def __post_init__(self) -> None:
        above_0("", self, "limit")
