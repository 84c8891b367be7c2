"""What the first instructions of a source say: how long they are, and what share of them the rules drop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pvariance

from stj.config import Config, SelectConfig
from stj.plan.assumptions import Assumptions, sorts
from stj.rows import CATEGORIES


@dataclass(frozen=True, kw_only=True)
class SourceSample:
    """The first rows of a source on this machine."""

    rows: int
    size: int | None
    """About how many rows the source has."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows that no model is asked about, by reason."""
    tokens: tuple[int, ...]
    """Tokens of each of the other instructions."""
    prompt: int
    """Tokens of the judge's prompt around nothing."""
    exact: bool
    """Whether the seed's tokenizer counted the tokens; if not, 4 characters are taken for one."""
    not_looked_for: tuple[str, ...] = ()
    """Settings that name texts on the hub, which only a run asks: what these drop is not counted."""

    @property
    def usable(self) -> float:
        """Share of the rows that the generator is asked about."""
        return len(self.tokens) / self.rows

    def words(self, rule: SelectConfig, passing: float) -> list[str]:
        """The sample in lines for a reader; `passing` is the share of instructions that the plan takes to become pairs."""
        of = "" if self.size is None or self.size <= self.rows else f" of about {self.size:,}"
        counted = "by the seed's tokenizer" if self.exact else "at 4 characters each: the seed's tokenizer is not here"
        lengths = "none can be used"
        if self.tokens:
            lengths = f"{fmean(self.tokens):.0f} tokens on average, at most {max(self.tokens):,} (counted {counted})"
        shares = [f"{count / self.rows:.1%} {reason}" for reason, count in sorted(self.dropped.items())]
        return [
            f"the first {self.rows:,}{of} instructions: {lengths}",
            f"of them the rules drop {', '.join(shares) or 'none'} before a model is asked",
            *(f"not looked for: texts on the hub, {', '.join(self.not_looked_for)}" for _ in self.not_looked_for[:1]),
            *_unknown(rule, passing),
        ]


def _unknown(rule: SelectConfig, passing: float) -> list[str]:
    """The rules whose share is known only when the generator has sorted the instructions."""
    kept = [f"select.categories keeps {len(rule.categories)} of {len(CATEGORIES)}"] if rule.categories is not None else []
    if (rule.min_complexity, rule.max_complexity) != (1, 10):
        kept.append(f"select.*_complexity keeps {rule.min_complexity} to {rule.max_complexity}")
    if rule.lengths is not None:
        kept.append(f"select.lengths keeps {', '.join(rule.lengths)}")
    if not kept:
        return []
    return [
        f"what the generator sorts out is known only in the run: {'; '.join(kept)}. null keeps all; the plan takes "
        f"{passing:.0%} to pass, as other instructions did"
    ]


def with_sample(a: Assumptions, sample: SourceSample, config: Config) -> Assumptions:
    """The assumptions with the lengths of these instructions, and with the share that no model is asked about."""
    # The share that passes a sorting includes what other rules dropped.
    passing = a.passing if sample.tokens and sorts(config.select) else sample.usable
    if not sample.tokens:
        return replace(a, passing=passing)
    instruction = round(fmean(sample.tokens))
    frame = sample.prompt if sample.exact else a.judged - a.instruction - 2 * a.answer
    judged = frame + instruction + 2 * a.answer
    return replace(
        a,
        passing=passing,
        instruction=instruction,
        judged=judged,
        spread=_spread(a, frame, sample.tokens),
        longest=_longest(sample, config) if sample.exact else None,
    )


def _spread(a: Assumptions, frame: int, tokens: Sequence[int]) -> float:
    """The spread of a prompt with its judgment: that of the instructions, and a part for what models write."""
    written = 2 * a.answer + a.judgment
    totals = [frame + length + written for length in tokens]
    return math.sqrt(pvariance(map(math.log, totals)) + (a.spread * written / fmean(totals)) ** 2)


def _longest(sample: SourceSample, config: Config) -> int:
    """Most tokens of a prompt with its judgment, if each text that a model writes has as many as it may."""
    most = config.pairs.answer.max_tokens + config.pairs.rejected.max_tokens + config.judge.decoding.max_tokens
    return sample.prompt + max(sample.tokens) + most
