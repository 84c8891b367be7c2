"""A judge at use: judgments of a pair in both orders, each of them one vote (no labels, nothing to be right about)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stj.config import VoteConfig
from stj.generate import Completion, Generate, Sampling
from stj.prompts.variants import VARIANTS
from stj.rows import Judgment, Row
from stj.stages.judge import LABELS, judge_messages
from stj.stages.runner import together
from stj.verdict import Label, other


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One judgment of a pair."""

    shown_first: Label
    """Which response the judge read first."""
    verdict: Label | None
    """The response that it is for, whatever label it was shown under; None for a tie and what cannot be read."""
    text: str
    """What the judge wrote; A and B in it are the labels it saw, so with B shown first they are the other way about."""


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """What a judge says of two responses, A and B, after it has seen them in both orders."""

    votes: tuple[Vote, ...]
    error: str | None = None
    """Why the pair could not be judged, where it could not; it then has no votes."""

    @property
    def verdict(self) -> Label | None:
        """The response with more votes; None where both have as many."""
        count = self._count()
        return None if count["A"] == count["B"] else "A" if count["A"] > count["B"] else "B"

    @property
    def confidence(self) -> float:
        """Share of the votes of both orders that are for the verdict, of a tie that are for either; 0 without votes."""
        count = self._count()
        return max(count["A"], count["B"]) / max(1, len(self.votes))

    @property
    def reward(self) -> float:
        """The mean vote for A, from -1 to 1: a vote for A counts 1, for B -1, one that names neither 0.

        Swapping the responses changes its sign, exactly so for a greedy judge; position bias cancels.
        """
        count = self._count()
        return (count["A"] - count["B"]) / max(1, len(self.votes))

    def plain(self) -> dict[str, Any]:
        """The result as JSON values, for a line of `stj judge` and an answer of `stj serve`."""
        shares = {"verdict": self.verdict, "confidence": self.confidence, "reward": self.reward}
        return {**shares, "error": self.error, "votes": [asdict(vote) for vote in self.votes]}

    def _count(self) -> Counter[Label | None]:
        return Counter(vote.verdict for vote in self.votes)


async def vote(row: Row, generate: Generate, config: VoteConfig) -> Row:
    """The row judged `votes` times in each order; a judgment's `winner` is the label that response A was shown under."""
    assert row.pair is not None, f"row {row.id} has no pair"
    variant = VARIANTS[config.prompt]
    sampling = config.decoding if config.votes > 1 else _greedy(config.decoding)
    orders = {winner: judge_messages(row.instruction, row.pair, winner, variant) for winner in LABELS}
    asked = [(winner, index) for index in range(config.votes) for winner in LABELS]
    completions = await together(generate(orders[winner], sampling) for winner, _ in asked)
    judgments = (
        Judgment(
            purpose="sampled" if config.votes > 1 else "greedy",
            winner=winner,
            index=index,
            text=completion.text,
            verdict=_verdict(completion, config),
            finish_reason=completion.finish_reason,
            output_tokens=completion.output_tokens,
        )
        for (winner, index), completion in zip(asked, completions, strict=True)
    )
    return replace(row, judgments=tuple(judgments))


def comparison(row: Row) -> PairVerdict:
    """What the judgments of a row say together."""
    error = row.error or (f"{row.dropped}: {row.detail}" if row.detail else row.dropped)
    return PairVerdict(votes=votes_of(row.judgments), error=error)


def votes_of(judgments: Sequence[Judgment]) -> tuple[Vote, ...]:
    """Judgments as votes for response A or B, instead of for a label."""
    return tuple(Vote(shown_first=judgment.winner, verdict=_response(judgment), text=judgment.text) for judgment in judgments)


def _response(judgment: Judgment) -> Label | None:
    """The response that stood under the label of the verdict."""
    if judgment.verdict not in LABELS:
        return None
    said: Label = "A" if judgment.verdict == "A" else "B"
    return said if judgment.winner == "A" else other(said)


def _greedy(sampling: Sampling) -> Sampling:
    return replace(sampling, temperature=0.0, top_p=1.0)


def _verdict(completion: Completion, config: VoteConfig) -> Label | None:
    return VARIANTS[config.prompt].parse(completion.text) if completion.finish_reason == "stop" else None
