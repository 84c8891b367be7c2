"""A calibration: how a judge did on labelled pairs, by its confidence.

Confidence is the share of the votes that are for the verdict. It is calibrated if the judge is right on 80% of the pairs on
which its confidence is 0.8. The reliability curve shows this by tenths of confidence. ECE is the curve's mean distance from
the diagonal, weighted by pairs (Naeini et al. 2015). Brier's score is the mean square of confidence minus right (1 or 0). All
three are over the pairs with a verdict. Ties have none, and are counted beside.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from stj.errors import ConfigError
from stj.evals.intervals import mean_ci95
from stj.judging.risk import Answers, RiskLimit, certified, lowest_risk, pairs_needed, possible_thresholds
from stj.stages.vote import PairVerdict
from stj.storage.artifacts import Key
from stj.text import Column, Table
from stj.verdict import Label

_BINS = 10
_SHOWN_RISKS = (0.05, 0.1, 0.2)


class Outcome(NamedTuple):
    """How the judge did on one labelled pair."""

    better: Label
    """The better response by the label."""
    verdict: Label | None
    """The judge's verdict; None for a tie."""
    confidence: float

    @property
    def right(self) -> bool:
        """Whether the verdict is the label."""
        return self.verdict == self.better


Outcomes = Counter[Outcome]


class CurvePoint(NamedTuple):
    """The pairs whose confidence is in one tenth; the last tenth includes 1."""

    low: float
    high: float
    pairs: int
    right: int
    """Pairs with a right verdict."""
    confidence: float
    """Mean confidence."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A judge's outcomes on labelled pairs, with what follows from them."""

    model: str
    """The judge's name, for readers."""
    judge: Key
    """The facts of the judge (stj/judging/identity.py)."""
    outcomes: Outcomes
    """The pairs with a label that were judged, counted."""
    failed: int = 0
    """Pairs with a label that could not be judged."""

    @property
    def pairs(self) -> int:
        """Labelled pairs that were judged."""
        return self.outcomes.total()

    @property
    def decided(self) -> Outcomes:
        """The outcomes with a verdict."""
        return Outcomes({outcome: count for outcome, count in self.outcomes.items() if outcome.verdict is not None})

    @property
    def ties(self) -> int:
        """Pairs without a verdict."""
        return self.pairs - self.decided.total()

    @property
    def accuracy(self) -> float | None:
        """Share of right verdicts among the pairs with a verdict; None if there are none."""
        return _mean(self.decided, lambda outcome: float(outcome.right))

    @property
    def brier(self) -> float | None:
        """Brier's score: 0 is best, 0.25 is a coin that knows it; None without verdicts."""
        return _mean(self.decided, lambda outcome: (outcome.confidence - outcome.right) ** 2)

    @property
    def ece(self) -> float | None:
        """The expected calibration error over tenths of confidence: 0 is best; None without verdicts."""
        curve = self.reliability
        total = sum(point.pairs for point in curve)
        return (
            math.fsum(point.pairs / total * abs(point.right / point.pairs - point.confidence) for point in curve)
            if total
            else None
        )

    @property
    def reliability(self) -> list[CurvePoint]:
        """The reliability curve: tenths of confidence that hold pairs, from low to high."""
        parts: dict[int, Outcomes] = {}
        for outcome, count in self.decided.items():
            parts.setdefault(min(_BINS - 1, math.floor(outcome.confidence * _BINS)), Outcomes())[outcome] += count
        return [_point(place, parts[place]) for place in sorted(parts)]

    def answers(self) -> list[Answers]:
        """What the judge would answer from each possible confidence on, strictest first."""
        falling = sorted(self.decided.items(), key=lambda item: -item[0].confidence)
        place, pairs, wrong, answers = 0, 0, 0, []
        for threshold in possible_thresholds(self.judge["vote"]):
            while place < len(falling) and falling[place][0].confidence >= threshold:
                outcome, count = falling[place]
                pairs, wrong, place = pairs + count, wrong + count * (not outcome.right), place + 1
            answers.append(Answers(threshold=threshold, pairs=pairs, wrong=wrong))
        return answers

    def abstention(self, limit: RiskLimit) -> "Abstention":
        """When the judge abstains, to keep this limit.

        Raises ConfigError if the calibration shows no confidence that keeps it. The error names the lowest risk that one keeps,
        or the number of pairs that are needed.
        """
        answers = self.answers()
        chosen = certified(answers, limit)
        if chosen is None:
            raise ConfigError(_refusal(answers, limit))
        return Abstention(threshold=chosen.threshold, limit=limit)

    def summary(self) -> Iterator[str | Table]:
        """The calibration for a reader."""
        beside = f"{self.ties:,} ties" + (f", {self.failed:,} not judged" if self.failed else "")
        yield f"{self.model}: {self.pairs:,} labelled pairs, {beside}"
        if self.accuracy is None or self.ece is None or self.brier is None:
            yield "no pair has a verdict: this judge answers nothing"
            return
        yield _curve_table(self.reliability)
        yield f"right {100 * self.accuracy:.1f}% of the pairs with a verdict; ECE {self.ece:.3f}, Brier {self.brier:.3f}"
        yield from _risk_lines(self)


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """When a judge does not answer: its confidence is below the threshold, or it has no verdict."""

    threshold: float
    """The lowest confidence of an answer."""
    limit: RiskLimit

    def applied(self, result: PairVerdict) -> PairVerdict:
        """The result, without its verdict if the judge abstains; the votes, confidence and reward stay."""
        return replace(result, abstained=result.verdict is None or result.confidence < self.threshold)


