"""A trained judge at work: judges a pair in both A/B orders; each judgment is a vote.

Nothing says which answer is better, so no judgment is right or wrong here (that is stages/judge.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stj.config import VoteConfig
from stj.generate import Completion, Generate
from stj.prompts.given import variant_of
from stj.rows import Judgment, Row
from stj.stages.judge import LABELS, judge_messages
from stj.stages.runner import together
from stj.verdict import Label, other


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One judgment of a pair."""

    shown_first: Label
    """Response that the judge saw first."""
    verdict: Label | None
    """Response that the vote is for, A or B in the original order; None for a tie or an unreadable judgment."""
    text: str
    """Text of the judgment; its A and B are the labels that the judge saw, so they are swapped if B was shown first."""
    thought: str = ""
    """What a thinking judge wrote before its judgment."""


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """The verdict of a judge on two responses, A and B, after it has seen them in both orders."""

    votes: tuple[Vote, ...]
    error: str | None = None
    """Reason why the pair could not be judged; None if it was. With an error there are no votes."""

    @property
    def verdict(self) -> Label | None:
        """The response with more votes; None if both have equally many."""
        count = self._count()
        return None if count["A"] == count["B"] else "A" if count["A"] > count["B"] else "B"

    @property
    def confidence(self) -> float:
        """Share of all votes that are for the verdict, or, in a tie, for either response; 0 without votes."""
        count = self._count()
        return max(count["A"], count["B"]) / max(1, len(self.votes))

    @property
    def reward(self) -> float:
        """The mean vote, from -1 to 1: a vote for A counts 1, a vote for B -1, any other 0.

        Position bias cancels out. Swapping the responses only changes the sign, for a greedy judge exactly.
        """
        count = self._count()
        return (count["A"] - count["B"]) / max(1, len(self.votes))

    def plain(self) -> dict[str, Any]:
        """The result as JSON values: a line of `stj judge`, or an answer of `stj serve`. Only thoughts that exist are in it."""
        shares = {"verdict": self.verdict, "confidence": self.confidence, "reward": self.reward}
        votes = [{name: value for name, value in asdict(vote).items() if name != "thought" or value} for vote in self.votes]
        return {**shares, "error": self.error, "votes": votes}

    def _count(self) -> Counter[Label | None]:
        return Counter(vote.verdict for vote in self.votes)


async def vote(row: Row, generate: Generate, config: VoteConfig) -> Row:
    """The row with `votes` judgments in each order; a judgment's `winner` is the label under which A was shown."""
    assert row.pair is not None, f"row {row.id} has no pair"
    variant = variant_of(config.prompt)
    sampling = config.decoding if config.votes > 1 else config.decoding.greedy()
    orders = {winner: judge_messages(row.instruction, row.pair, winner, variant) for winner in LABELS}
    ballots = [(winner, index) for index in range(config.votes) for winner in LABELS]
    completions = await together(generate(orders[winner], sampling) for winner, _ in ballots)
    judgments = (
        Judgment(
            purpose="sampled" if config.votes > 1 else "greedy",
            winner=winner,
            index=index,
            text=completion.text,
            verdict=_verdict(completion, config),
            finish_reason=completion.finish_reason,
            output_tokens=completion.output_tokens,
            thought=completion.thought,
        )
        for (winner, index), completion in zip(ballots, completions, strict=True)
    )
    return replace(row, judgments=tuple(judgments))


def pair_verdict(row: Row) -> PairVerdict:
    """The verdict of a row's judgments together."""
    error = row.error or (f"{row.dropped}: {row.detail}" if row.detail else row.dropped)
    return PairVerdict(votes=votes_of(row.judgments), error=error)


def votes_of(judgments: Sequence[Judgment]) -> tuple[Vote, ...]:
    """Judgments as votes for response A or B, not for the label that each was shown under."""
    return tuple(
        Vote(shown_first=judgment.winner, verdict=_response(judgment), text=judgment.text, thought=judgment.thought)
        for judgment in judgments
    )


def _response(judgment: Judgment) -> Label | None:
    """The response that was shown under the verdict's label."""
    if judgment.verdict not in LABELS:
        return None
    label: Label = "A" if judgment.verdict == "A" else "B"
    return label if judgment.winner == "A" else other(label)


def _verdict(completion: Completion, config: VoteConfig) -> Label | None:
    return variant_of(config.prompt).parse(completion.text, config.parser) if completion.finish_reason == "stop" else None
