"""Decides how many votes on a pair are asked: at most N in each order, fewer once their majority is settled.

    all         every vote is asked
    exact       until no vote that is left can change the majority, so the verdict is that of all votes
    unlikely    also once the leader is so far ahead that a change is unlikely

A round is one vote in each order, and a rule looks only after whole rounds. So both orders always have equally many votes, and
position bias cancels. Rounds are numbered, and only those that are surely needed are started. So no vote is wasted, and the
result depends neither on concurrency nor on which vote arrives first.

The lead of `unlikely` is the smallest one whose error is at most `stop_error`. The error is the probability that the verdict
differs from that of all votes, over all looks together. Votes are independent samples, but the judge's chance of each verdict
is not known, and each order has its own. So the error is that of the worst chances: a fair coin in both orders. By the
reflection principle, a coin that is ahead by the lead is as likely not to end ahead as it is to end ahead by twice the lead or
more. Ties and unreadable votes only lower the error. tests/stages/test_stopping.py computes it for few votes and many chances.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from stj.config import StopRule
from stj.rows import Judgment
from stj.stages.runner import together
from stj.verdict import Verdict

VoteReadings = Sequence[Verdict | None]
"""What one vote counts for, once for each parser: a majority is settled only if it is for every parser."""


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When the votes on a pair are enough."""

    rule: StopRule = "all"
    error: float = 0.02
    """Only for `unlikely`: the greatest probability that the verdict differs from that of all votes."""

    def rounds_needed(self, tally: Counter[Verdict], left: int, votes: int, orders: int) -> int:
        """Rounds that must be asked before these votes can be settled, of the `left` ones of `votes`; 0 if they are settled."""
        if self.rule == "all":
            return left
        first, second = [*sorted(tally.values(), reverse=True), 0, 0][:2]
        lead = first - second
        needed = (orders * left - lead) // (2 * orders) + 1  # rounds that all go to the leader
        if self.rule == "unlikely":
            needed = min(needed, math.ceil((stopping_lead(votes, orders, self.error) - lead) / orders))
        return min(max(needed, 0), left)


EVERY_VOTE = Stopping()


async def ask_in_rounds(
    ask: Callable[[int], Iterable[Awaitable[Judgment]]],
    votes: int,
    orders: int,
    stopping: Stopping,
    read: Callable[[Judgment], VoteReadings],
) -> list[Judgment]:
    """The judgments of at most `votes` rounds, round after round; `ask` makes the requests of the round with a number.

    Raises what a request raises; the other requests are then cancelled.
    """
    tallies: defaultdict[int, Counter[Verdict]] = defaultdict(Counter)
    judgments: list[Judgment] = []
    asked, more = 0, stopping.rounds_needed(Counter(), votes, votes, orders)
    while more:
        new = await together(request for number in range(asked, asked + more) for request in ask(number))
        for parser, reading in ((parser, reading) for judgment in new for parser, reading in enumerate(read(judgment))):
            tallies[parser].update([reading] if reading is not None else [])
        judgments += new
        asked += more
        more = max(stopping.rounds_needed(tally, votes - asked, votes, orders) for tally in tallies.values())
    return judgments


@dataclass(frozen=True, kw_only=True)
class VotesAsked:
    """How many votes a rule saved."""

    asked: int = 0
    most: int = 0
    """Votes if every one had been asked."""

    def __add__(self, other: "VotesAsked") -> "VotesAsked":
        return VotesAsked(asked=self.asked + other.asked, most=self.most + other.most)

    def __str__(self) -> str:
        saved = 100 * (1 - self.asked / self.most) if self.most else 0
        return f"{self.asked:,} votes asked of {self.most:,}, {saved:.0f}% saved"


@cache
def stopping_lead(votes: int, orders: int, error: float) -> int:
    """The smallest lead, in votes, whose error is at most this one."""
    leads = range(orders, orders * votes + 1, orders)
    return leads[bisect_left(leads, True, key=lambda lead: greatest_error(orders * votes, lead) <= error)]


def greatest_error(votes: int, lead: int) -> float:
    """The greatest probability that a verdict with this lead differs from that of all `votes` votes.

    An odd vote only breaks a tie of the others, so the error is greater if it is unreadable.
    """
    even = votes - votes % 2
    tail = sum(math.comb(even, ahead) for ahead in range(even // 2 + lead, even + 1))
    return float(2 * tail / 2**even)