class AnsweredTally:
    """Counts which of the judged pairs a judge that may abstain has answered."""

    def __init__(self, abstention: Abstention | None) -> None:
        self._abstention = abstention
        self._kinds: Counter[str] = Counter()

    def add(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Counts a result, and returns it."""
        unsure = not result["error"] and result["reward"] != 0
        self._kinds["answered" if result["verdict"] else "unsure" if unsure else "failed" if result["error"] else "tied"] += 1
        return result

    def summary(self) -> Iterator[str]:
        """The counts for a reader; nothing if the judge never abstains."""
        if self._abstention is None:
            return
        total, kinds, limit = self._kinds.total(), self._kinds, self._abstention.limit
        yield (
            f"answered {kinds['answered']:,} of {total:,} pairs, abstained on {total - kinds['answered']:,}: "
            f"{kinds['unsure']:,} below confidence {self._abstention.threshold:.3g}, {kinds['tied']:,} ties, "
            f"{kinds['failed']:,} not judged"
        )
        yield (
            f"in the long run at most {_percent(limit.risk)} of the answers are wrong, {_percent(limit.confidence)} sure, "
            "on pairs like the calibration's"
        )


def _percent(share: float) -> str:
    """A share as it was given: 99.5% is not 100%."""
    return f"{100 * share:.6g}%"


def _refusal(answers: Sequence[Answers], limit: RiskLimit) -> str:
    sure = _percent(limit.confidence)
    asked = f"risk={limit.risk}: this calibration shows no confidence at which the judge keeps it ({sure} sure)"
    lowest, needed = lowest_risk(answers, limit.confidence), pairs_needed(answers, limit)
    decided = answers[-1].pairs
    if decided < needed:
        remedy = (
            f"it has {decided:,} pairs with a verdict, and at least {needed:,} are needed, all of them right: label more pairs"
        )
    else:
        remedy = f"the judge errs too often on its {decided:,} pairs with a verdict: ask for more votes, or label more pairs"
    return f"{asked}; {remedy}" + (f"; the lowest risk it keeps is {lowest:g}" if lowest else "")


def _risk_lines(calibration: Calibration) -> Iterator[str]:
    """What the judge answers at some risks, and the lowest that it keeps."""
    answers = calibration.answers()
    for risk in _SHOWN_RISKS:
        limit = RiskLimit(risk=risk)
        if chosen := certified(answers, limit):
            yield (
                f"risk {risk:.0%}: answers {chosen.pairs / calibration.pairs:.1%} of the pairs, from confidence "
                f"{chosen.threshold:.3g} on ({limit.confidence:.0%} sure)"
            )
    lowest = lowest_risk(answers, RiskLimit(risk=0.5).confidence)
    yield "it keeps no risk: label more pairs" if lowest is None else f"the lowest risk it keeps is {lowest:.1%}"


def _curve_table(curve: Sequence[CurvePoint]) -> Table:
    rows = []
    for point in curve:
        low, high = mean_ci95([1.0] * point.right + [0.0] * (point.pairs - point.right))
        share = f"{100 * point.right / point.pairs:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        rows.append((f"{point.low:.1f} to {point.high:.1f}", f"{point.pairs:,}", f"{100 * point.confidence:.1f}", share))
    columns = (Column("", "confidence"), Column("", "pairs"), Column("%", "confidence"), Column("% right", "[95%]"))
    return Table(columns=columns, rows=rows)


def _point(place: int, part: Outcomes) -> CurvePoint:
    return CurvePoint(
        low=place / _BINS,
        high=(place + 1) / _BINS,
        pairs=part.total(),
        right=sum(count for outcome, count in part.items() if outcome.right),
        confidence=math.fsum(outcome.confidence * count for outcome, count in part.items()) / part.total(),
    )


def _mean(outcomes: Outcomes, value: Callable[[Outcome], float]) -> float | None:
    total = outcomes.total()
    return math.fsum(value(outcome) * count for outcome, count in outcomes.items()) / total if total else None
