"""A trained judge at work: judges a pair in both A/B orders; each judgment is a vote. A pointwise judge grades each response.

Nothing says which answer is better, so no judgment is right or wrong here (that is stages/judge.py). stages/stopping.py decides
how many of the votes are asked.
"""

from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import fsum
from statistics import fmean
from typing import Any

from stj.config import Aggregate
from stj.generate import Completion, Generate, TracedSampling
from stj.prompts.given import variant_of
from stj.rows import Answer, Grade, Judgment, Row
from stj.stages.distribution import CHOICES, probability_of_a
from stj.stages.grade import answer_text, grades_of, missing_input
from stj.stages.judge import LABELS, judge_messages
from stj.stages.runner import together
from stj.stages.stopping import Stopping, ask_in_rounds
from stj.use_config import VoteConfig
from stj.verdict import Label, other, parse

ANSWERS: tuple[Answer, Answer] = ("chosen", "rejected")
"""Responses A and B of a pair whose better one is not known."""


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
    probability: float | None = None
    """Probability that response A is better, by the tokens of the verdict; None without a verdict, or for a majority."""
    scores: tuple[int | None, int | None] | None = None
    """The scores of A and of B, if each was graded alone; the text then holds both judgments."""


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """The verdict of a judge on two responses, A and B, after it has seen them in both orders."""

    votes: tuple[Vote, ...]
    """The votes that were asked, in rounds of one vote in each order."""
    most_votes: int = 0
    """Votes that would have been asked if none had settled the verdict; 0 if the pair could not be judged."""
    error: str | None = None
    """Reason why the pair could not be judged; None if it was. With an error there are no votes."""
    aggregate: Aggregate = "majority"
    """How the votes become the verdict."""
    abstained: bool | None = None
    """Whether the judge gives no answer: its confidence is too low for the risk asked for, or it has no verdict anyway. None if
    no risk was asked for."""

    @property
    def verdict(self) -> Label | None:
        """The response with more votes, or a higher probability; None if both have the same, or if the judge abstains."""
        for_a, for_b = self.shares
        return None if self.abstained or for_a == for_b else "A" if for_a > for_b else "B"

    @property
    def confidence(self) -> float:
        """Share of the votes asked that are for the verdict, or, in a tie, for either response; 0 without votes.

        For a distribution it is the probability of the verdict.
        """
        return max(self.shares)

    @property
    def reward(self) -> float:
        """The mean of the votes asked, from -1 to 1: a vote for A counts 1, a vote for B -1, any other 0.

        Position bias cancels out. Swapping the responses only changes the sign, for a greedy judge exactly. Votes that stop
        once they are settled have a mean further from 0 than all votes would have. Set `stop` to `all` if the mean matters.
        """
        for_a, for_b = self.shares
        return for_a - for_b

    @property
    def distribution(self) -> float | None:
        """The mean probability that response A is better, over all votes; a vote without a verdict counts one half.

        None without votes, or if the votes were counted.
        """
        if self.aggregate == "majority" or not self.votes:
            return None
        return fmean(0.5 if vote.probability is None else vote.probability for vote in self.votes)

    @property
    def shares(self) -> tuple[float, float]:
        """Share of the votes for A and for B, or their probabilities; votes for neither are the rest up to 1."""
        if (for_a := self.distribution) is not None:
            return for_a, 1 - for_a
        count = Counter(vote.verdict for vote in self.votes)
        return count["A"] / max(1, len(self.votes)), count["B"] / max(1, len(self.votes))

    def plain(self) -> dict[str, Any]:
        """The result as JSON values: a line of `stj judge`, or an answer of `stj serve`. Only thoughts that exist are in it."""
        shares = {"verdict": self.verdict, "confidence": self.confidence, "reward": self.reward}
        if self.distribution is not None:
            shares["distribution"] = self.distribution
        if self.abstained is not None:
            shares["abstained"] = self.abstained
        absent = {"thought": "", "probability": None, "scores": None}
        votes = [
            {name: value for name, value in asdict(vote).items() if name not in absent or value != absent[name]}
            for vote in self.votes
        ]
        return {**shares, "error": self.error, "most_votes": self.most_votes, "votes": votes}


async def vote(row: Row, generate: Generate, config: VoteConfig) -> Row:
    """The row with `votes` judgments in each order; a judgment's `winner` is the label under which A was shown."""
    assert row.pair is not None, f"row {row.id} has no pair"
    if config.mode == "pointwise":
        return await _grade_both(row, generate, config)
    variant = variant_of(config.prompt)
    sampling = config.decoding if config.votes > 1 else config.decoding.greedy()
    if config.aggregate == "distribution":
        sampling = TracedSampling(**asdict(sampling), choices=CHOICES)
    orders = {winner: judge_messages(row.instruction, row.pair, winner, variant) for winner in LABELS}

    def ask(index: int) -> Iterator[Awaitable[Judgment]]:
        return (_judgment(generate(orders[winner], sampling), config, winner, index) for winner in LABELS)

    judgments = await ask_in_rounds(ask, config.votes, len(LABELS), stopping_of(config), lambda judgment: [_response(judgment)])
    return replace(row, judgments=tuple(judgments))


