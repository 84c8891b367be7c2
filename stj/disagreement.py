"""The settings group `select.disagreement`: which judged pairs are learned, by how often the judge is right about them."""

import math
from dataclasses import dataclass
from typing import Literal

from stj.setting_checks import check

Draws = Literal["all", "last", "panel"]
Order = Literal["random", "easy_first"]


@dataclass(frozen=True, kw_only=True)
class DisagreementConfig:
    """Pairs near the boundary: those that the judge gets right in some samples and wrong in others.

    A pair's share is that of its samples with the right verdict. A pair without a right sample teaches nothing in any case.
    """

    draws: Draws = "all"
    """Where the share comes from. `all` is this iteration's samples, and needs `judge.sampling=all`. `last` is the samples of
    the iteration before, whatever ended them: 1 of 3 if the third was the first right one. Iteration 1 has none, and keeps
    all. `panel` is the opinions of the judge and of each member of `judge.panel`, each with the same weight: one third if one
    of three finds the label."""
    low: float = 0.0
    """Leave out pairs with a smaller share of right samples, from 0 to 1: they are too hard, or wrongly labelled."""
    high: float = 1.0
    """Leave out pairs with a larger share, from 0 to 1: they are too easy."""
    weighted: bool = False
    """Also keep each pair by lot, with probability 4 p (1 - p). p is its share of right samples, with half a right and half a
    wrong sample added, so that no pair is certain to go."""
    order: Order = "random"
    """In which order training sees the examples of an epoch. `easy_first` is a curriculum: a larger share comes earlier.
    Examples without a share, such as labelled ones, are spread evenly."""

    def __post_init__(self) -> None:
        bounds = f"select.disagreement.low={self.low}, select.disagreement.high={self.high}"
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        check(finite and 0 <= self.low <= self.high <= 1, f"{bounds}: shares must be 0 to 1, and low at most high")
        check(self.high > 0, f"{bounds}: a pair without a right sample has nothing to learn; raise high")

    def check(self, *, sampling: str, samples: int, keep: str, compares: bool, iterations: int, panel: bool) -> None:
        """Raises ConfigError if the other settings of a run give no shares, or if nothing is done with them."""
        check(
            self.low > 0 or self.high < 1 or self.weighted or self.order != "random",
            "select.disagreement: keeps every pair in random order; set low, high, weighted or order, or leave it out",
        )
        where = f"select.disagreement.draws={self.draws}"
        check(compares, "select.disagreement: judge.task=absolute compares no pairs: set judge.task=pairwise or both")
        check(keep == "correct", f"select.disagreement: judge.keep={keep} learns wrong judgments too: set judge.keep=correct")
        if self.draws == "panel":
            check(panel, f"{where}: judge.panel has no members: name some there, or set draws=all")
            return
        check(samples > 1, f"{where}: judge.samples={samples} gives shares of 0 and 1 alone: set judge.samples=2 or more")
        check(
            self.draws != "all" or sampling == "all",
            f"{where}: judge.sampling={sampling} stops before all samples: set judge.sampling=all, or draws=last",
        )
        check(
            self.draws != "last" or iterations > 1,
            f"{where}: iterations={iterations} has no iteration before it: set iterations=2 or more, or draws=all",
        )
