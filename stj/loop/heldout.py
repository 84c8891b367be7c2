"""How good each judge of a run is on its held-out pairs: sampled in both orders, and greedily."""

from collections.abc import Iterable
from dataclasses import dataclass

from stj.evals.metrics import Interval, Scores, Tallies, VerdictsByOrder, example_outcome, lengths, overall_only, score_tallies
from stj.rows import HELDOUT, Judgment, Purpose, Row
from stj.verdict import Label, Verdict


@dataclass(frozen=True, kw_only=True)
class HeldoutScores:
    """One judge on the held-out pairs; every score is a share between 0 and 1, and a judgment without verdict is wrong."""

    pairs: int
    """Pairs with sampled judgments in both orders: those that are scored."""
    unjudged: int
    """Held-out rows without them, because a request failed or the row was dropped."""
    accuracy: float
    """Mean of the two orders over the sampled judgments."""
    ci95: Interval
    """Low and high end of its 95% bootstrap interval; pairs of the same instruction are drawn together."""
    accuracy_winner_first: float
    """With the better answer shown as A."""
    accuracy_winner_second: float
    """With the better answer shown as B."""
    position_consistent: float
    """Share of (pair, sample) that were judged right in both orders."""
    unparsed: float
    """Share of the sampled judgments without a verdict."""
    greedy_accuracy: float | None
    """Mean of the two orders at temperature 0; None where nothing was judged greedily."""
    greedy_position_consistent: float | None
    greedy_ci95: Interval | None
    always_a: float
    """What a judge that always says A scores on the same judgments."""
    longest: float
    """What picking the answer with more characters scores; equal lengths count one half."""
    shortest: float


def score_heldout(rows: Iterable[Row]) -> HeldoutScores | None:
    """The scores of the judge that judged these rows; None where no held-out pair was judged.

    One pass over the rows, whose order does not matter.
    """
    sampled, greedy, unjudged = Tallies(), Tallies(), 0
    for row in rows:
        if row.task != HELDOUT:
            continue
        said = _verdicts(row.judgments, "sampled")
        if not _judged_in_every_order(said) or row.pair is None:
            unjudged += 1
            continue
        sampled.add(HELDOUT, example_outcome(said, lengths(row.pair)), row.instruction)
        at_zero = _verdicts(row.judgments, "greedy")
        if _judged_in_every_order(at_zero):
            greedy.add(HELDOUT, example_outcome(at_zero, lengths(row.pair)), row.instruction)
    if not sampled.subsets:
        return None
    return _heldout_scores(_scores(sampled), _scores(greedy) if greedy.subsets else None, unjudged)


def _verdicts(judgments: Iterable[Judgment], purpose: Purpose) -> VerdictsByOrder:
    """The strict verdicts of one purpose, by order."""
    asked = sorted((judgment for judgment in judgments if judgment.purpose == purpose), key=lambda judgment: judgment.index)
    said: dict[Label, list[Verdict | None]] = {}
    for judgment in asked:
        said.setdefault(judgment.winner, []).append(judgment.verdict)
    return said


def _judged_in_every_order(said: VerdictsByOrder) -> bool:
    """Whether there are as many samples with the better answer under one label as under another."""
    return len(said) > 1 and len({len(samples) for samples in said.values()}) == 1


def _scores(tallies: Tallies) -> Scores:
    return score_tallies(tallies, overall_only)[1]["overall"]


def _heldout_scores(sampled: Scores, greedy: Scores | None, unjudged: int) -> HeldoutScores:
    first, second = sampled.by_order
    assert first is not None, "pairs are judged in two orders"
    assert second is not None
    assert sampled.position_consistent is not None
    assert sampled.always_a is not None
    assert sampled.longest is not None
    assert sampled.shortest is not None
    return HeldoutScores(
        pairs=sampled.examples,
        unjudged=unjudged,
        accuracy=sampled.accuracy,
        ci95=sampled.ci95,
        accuracy_winner_first=first,
        accuracy_winner_second=second,
        position_consistent=sampled.position_consistent,
        unparsed=sampled.unparsed,
        greedy_accuracy=greedy.accuracy if greedy else None,
        greedy_position_consistent=greedy.position_consistent if greedy else None,
        greedy_ci95=greedy.ci95 if greedy else None,
        always_a=sampled.always_a,
        longest=sampled.longest,
        shortest=sampled.shortest,
    )