async def _grade_both(row: Row, generate: Generate, config: VoteConfig) -> Row:
    """The row with `votes` grades of each response; dropped as "empty_response" if one has none to grade."""
    by = config.graded_by
    for answer in ANSWERS:
        if (missing := missing_input(row, answer_text(row, answer), [by])) is not None:
            return row.drop(*missing)
    grades = await together(grade for answer in ANSWERS for grade in grades_of(row, answer, by, generate, config.grading))
    return replace(row, grades=tuple(grades))


def stopping_of(config: VoteConfig) -> Stopping:
    """When the votes of a judge in use are enough. A mean of probabilities needs them all."""
    every = config.aggregate == "distribution" or config.mode == "pointwise"
    return Stopping(rule="all" if every else config.stop, error=config.stop_error)


def first_rounds(config: VoteConfig) -> int:
    """The rounds of votes that every pair has."""
    return stopping_of(config).rounds_needed(Counter(), config.votes, config.votes, len(LABELS))


def pair_verdict(row: Row, config: VoteConfig) -> PairVerdict:
    """The verdict of a row's judgments together; `config` is that with which they were asked."""
    error = row.error or (f"{row.dropped}: {row.detail}" if row.detail else row.dropped)
    pointwise = config.mode == "pointwise"
    votes = _votes_of_grades(row.grades, config.aggregate) if pointwise else votes_of(row.judgments)
    return PairVerdict(
        votes=votes,
        most_votes=(1 if pointwise else len(LABELS)) * config.votes if votes else 0,
        error=error,
        aggregate=config.aggregate,
    )


def votes_of(judgments: Sequence[Judgment]) -> tuple[Vote, ...]:
    """Judgments as votes for response A or B, not for the label that each was shown under."""
    return tuple(
        Vote(
            shown_first=judgment.winner,
            verdict=_response(judgment),
            text=judgment.text,
            thought=judgment.thought,
            probability=_probability(judgment),
        )
        for judgment in judgments
    )


def _votes_of_grades(grades: Sequence[Grade], aggregate: Aggregate) -> tuple[Vote, ...]:
    """A vote for each grade of A and the grade of B with the same number."""
    for_a, for_b = ([grade for grade in grades if grade.answer == answer] for answer in ANSWERS)
    return tuple(
        Vote(
            shown_first="A",
            verdict=_higher(first.score, second.score),
            text=f"Response A: {first.text}\n\nResponse B: {second.text}",
            thought="\n\n".join(filter(None, (first.thought, second.thought))),
            probability=_probability_higher(first.shares, second.shares) if aggregate == "distribution" else None,
            scores=(first.score, second.score),
        )
        for first, second in zip(for_a, for_b, strict=True)
    )


def _higher(first: int | None, second: int | None) -> Label | None:
    if first is None or second is None or first == second:
        return None
    return "A" if first > second else "B"


def _probability_higher(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The probability that the first score is higher, if both are drawn from their shares; equal ones count half."""
    if not first or not second:
        return None
    chances = (p * q * ((one > two) + (one == two) / 2) for one, p in enumerate(first) for two, q in enumerate(second))
    return fsum(chances)


def _response(judgment: Judgment) -> Label | None:
    """The response that was shown under the verdict's label."""
    if judgment.verdict not in LABELS:
        return None
    label: Label = "A" if judgment.verdict == "A" else "B"
    return label if judgment.winner == "A" else other(label)


def _probability(judgment: Judgment) -> float | None:
    """The probability of response A, from that of the response shown as A."""
    if judgment.probability is None or judgment.winner == "A":
        return judgment.probability
    return 1 - judgment.probability


async def _judgment(completing: Awaitable[Completion], config: VoteConfig, winner: Label, index: int) -> Judgment:
    completion = await completing
    read = partial(parse, wording=variant_of(config.prompt).wording, parser=config.parser)
    ended, traced = completion.finish_reason == "stop", config.aggregate == "distribution"
    return Judgment(
        purpose="sampled" if config.votes > 1 else "greedy",
        winner=winner,
        index=index,
        text=completion.text,
        verdict=variant_of(config.prompt).parse(completion.text, config.parser) if ended else None,
        finish_reason=completion.finish_reason,
        output_tokens=completion.output_tokens,
        thought=completion.thought,
        probability=probability_of_a(completion.tokens, completion.text, read) if ended and traced else None,
    )
