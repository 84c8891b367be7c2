"""What a plan assumes of the texts and judgments of a run."""

import math
from dataclasses import dataclass, replace

from stj.config import Config, JudgeConfig, SelectConfig


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """Values that no config holds: lengths in tokens, shares, and the reached part of a GPU's peak."""

    instructions: int = 838_000
    """Instructions of a hub data set; the default is WildChat-1M's."""
    passing: float = 0.15
    """Share of instructions that become pairs; the default is WildChat-1M's share in the two categories of reasoning."""
    instruction: int = 300
    answer: int = 500
    judged: int = 1800
    """Prompt of a judgment: Figure 8 with an instruction and two answers."""
    judgment: int = 500
    spread: float = 0.27
    """Standard deviation of the logarithm of the length of a prompt with its judgment; the logarithm is taken as normal."""
    longer: float = 1.27
    """Mean length of the longer of two judgments, divided by the mean length of a judgment."""
    longest: int | None = None
    """Most tokens of a prompt with its judgment; None if it is not known."""
    right: float = 0.7
    """p: share of sampled judgments that agree with the label."""
    compute: float = 0.4
    """Share of peak FLOP/s in prefill."""
    bandwidth: float = 0.6
    """Share of peak memory bandwidth in decoding."""
    benchmark: int = 3000
    """Pairs of a benchmark whose size is not known. RewardBench has 2,985."""

    rubric: int = 200
    labelled: int = 2500
    """Labelled judgments, or pairs, of a data set on the hub whose size is not known. Flow-Judge learns from 7,500, on three
    scales."""

    def kept(self, samples: int) -> float:
        """Share of pairs with a right judgment among N: 1 - (1-p)^N."""
        return float(1 - (1 - self.right) ** samples)

    def paired(self, judge: JudgeConfig) -> float:
        """Share of pairs with a right and a wrong judgment among N: 1 - (1-p)^N - p^N.

        If sampling stops at the first right judgment, the first one must be wrong: (1-p) - (1-p)^N.
        """
        if judge.sampling == "first_correct":
            return self.kept(judge.samples) - self.right
        return float(self.kept(judge.samples) - self.right**judge.samples)

    def fitting(self, texts: int, limit: int) -> tuple[float, float]:
        """Share of examples whose texts all have at most `limit` tokens, and the mean length of their texts."""
        mean = self.judged + self.judgment
        if self.longest is not None and self.longest <= limit:
            return 1.0, mean
        longest = self.judged + self.judgment * (self.longer if texts > 1 else 1)
        deviations = (math.log(limit / longest) + self.spread**2 / 2) / self.spread
        share, below = _below(deviations), _below(deviations - self.spread)
        return share, mean * below / share if below else limit  # Too few for a float fit: those are as long as may be.

    def draws(self, judge: JudgeConfig) -> float:
        """Expected judgments of a pair: to the first right one, (1 - (1-p)^N) / p; to a right and a wrong one; or all N."""
        if judge.sampling == "all":
            return judge.samples
        if judge.sampling == "first_pair":
            return 1 + sum(self.right**drawn + (1 - self.right) ** drawn for drawn in range(1, judge.samples))
        return self.kept(judge.samples) / self.right


_MINI = Assumptions(passing=0.62, instruction=11, answer=5, judged=244, judgment=45, spread=0.05, right=0.6)
"""Values of the mini world, in tokens of its seed model, from its runs."""
_MINI_WORLD = "package://mini/"


def assumed(config: Config) -> Assumptions:
    """The assumptions for a run, without a look at its instructions.

    The mini world's models write little. No text is longer than its `max_tokens`. Without a rule of selection all instructions
    pass.
    """
    mini_source, mini_writer = (path.startswith(_MINI_WORLD) for path in (config.source.path, config.models.generator.path))
    assumptions = _MINI if mini_source or mini_writer else Assumptions()
    if not mini_source:
        assumptions = replace(assumptions, passing=Assumptions.passing)
    answer = min(assumptions.answer, config.pairs.answer.max_tokens)
    limited = replace(
        assumptions,
        answer=answer,
        judged=assumptions.judged - 2 * (assumptions.answer - answer),
        judgment=min(assumptions.judgment, config.judge.decoding.max_tokens),
    )
    return limited if has_rule(config.select) else replace(limited, passing=1.0)


def sorts(select: SelectConfig) -> bool:
    """Whether the rule needs the category, complexity or length that the generator gives an instruction."""
    return (select.categories, select.min_complexity, select.max_complexity, select.lengths) != (None, 1, 10, None)


def has_rule(select: SelectConfig) -> bool:
    """Whether the rule drops more than the few instructions that the source marks as toxic or redacted."""
    return replace(select, limit=None, toxic=False, redacted=False, disagreement=None) != SelectConfig(categories=None)


def _below(deviations: float) -> float:
    """Share of a normal distribution below this number of standard deviations."""
    return math.erfc(-deviations / math.sqrt(2)) / 2
