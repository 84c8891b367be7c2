"""The held-out pairs that a judge missed: at most half of its votes, greedy ones included, name the better answer.

Half of them is a miss too: a judge that follows the position is right in one order and wrong in the other. Pairs that people
call a tie have no better answer, and are left out.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from stj.loop.heldout import is_judged
from stj.loop.report.excerpt import Excerpt
from stj.loop.report.failures import ANSWER, INSTRUCTION, JUDGMENT, THOUGHT, Failure, FailureTally
from stj.loop.report.ways import EVERY_VOTE, FOLLOWS_A, FOLLOWS_B, NO_VERDICT, OTHERS
from stj.rows import Judgment, Row
from stj.verdict import Label

_LABELS: tuple[Label, ...] = ("A", "B")


def add_pair(tally: FailureTally, row: Row) -> None:
    """Counts a held-out pair that was judged in both orders."""
    if row.pair is None or not row.pair.ranked or not is_judged(row):
        return
    votes = sorted(
        (judgment for judgment in row.judgments if judgment.purpose in ("sampled", "greedy")),
        key=lambda vote: (vote.purpose != "sampled", vote.winner, vote.index),
    )
    if 2 * sum(vote.correct for vote in votes) > len(votes):
        tally.right()
        return
    worse = [vote for vote in votes if _is_wrong(vote)]
    key = -len(worse) / len(votes), -_sureness(worse)
    tally.miss(row.id, way_of(votes), key, lambda: _failure(row, votes, worse))


def way_of(votes: Sequence[Judgment]) -> str:
    """In which way the votes on a pair miss it."""
    verdicts = Counter(vote.verdict for vote in votes)
    if 2 * verdicts[None] >= len(votes):
        return NO_VERDICT
    if all(map(_is_wrong, votes)):
        return EVERY_VOTE
    by_order = [Counter(vote.verdict for vote in votes if vote.winner == label) for label in _LABELS]
    if all(order["A"] > order["B"] for order in by_order):
        return FOLLOWS_A
    if all(order["B"] > order["A"] for order in by_order):
        return FOLLOWS_B
    return OTHERS


def _is_wrong(vote: Judgment) -> bool:
    """Whether a vote names the worse answer; a tie names none."""
    return vote.verdict in _LABELS and not vote.correct


def _sureness(worse: Sequence[Judgment]) -> float:
    """Mean probability of the wrong verdicts; 0 if no probability is known."""
    known = [
        vote.probability if vote.verdict == "A" else 1 - vote.probability for vote in worse if vote.probability is not None
    ]
    return fmean(known) if known else 0.0


def _failure(row: Row, votes: Sequence[Judgment], worse: Sequence[Judgment]) -> Failure:
    assert row.pair is not None, "only pairs are missed"
    telling = next(iter(worse), next(vote for vote in votes if not vote.correct))
    verdict = telling.verdict if telling.verdict is not None else "none"
    said = [Excerpt.of(f"The judge said {verdict}; the better answer was {telling.winner}", telling.text, JUDGMENT)]
    if telling.thought:
        said.insert(0, Excerpt.of("Its thought", telling.thought, THOUGHT))
    return Failure(
        id=row.id,
        subset=row.subset,
        votes="; ".join(_votes_shown(votes)),
        verdict=_verdict_words(votes, len(worse)),
        asked=Excerpt.of("Instruction", row.instruction, INSTRUCTION),
        said=tuple(said),
        answers=(
            Excerpt.of("Better answer", row.pair.chosen, ANSWER),
            Excerpt.of("Worse answer", row.pair.rejected, ANSWER),
        ),
    )


def _verdict_words(votes: Sequence[Judgment], worse: int) -> str:
    unread = sum(vote.verdict is None for vote in votes)
    beside = f", {unread:,} without a verdict" if unread else ""
    return f"{worse:,} of {len(votes):,} votes for the worse answer{beside}"


def _votes_shown(votes: Sequence[Judgment]) -> list[str]:
    """The votes by order: `better answer as A: B B, greedy B`."""
    lines = []
    for label in _LABELS:
        sampled, greedy = (
            [str(vote.verdict or "none") for vote in votes if vote.winner == label and vote.purpose == purpose]
            for purpose in ("sampled", "greedy")
        )
        parts = [" ".join(sampled), *(f"greedy {verdict}" for verdict in greedy)]
        lines.append(f"better answer as {label}: {', '.join(filter(None, parts))}")
    return lines
