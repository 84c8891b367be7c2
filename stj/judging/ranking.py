"""From comparisons of pairs to the strengths of several responses: the model of Bradley and Terry (1952).

    P(i is better than j) = 1 / (1 + exp(strength_j - strength_i))

Each comparison counts once, with the share of its votes for each response; a tie is a half for both. Every response has a
half win and a half loss against a response of strength 0 besides, so that one that always wins has a finite strength. Strengths
count from their mean, and so do their intervals: those of the normal distribution that has the curvature of the likelihood
at its maximum.

`all_pairs` compares each two responses. `Tournament` compares fewer: in each round a response meets one that is about as strong
and that it has not met.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

_PRIOR = 0.5
_END_95 = 1.959964  # of the normal distribution
_STEPS = 100  # Newton's method needs fewer than ten.
_CLOSE = 1e-10

Pairing = tuple[int, int]
"""The places of two responses."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two responses that were compared."""

    first: int
    second: int
    share: float
    """Share of the votes for the first one, from 0 to 1; a tie counts a half."""


@dataclass(frozen=True, kw_only=True)
class RankedResponse:
    """One response in a ranking."""

    place: int
    """Its place in the list that was ranked, from 0."""
    strength: float
    """Logarithm of its odds against a response of mean strength, 0."""
    ci95: tuple[float, float]
    """95% interval of the strength."""
    comparisons: int
    """Number of comparisons that it took part in."""


def strengths(responses: int, comparisons: Sequence[Comparison]) -> list[RankedResponse]:
    """The responses, from the strongest to the weakest; equally strong ones in the order of the list."""
    wins = np.zeros((responses, responses))
    for met in comparisons:
        wins[met.first, met.second] += met.share
        wins[met.second, met.first] += 1 - met.share
    values, errors = _fit(wins)
    met_by = [sum(place in (met.first, met.second) for met in comparisons) for place in range(responses)]
    ranked = [
        RankedResponse(
            place=place,
            strength=float(value),
            ci95=(float(value - _END_95 * error), float(value + _END_95 * error)),
            comparisons=met_by[place],
        )
        for place, (value, error) in enumerate(zip(values, errors, strict=True))
    ]
    return sorted(ranked, key=lambda response: (-round(response.strength, 9), response.place))


def all_pairs(responses: int) -> list[Pairing]:
    """Each two of the responses."""
    return list(combinations(range(responses), 2))


class Tournament:
    """Rounds in which each response meets one of about its strength, as in the Swiss system; with an odd number one rests."""

    def __init__(self, responses: int) -> None:
        self._responses = responses
        self._met: set[frozenset[int]] = set()
        self._rested: set[int] = set()
        self.rounds = 0 if responses < 2 else ceil(log2(responses)) + 1
        """Number of rounds: as many as a knock-out has, and one more."""

    def next_round(self, comparisons: Sequence[Comparison]) -> list[Pairing]:
        """The pairs of the next round, by the strengths that the comparisons give; empty if all have met."""
        waiting = [response.place for response in strengths(self._responses, comparisons)]
        if len(waiting) % 2:
            resting = next((place for place in reversed(waiting) if place not in self._rested), waiting[-1])
            self._rested.add(resting)
            waiting.remove(resting)
        pairs: list[Pairing] = []
        while waiting:
            first = waiting.pop(0)
            second = next((place for place in waiting if frozenset((first, place)) not in self._met), None)
            if second is not None:
                waiting.remove(second)
                pairs.append((first, second))
                self._met.add(frozenset((first, second)))
        return pairs


def _fit(wins: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The strengths, from their mean, and their standard errors, by Newton's method: the likelihood is concave."""
    games = wins + wins.T
    values = np.zeros(len(wins))
    for _ in range(_STEPS):
        gradient, curvature = _derivatives(values, wins, games)
        step = np.linalg.solve(curvature, gradient)
        values += np.clip(step, -2, 2)
        if np.abs(step).max(initial=0) < _CLOSE:
            break
    _, curvature = _derivatives(values, wins, games)
    from_mean = np.eye(len(values)) - 1 / max(1, len(values))
    variances = np.diag(from_mean @ np.linalg.inv(curvature) @ from_mean)
    return from_mean @ values, np.sqrt(np.maximum(variances, 0))


def _derivatives(
    values: NDArray[np.float64], wins: NDArray[np.float64], games: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The gradient of the log-likelihood, and its curvature with the sign changed."""
    better = 1 / (1 + np.exp(values[None, :] - values[:, None]))
    against_mean = 1 / (1 + np.exp(-values))
    gradient = (wins - games * better).sum(axis=1) + _PRIOR - 2 * _PRIOR * against_mean
    weight = games * better * (1 - better)
    diagonal = weight.sum(axis=1) + 2 * _PRIOR * against_mean * (1 - against_mean)
    return gradient, np.diag(diagonal) - weight
