"""How good each judge of a run is on its held-out pairs: with sampled judgments in both orders, and with greedy ones."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from stj.evals.compare import ExampleResult
from stj.evals.intervals import Interval
from stj.evals.metrics import Scores, Tallies, VerdictsByOrder, example_outcome, lengths, overall_only, score_tallies
from stj.loop.dashboard import FEWEST, FULL_AGREEMENT, MOST_UNPARSED, skew_alarm
from stj.rows import HELDOUT, Judgment, Purpose, Row
from stj.sources.pairs import ALL
from stj.verdict import Label, Verdict


@dataclass(frozen=True, kw_only=True)
class SubsetScores:
    """One judge on one subset of the held-out pairs, by the sampled judgments."""

    pairs: int
    accuracy: float
    ci95: Interval
    position_consistent: float | None


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
    verdict_a: float | None = None
    """Share of A among the sampled verdicts, over both orders: one half for a judge without position bias. None if there are
    no verdicts."""
    self_agreement: float | None = None
    """Share of the sampled judgments with the verdict of most samples of the same pair and order; a judgment without a verdict
    has it never. None if there is a single sample."""
    tied: int = 0
    """Those of the pairs that people call a tie (`heldout.ties`)."""
    unjudged_by_reason: dict[str, int] = field(default_factory=dict)
    """The unjudged rows by reason: that of the dropped row, or "failed"."""
    subsets: dict[str, SubsetScores] = field(default_factory=dict)
    """The scores of each subset, if the pairs have several."""


class HeldoutTally:
    """The judgments of the held-out pairs, row by row; the order of the rows does not matter."""

    def __init__(self) -> None:
        self.results: dict[str, ExampleResult] = {}
        """The judge's result on each pair, by the row's id, for paired comparisons. Pairs of one instruction are a unit."""
        self._sampled, self._greedy, self._by_subset = Tallies(), Tallies(), Tallies()
        self._unjudged = Counter[str]()
        self._tied = self._samples = self._truncated = self._repeated = self._agreed = 0
        self._verdicts: Counter[Verdict | None] = Counter()

    def add(self, row: Row) -> None:
        """Counts a held-out row."""
        verdicts = _verdicts(row.judgments, "sampled")
        if not _judged_in_every_order(verdicts) or row.pair is None:
            self._unjudged[row.dropped or "failed"] += 1
            return
        tied = row.pair.method if not row.pair.ranked else None
        self._tied += tied is not None
        outcome = example_outcome(verdicts, lengths(row.pair), tied=tied)
        self._sampled.add(HELDOUT, outcome, row.instruction)
        self._by_subset.add(row.subset or ALL, outcome, row.instruction)
        self.results[row.id] = ExampleResult(outcome.accuracy, (outcome.consistent or 0.0) > 0.5, row.instruction)
        cut = [judgment.truncated for judgment in row.judgments if judgment.purpose == "sampled"]
        self._samples += len(cut)
        self._truncated += sum(cut)
        for samples in verdicts.values():
            self._count(samples)
        greedy = _verdicts(row.judgments, "greedy")
        if _judged_in_every_order(greedy):
            self._greedy.add(HELDOUT, example_outcome(greedy, lengths(row.pair), tied=tied), row.instruction)

    def _count(self, samples: Sequence[Verdict | None]) -> None:
        """Counts the verdicts of one pair in one order."""
        self._verdicts.update(samples)
        if len(samples) > 1:
            readable = Counter(verdict for verdict in samples if verdict is not None)
            self._repeated += len(samples)
            self._agreed += max(readable.values(), default=0)

    def scores(self) -> HeldoutScores | None:
        """The scores; None if no pair was judged."""
        if not self._sampled.subsets:
            return None
        greedy = _scores(self._greedy) if self._greedy.subsets else None
        scores = _heldout_scores(_scores(self._sampled), greedy, self._unjudged.total(), self._truncated / self._samples)
        named = self._verdicts["A"] + self._verdicts["B"]
        return replace(
            scores,
            verdict_a=self._verdicts["A"] / named if named else None,
            self_agreement=self._agreed / self._repeated if self._repeated else None,
            tied=self._tied,
            unjudged_by_reason=dict(sorted(self._unjudged.items())),
            subsets=self._subset_scores(),
        )

    def _subset_scores(self) -> dict[str, SubsetScores]:
        """The scores of each subset; none if all pairs are of one."""
        if len(self._by_subset.subsets) < 2:
            return {}
        return {
            name: SubsetScores(
                pairs=scores.examples,
                accuracy=scores.accuracy,
                ci95=scores.ci95,
                position_consistent=scores.position_consistent,
            )
            for name, scores in score_tallies(self._by_subset, overall_only)[0].items()
        }


def score_heldout(rows: Iterable[Row]) -> HeldoutScores | None:
    """The scores of the judge that judged these rows; None if no held-out pair was judged.

    Reads the rows once; their order does not matter.
    """
    tally = HeldoutTally()
    for row in rows:
        if row.task == HELDOUT:
            tally.add(row)
    return tally.scores()


def is_judged(row: Row) -> bool:
    """Whether a held-out pair has sampled verdicts in every order: else it has no score."""
    return _judged_in_every_order(_verdicts(row.judgments, "sampled"))


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


def heldout_alarms(scores: HeldoutScores) -> Iterator[str]:
    """A line for each number of a judge on the held-out pairs that is out of the bounds of stj/loop/dashboard.py."""
    if scores.pairs < FEWEST:
        return
    yield from skew_alarm(scores.verdict_a, scores.pairs, "the verdicts on held-out pairs")
    if scores.unparsed > MOST_UNPARSED:
        yield f"{scores.unparsed:.1%} of the judgments of held-out pairs have no verdict (bound {MOST_UNPARSED:.0%})"
    if scores.self_agreement == FULL_AGREEMENT:
        yield (
            "all sampled judgments of a held-out pair agree, for every pair and order: the judge has no alternatives left to "
            "sample, or the temperature is 0"
        )
