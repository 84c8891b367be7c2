"""Which judgments become training examples: one right one a pair, as many with label A as with label B (sections 3.4, 4.1)."""

from array import array
from dataclasses import dataclass

import numpy as np

from stj.config import Objective
from stj.randomness import uniform
from stj.rows import Judgment, Row
from stj.stages.judge import LABELS
from stj.verdict import Label


@dataclass(frozen=True, kw_only=True)
class BalancedShare:
    """As many examples with label A as with label B."""

    seed: int
    size: int
    """Of each label."""
    highest: dict[Label, float]
    """The draws up to which they belong to it."""

    def has(self, row_id: str, winner: Label) -> bool:
        """Whether an example, one of those drawn for, belongs to it."""
        return _draw(self.seed, row_id) <= self.highest[winner]


class LabelBalance:
    """A number for each example, from the seed and its id alone: 8 bytes of memory, whatever the examples' size."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws: dict[Label, array[float]] = {label: array("d") for label in LABELS}

    def add(self, row_id: str, winner: Label) -> None:
        """Draws for an example."""
        self._draws[winner].append(_draw(self._seed, row_id))

    def count(self, winner: Label) -> int:
        """Examples with this label."""
        return len(self._draws[winner])

    def balanced(self, within: BalancedShare | None = None) -> BalancedShare:
        """The largest share that is balanced (section 4.1): the lowest draws of each label, within another share."""
        draws = {label: np.array(found) for label, found in self._draws.items()}
        if within is not None:
            draws = {label: found[found <= within.highest[label]] for label, found in draws.items()}
        size = min(map(len, draws.values()))
        highest = {label: float(np.partition(found, size - 1)[size - 1]) if size else -1.0 for label, found in draws.items()}
        return BalancedShare(seed=self._seed, size=size, highest=highest)


def _draw(seed: int, row_id: str) -> float:
    return uniform(seed, row_id, "balance")


def to_learn(row: Row, objective: Objective) -> tuple[Judgment, Judgment | None] | None:
    """The judgment to learn and, for objectives on pairs, a wrong one in the same order; None where there is not what it takes.

    For pairs they are the first right and the first wrong one in index order: as random as any, for samples are independent.
    A judgment without a verdict is not wrong, only unreadable.
    """
    if objective == "sft":
        return None if row.kept is None else (row.judgments[row.kept], None)
    judgments = sorted((j for j in row.judgments if j.verdict is not None), key=lambda judgment: judgment.index)
    right = next((judgment for judgment in judgments if judgment.correct), None)
    if right is None:
        return None
    wrong = next((j for j in judgments if not j.correct and j.winner == right.winner), None)
    return None if wrong is None and objective != "sft_then_dpo" else (right, wrong)
