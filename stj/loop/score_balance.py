"""Which graded pairs become training examples: balanced over scores, so that the judge does not learn one number.

A pair gives two examples, one with each of its scores. Both may have the same score if `judge.keep` is `random`. No score gets
more examples than the middle one of those that occur: with 90, 60, 20, 8 and 6 examples of the five scores, at most 20 of each
stay. Of an even number of scores it is halfway between the two in the middle.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from stj.randomness import uniform

Point = tuple[str, int]
"""A score on a scale: the 1 of a binary scale and that of a scale from 1 to 5 mean different things."""
Points = tuple[Point, Point]
"""Those of the better and the worse answer."""
_NONE = -1.0  # Lower than any draw.


class ScoreBalance:
    """A choice of pairs that depends only on the seed, and on the id and the scores of each pair.

    Every pair draws a number, which takes 8 bytes of memory. In the order of these numbers, a pair is kept while its scores
    have room. Room never comes back: so one number for each two scores tells which pairs are kept.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws: dict[Points, array[float]] = {}
        self._highest: dict[Points, float] = {}

    def add(self, row_id: str, scores: Points) -> None:
        """Draws for a pair."""
        self._draws.setdefault(scores, array("d")).append(self._draw(row_id))

    @property
    def size(self) -> int:
        """Pairs that are kept, once settled."""
        return sum(int(np.count_nonzero(np.array(draws) <= self._highest[of])) for of, draws in self._draws.items())

    @property
    def most(self) -> int:
        """Most examples of one score; 0 without pairs."""
        return math.floor(median(self._counts().values())) if self._draws else 0

    def settle(self) -> None:
        """Keeps pairs until the scores are balanced."""
        kinds, ordered = self._ordered()
        room = dict.fromkeys(self._counts(), self.most)
        self._highest = dict.fromkeys(kinds, _NONE)
        for draw, kind in ordered:
            scores = kinds[kind]
            if all(room[score] >= scores.count(score) for score in scores):
                self._highest[scores] = draw
                for score in scores:
                    room[score] -= 1

    def limit(self, most: int) -> None:
        """Of the pairs that are kept, keeps those with the lowest draws, at most this many."""
        kept = np.sort(np.concatenate([self._kept(scores) for scores in self._draws] or [np.empty(0)]))
        last = float(kept[most - 1]) if 0 < most <= len(kept) else _NONE if most <= 0 else np.inf
        self._highest = {scores: min(highest, last) for scores, highest in self._highest.items()}

    def has(self, row_id: str, scores: Points) -> bool:
        """Whether a pair that was added is kept."""
        return self._draw(row_id) <= self._highest[scores]

    def _kept(self, scores: Points) -> NDArray[np.float64]:
        draws = np.array(self._draws[scores])
        return draws[draws <= self._highest[scores]]

    def _counts(self) -> Counter[Point]:
        counts = Counter[Point]()
        for scores, draws in self._draws.items():
            for score in scores:
                counts[score] += len(draws)
        return counts

    def _ordered(self) -> tuple[list[Points], Iterable[tuple[float, int]]]:
        """The sorts of pairs, and every pair's draw with the number of its sort, lowest draw first."""
        kinds = sorted(self._draws)
        draws = np.concatenate([np.array(self._draws[kind]) for kind in kinds] or [np.empty(0)])
        numbers = np.repeat(np.arange(len(kinds)), [len(self._draws[kind]) for kind in kinds])
        order = np.argsort(draws, kind="stable")
        return kinds, zip(draws[order].tolist(), numbers[order].tolist(), strict=True)

    def _draw(self, row_id: str) -> float:
        return uniform(self._seed, row_id, "scores")
