"""Which graded pairs become training examples: balanced over scores, so that the judge does not learn one number.

A pair gives two examples, one with each of its scores. Both may have the same score if `judge.keep` is `random`. No score gets
more examples than the middle one of those that occur: with 90, 60, 20, 8 and 6 examples of the five scores, at most 20 of each
stay. Of an even number of scores it is halfway between the two in the middle.

Pairs with the same two scores are of one sort. All sorts take part in this at the same pace: of 300 pairs with 5 and 2, 60 with
5 and 3, and 30 with 5 and 1, if the 5 has room for 180, stay 90, 60 and 30. A lot among all pairs would keep half of each.
"""

import math
from array import array
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import median

import numpy as np

from stj.randomness import uniform

Point = tuple[str, int]
"""A score on a scale: the 1 of a binary scale and that of a scale from 1 to 5 mean different things."""
Points = tuple[Point, Point]
"""Those of the better and the worse answer."""
_NONE = -1.0  # Lower than any draw.


def at_one_pace(
    sizes: Mapping[Points, int], takes: Mapping[Points, Sequence[Hashable]], room: Mapping[Hashable, int]
) -> dict[Points, int]:
    """How many pairs of each sort are kept, so that none could be added.

    All sorts grow alike until they are used up, or something that each of their pairs takes is. Where the last room is too
    little for all, those of which there are fewest come first.
    """
    kept, left = dict.fromkeys(sizes, 0), dict(room)

    def grow(kind: Points, pairs: int) -> None:
        kept[kind] += pairs
        for taken in takes[kind]:
            left[taken] -= pairs

    def can_grow(kind: Points) -> bool:
        return kept[kind] < sizes[kind] and all(left[taken] >= takes[kind].count(taken) for taken in takes[kind])

    growing = sorted(filter(can_grow, sizes), key=lambda kind: (sizes[kind], kind))
    while growing:
        together = Counter(taken for kind in growing for taken in takes[kind])
        step = min(left[taken] // count for taken, count in together.items())
        step = min(step, *(sizes[kind] - kept[kind] for kind in growing))
        for kind in growing:
            if step or can_grow(kind):
                grow(kind, step or 1)
        growing = [kind for kind in growing if can_grow(kind)]
    return kept


class ScoreBalance:
    """A choice of pairs that depends only on the seed, and on the id and the scores of each pair.

    Every pair draws a number, which takes 8 bytes of memory. Of each sort those with the lowest numbers are kept: so one number
    for each sort tells which pairs are.
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
        return sum(self._kept().values())

    @property
    def most(self) -> int:
        """Most examples of one score; 0 without pairs."""
        return math.floor(median(self._counts().values())) if self._draws else 0

    def settle(self) -> None:
        """Keeps pairs until the scores are balanced."""
        sizes = {scores: len(draws) for scores, draws in self._draws.items()}
        self._keep(at_one_pace(sizes, {scores: scores for scores in sizes}, dict.fromkeys(self._counts(), self.most)))

    def limit(self, most: int) -> None:
        """Keeps at most so many of the pairs that are kept, of all sorts alike."""
        sizes = self._kept()
        self._keep(at_one_pace(sizes, dict.fromkeys(sizes, ("pairs",)), {"pairs": most}))

    def has(self, row_id: str, scores: Points) -> bool:
        """Whether a pair that was added is kept."""
        return self._draw(row_id) <= self._highest[scores]

    def _keep(self, pairs: Mapping[Points, int]) -> None:
        self._highest = {
            scores: float(np.sort(self._draws[scores])[count - 1]) if count else _NONE for scores, count in pairs.items()
        }

    def _kept(self) -> dict[Points, int]:
        return {
            scores: int(np.count_nonzero(np.array(draws) <= self._highest[scores])) for scores, draws in self._draws.items()
        }

    def _counts(self) -> Counter[Point]:
        counts = Counter[Point]()
        for scores, draws in self._draws.items():
            for score in scores:
                counts[score] += len(draws)
        return counts

    def _draw(self, row_id: str) -> float:
        return uniform(self._seed, row_id, "scores")
