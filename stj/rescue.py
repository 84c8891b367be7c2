"""The settings group `judge.rescue`: reasons for the known label of a pair that the judge never gets right."""

import math
from dataclasses import dataclass

from stj.setting_checks import check

_MOST = 100  # Rationales of a pair, and checks of a rationale: more than any pair is worth.


@dataclass(frozen=True, kw_only=True)
class RescueConfig:
    """A pair without a right judgment is judged once more by a judge that knows the label, and writes reasons for it.

    The reasons are learned if they do not say that the label was known, and if the judge finds the label by them without
    knowing it. This is STaR's rationalization (Zelikman et al. 2022) with a filter behind it.
    """

    samples: int = 1
    """The most rationales of a pair, from 1 to 100. The first that passes is learned."""
    checks: int = 3
    """How often the judge reads the reasons without the label and gives a verdict, from 1 to 100."""
    agree: float = 0.5
    """Share of these verdicts that must be the label, above 0 and up to 1."""

    def __post_init__(self) -> None:
        for name, what in (("samples", "rationales a pair"), ("checks", "verdicts a rationale")):
            value = getattr(self, name)
            check(1 <= value <= _MOST, f"judge.rescue.{name}={value} {what}: must be 1 to {_MOST}")
        finite = math.isfinite(self.agree)
        check(finite and 0 < self.agree <= 1, f"judge.rescue.agree={self.agree}: must be a share above 0, up to 1")

    def check(self, *, task: str, keep: str) -> None:
        """Raises ConfigError if the other settings of `judge` leave nothing to rescue."""
        check(
            task == "pairwise", f"judge.rescue: judge.task={task} learns grades too: set judge.task=pairwise, or leave it out"
        )
        check(
            keep == "correct",
            f"judge.rescue: judge.keep={keep} learns wrong judgments as well: set judge.keep=correct, or leave it out",
        )
