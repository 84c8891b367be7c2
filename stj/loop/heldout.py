"""How good each judge of a run is on its held-out pairs: with sampled judgments in both orders, and with greedy ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from stj.evals.intervals import Interval
from stj.evals.metrics import Scores, Tallies, VerdictsByOrder, example_outcome, lengths, overall_only, score_tallies
from stj.rows import HELDOUT, Judgment, Purpose, Row
from stj.verdict import Label, Verdict


@dataclass(frozen=True, kw_only=True)
class HeldoutScores:
    """One judge on the held-out pairs. Every score is a share between 0 and 1. A judgment without a verdict counts as wrong."""

    pairs: int
    """The scored pairs: those with sampled judgments in both orders."""
    unjudged: int
    """Held-out rows without sampled judgments in both orders: a request failed, or the row was dropped."""
    accuracy: float
    """Mean of the two orders over the sampled judgments."""
    ci95: Interval
    """The 95% interval of `accuracy`. Pairs of the same instruction are one cluster."""
    accuracy_winner_first: float
    """Accuracy if the better answer is shown as A."""
    accuracy_winner_second: float
    """Accuracy if the better answer is shown as B."""
    position_consistent: float
    """Share of (pair, sample) with right verdicts in both orders."""
    unparsed: float
    """Share of the sampled judgments without a verdict."""
    truncated: float
    """Share of the sampled judgments that have no verdict because max_tokens cut them or their thoughts."""
    greedy_accuracy: float | None
    """Mean of the two orders at temperature 0; None if nothing was judged greedily."""
    greedy_position_consistent: float | None
    greedy_ci95: Interval | None
    always_a: float
    """Baseline: the score of a judge that always says A, on the same judgments."""
    longest: float
    """Baseline: the score of picking the answer with more characters. Equal lengths count one half."""
    shortest: float
    """Baseline: the score of picking the answer with fewer characters."""


def score_heldout(rows: Iterable[Row]) -> HeldoutScores | None:
    """The scores of the judge that judged these rows; None if no held-out pair was judged.

    Reads the rows once; their order does not matter.
    """
    sampled, greedy, unjudged = Tallies(), Tallies(), 0
    cut: list[bool] = []
    for row in rows:
        if row.task != HELDOUT:
            continue
        verdicts = _verdicts(row.judgments, "sampled")
        if not _judged_in_every_order(verdicts) or row.pair is None:
            unjudged += 1
            continue
        cut += [judgment.truncated for judgment in row.judgments if judgment.purpose == "sampled"]
        sampled.add(HELDOUT, example_outcome(verdicts, lengths(row.pair)), row.instruction)
        greedy_verdicts = _verdicts(row.judgments, "greedy")
        if _judged_in_every_order(greedy_verdicts):
            greedy.add(HELDOUT, example_outcome(greedy_verdicts, lengths(row.pair)), row.instruction)
    if not sampled.subsets:
        return None
    return _heldout_scores(_scores(sampled), _scores(greedy) if greedy.subsets else None, unjudged, fmean(cut))


def _verdicts(judgments: Iterable[Judgment], purpose: Purpose) -> VerdictsByOrder:
    """The verdicts of one purpose, by order."""
    asked = sorted((judgment for judgment in judgments if judgment.purpose == purpose), key=lambda judgment: judgment.index)
    verdicts: dict[Label, list[Verdict | None]] = {}
    for judgment in asked:
        verdicts.setdefault(judgment.winner, []).append(judgment.verdict)
    return verdicts


def _judged_in_every_order(verdicts: VerdictsByOrder) -> bool:
    """Whether there are several orders, with equally many verdicts each."""
    return len(verdicts) > 1 and len({len(samples) for samples in verdicts.values()}) == 1


def _scores(tallies: Tallies) -> Scores:
    return score_tallies(tallies, overall_only)[1]["overall"]


def _heldout_scores(sampled: Scores, greedy: Scores | None, unjudged: int, truncated: float) -> HeldoutScores:
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
        truncated=truncated,
        greedy_accuracy=greedy.accuracy if greedy else None,
        greedy_position_consistent=greedy.position_consistent if greedy else None,
        greedy_ci95=greedy.ci95 if greedy else None,
        always_a=sampled.always_a,
        longest=sampled.longest,
        shortest=sampled.shortest,
    )
