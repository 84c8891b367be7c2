"""Which judgments become training examples: one right one a pair (section 3.4), as many labels A as B (section 4.1)."""

import math
from array import array

import numpy as np
from numpy.typing import NDArray

from stj.randomness import uniform
from stj.rows import Judgment, Row
from stj.stages.judge import LABELS
from stj.train_config import Objective
from stj.verdict import Label


class LabelBalance:
    """As many examples with label A as with label B; the choice depends only on the seed and each example's id.

    Every example draws a number, which takes 8 bytes of memory. `settle` keeps the lowest draws of each label. Examples
    with the lowest draws are repeated first.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws: dict[Label, array[float]] = {label: array("d") for label in LABELS}
        self._highest: dict[Label, float] = dict.fromkeys(LABELS, -1.0)
        self._once_more: dict[Label, float] = dict.fromkeys(LABELS, -1.0)
        self._times = 1
        self.size = 0
        """Examples of each label that are learned, once settled; repeats count."""
        self.distinct = 0
        """Those of them that are no repeats."""

    def add(self, row_id: str, winner: Label) -> None:
        """Draws for an example."""
        self._draws[winner].append(self._draw(row_id))

    def count(self, winner: Label) -> int:
        """Examples with this label."""
        return len(self._draws[winner])

    def settle(self, within: "LabelBalance | None" = None) -> None:
        """Keeps as many examples as the rarer label has; with `within`, only examples that this other balance keeps."""
        draws = {label: np.array(numbers) for label, numbers in self._draws.items()}
        if within is not None:
            draws = {label: numbers[numbers <= within._highest[label]] for label, numbers in draws.items()}
        self.size = self.distinct = size = min(map(len, draws.values()))
        self._highest = {label: _highest_of(numbers, size) for label, numbers in draws.items()}

    def limit(self, most: int) -> None:
        """Keeps at most this many examples of each label, once settled."""
        if most < self.size:
            self.resize(most)

    def resize(self, size: int) -> None:
        """Keeps this many examples of each label, once settled. If there are fewer, all are repeated, and some once more.

        Without any example there is nothing to repeat.
        """
        self.distinct = min(size, self.distinct)
        self.size = size if self.distinct else 0
        self._times, once_more = divmod(self.size, max(1, self.distinct))
        for label, numbers in self._draws.items():
            draws = np.array(numbers)
            self._highest[label] = _highest_of(draws, self.distinct)
            self._once_more[label] = _highest_of(draws, once_more)

    @property
    def most_times(self) -> int:
        """How often an example is learned at most."""
        return math.ceil(self.size / max(1, self.distinct))

    def has(self, row_id: str, winner: Label) -> bool:
        """Whether an example that was added is kept."""
        return self._draw(row_id) <= self._highest[winner]

    def times(self, row_id: str, winner: Label) -> int:
        """How often an example that was added is learned."""
        return self._times + (self._draw(row_id) <= self._once_more[winner]) if self.has(row_id, winner) else 0

    def _draw(self, row_id: str) -> float:
        return uniform(self._seed, row_id, "balance")


def _highest_of(draws: NDArray[np.float64], count: int) -> float:
    """The highest of the `count` lowest draws; lower than any draw for none."""
    return float(np.partition(draws, count - 1)[count - 1]) if count else -1.0


def to_learn(row: Row, objective: Objective) -> tuple[Judgment, Judgment | None] | None:
    """The judgment to learn and, for objectives on pairs, a wrong one in the same order.

    None if the required judgments are missing. For pairs they are the first right and the first wrong one in index order:
    samples are independent, so these are as random as any. A judgment without a verdict is not wrong, only unreadable. A pair
    without a right sample may have a rescued judgment in its place.
    """
    if objective == "sft":
        kept = row.rescued if row.kept is None else row.judgments[row.kept]
        return None if kept is None else (kept, None)
    judgments = sorted((j for j in row.judgments if j.verdict is not None), key=lambda judgment: judgment.index)
    right = next((judgment for judgment in judgments if judgment.correct), row.rescued)
    if right is None:
        return None
    wrong = next((j for j in judgments if not j.correct and j.winner == right.winner), None)
    return None if wrong is None and objective != "sft_then_dpo" else (right, wrong)
