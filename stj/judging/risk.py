"""Risk: the confidence from which on a judge answers, so that its error among the answered pairs has a limit.

The guarantee: with probability `confidence`, at most the share `risk` of the answers is wrong. It is for the long run, and for
as many new pairs as were labelled, or more. The probability is over the choice of the labelled and the new pairs, which must
be of the same kind. It holds for any judge and any number of pairs. Pairs below the threshold, and ties, are not answered.

The error among the answered need not grow as the threshold falls, so one bound for one threshold chosen on the data would not
hold. This is learn then test (Angelopoulos et al. 2021), as in Trust or Escalate (Jung et al. 2024). The possible thresholds
are fixed before the data, from the number of votes. Each is a hypothesis, "too many of the answers are wrong". They are tested
from the strictest on by the fallback procedure (Wiens and Dmitrienko 2005). Each has a share of the allowed failure,
1 - confidence, and a rejected hypothesis hands its share on to the next. The chance that any true hypothesis is rejected is at
most the sum of all shares. Fixed sequence testing is the case in which the strictest threshold has all. Several starts also
serve a judge of many votes, which is seldom unanimous.

A p-value is the larger of two exact ones. The binomial one is for the error in the long run. The hypergeometric one is for as
many new answers as there were labelled ones (prediction limits, Thatcher 1964). If too many of those are wrong, a fair
division of all errors seldom leaves as few among the labelled ones. Without it, a judge whose error in the long run is just
within the risk would exceed it on every second set of new pairs.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from stj.errors import ConfigError

_STARTS = 4
"""Thresholds with a share of the allowed failure. More help a judge that is seldom unanimous; others then need more pairs."""
_ROUNDING = 1 + 1e-9  # A probability of exactly a half may come out a little larger.
_STEPS = 200  # The lowest risk is reported to half a point.


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The labelled pairs that a judge answers from some confidence on."""

    threshold: float
    """The lowest confidence of an answer."""
    pairs: int
    wrong: int


@dataclass(frozen=True, kw_only=True)
class RiskLimit:
    """What the user asks for."""

    risk: float
    """Highest share of errors among the answered pairs, above 0 and below 1."""
    confidence: float = 0.9
    """Probability, over calibration pairs, that the limit holds: from 0.5 to below 1."""

    def __post_init__(self) -> None:
        if not (_is_number(self.risk) and 0 < self.risk < 1):
            raise ConfigError(f"risk={self.risk}: must be a share of the answered pairs, above 0 and below 1, such as 0.1")
        if not (_is_number(self.confidence) and 0.5 <= self.confidence < 1):
            raise ConfigError(f"confidence={self.confidence}: must be a probability from 0.5 to below 1, such as 0.9")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def possible_thresholds(vote: Mapping[str, Any]) -> tuple[float, ...]:
    """The thresholds of a judge with these settings, highest first; known before any pair is judged.

    They are the shares that a verdict can have of all votes of both orders. The mean of probabilities can have any value: its
    thresholds are hundredths, and finer ones near 1, where most of the values are.
    """
    if vote.get("aggregate") == "distribution":
        return (0.9999, 0.999, 0.995, *(percent / 100 for percent in range(99, 0, -1)))
    return tuple(share / (2 * vote["votes"]) for share in range(2 * vote["votes"], 0, -1))


def certified(answers: Sequence[Answers], limit: RiskLimit) -> Answers | None:
    """The answers at the lowest threshold whose error is certainly within the limit; None if there is no such threshold.

    The answers are at the possible thresholds, strictest first. A threshold that answers no more of them than a stricter one is
    not taken: of the confidences between, nothing is known.
    """
    last, level = None, 0.0
    for answer, share in zip(answers, _shares(answers, 1 - limit.confidence), strict=True):
        level += share
        if answer.pairs and p_value(answer.wrong, answer.pairs, limit.risk) <= level:
            last = answer if last is None or answer.pairs > last.pairs else last
        else:
            level = 0.0
    return last


def lowest_risk(answers: Sequence[Answers], confidence: float) -> float | None:
    """The lowest risk, to half a point, at which the judge answers at all; None if it is above 99%."""
    risks = [step / _STEPS for step in range(1, _STEPS - 1)]
    place = bisect_left(
        risks, True, key=lambda risk: certified(answers, RiskLimit(risk=risk, confidence=confidence)) is not None
    )
    return risks[place] if place < len(risks) else None


def pairs_needed(answers: Sequence[Answers], limit: RiskLimit) -> int:
    """Answered pairs without any error that a threshold needs: with fewer, no judge can be certified."""
    level = max(_shares(answers, 1 - limit.confidence))
    pairs = math.ceil(math.log(level) / math.log1p(-limit.risk))
    errors = next(errors for errors in count(1) if division_tail(0, max(pairs, errors), errors) <= level * _ROUNDING)
    pairs = max(pairs, math.ceil((errors - 1) / limit.risk))
    return next(enough for enough in count(pairs) if p_value(0, enough, limit.risk) <= level)


def p_value(wrong: int, pairs: int, risk: float) -> float:
    """The p-value of "too many of the answers are wrong", from the labelled pairs that are answered."""
    too_many = wrong + math.floor(risk * pairs) + 1  # Errors of both halves together, if the new half is above the risk.
    return max(binomial_tail(wrong, pairs, risk), division_tail(wrong, pairs, too_many))


def binomial_tail(successes: int, trials: int, rate: float) -> float:
    """The probability of at most this many successes in independent trials at this rate, between 0 and 1."""
    from scipy.special import betainc  # Takes 0.1 s to import, which other commands need not wait for.

    return 1.0 if successes >= trials else float(betainc(trials - successes, successes + 1, 1 - rate))


def division_tail(wrong: int, pairs: int, errors: int) -> float:
    """The probability that a half of twice as many pairs, drawn by chance, has at most `wrong` of all their errors."""
    if wrong >= min(errors, pairs):
        return 1.0
    in_half = np.arange(max(0, errors - pairs), wrong + 1)
    logs = _ways(errors, in_half) + _ways(2 * pairs - errors, pairs - in_half) - _ways(2 * pairs, pairs)
    return min(1.0, float(np.exp(logs).sum()))


def _ways(items: int, chosen: Any) -> Any:
    """Log of the number of ways to choose some of the items."""
    from scipy.special import gammaln

    return gammaln(items + 1) - gammaln(chosen + 1) - gammaln(items - chosen + 1)


def _shares(answers: Sequence[Answers], failure: float) -> list[float]:
    """The allowed failure, in equal shares on up to four of the thresholds that a majority of all votes can reach."""
    majorities = max(1, sum(answer.threshold > 0.5 for answer in answers))
    starts = {start * majorities // _STARTS for start in range(_STARTS)}
    return [failure / len(starts) if place in starts else 0.0 for place in range(len(answers))]
