"""How the judge and the panel judge the same training pairs: each against the labels, each two against each other, and all.

The verdict of one with several samples is that of most of them; with as many right as wrong ones it has none. Samples of the
judge that stopped at a right one are no fair draw, so only its first verdict counts then (loop/opinions.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stj.config import JudgeConfig
from stj.evals.agreement import kappa
from stj.evals.intervals import Interval
from stj.loop.opinions import PassOpinions, pairs_in, panel_voices
from stj.loop.pair_draws import PairDraws, RightOf
from stj.rows import Row
from stj.storage.artifacts import Artifact


@dataclass(frozen=True, kw_only=True)
class MemberFigures:
    """One of those who judge the pairs, against the labels."""

    name: str
    """Empty for the judge itself."""
    pairs: int
    """Pairs with its verdict."""
    accuracy: float | None
    """Share of these verdicts that are the label; None without any."""


@dataclass(frozen=True, kw_only=True)
class TwoFigures:
    """How far two of them agree."""

    first: str
    second: str
    pairs: int
    """Pairs with verdicts of both."""
    agree: float | None
    """Share of them with the same verdict."""
    kappa: float | None
    """Cohen's, of the verdicts A and B; None if it has no meaning."""
    kappa_ci95: Interval | None
    why: str | None
    """Why kappa, or else its interval, is None."""


@dataclass(frozen=True, kw_only=True)
class PanelFigures:
    """What the judge of an iteration and its panel say about the training pairs."""

    members: tuple[MemberFigures, ...]
    twos: tuple[TwoFigures, ...]
    all_right: int
    """Pairs on which all have the label as their verdict; a member without any verdict does not count."""
    split: int
    """Pairs on which all have a verdict, and not the same."""
    all_wrong: int
    """Pairs on which all have the verdict against the label."""

    @property
    def silent(self) -> list[str]:
        """The names of those without any verdict."""
        return [member.name for member in self.members if not member.pairs]


def panel_figures(judged: Artifact, opinions: Sequence[PassOpinions], judge: JudgeConfig) -> PanelFigures | None:
    """The figures of one iteration; None without a panel."""
    if not judge.panel:
        return None
    shown = PairDraws(pairs_in(judged), _better_as_a)
    shown_as_a = shown.shares(shown.digests) > 0.5
    right = {name: _right(draws.shares(shown.digests)) for name, draws in panel_voices(judged, opinions, judge)}
    return figures_of(right, shown_as_a)


def figures_of(right: Mapping[str, NDArray[np.float64]], shown_as_a: NDArray[np.bool_]) -> PanelFigures:
    """The figures from who is right about each pair: 1 if right, 0 if wrong, NaN without a verdict; in one order of pairs."""
    speaking = [verdicts for verdicts in right.values() if np.isfinite(verdicts).any()]
    everyone = np.stack(speaking, axis=1) if speaking else np.empty((0, 1))
    known = everyone[np.isfinite(everyone).all(axis=1)]
    all_right, all_wrong = int((known == 1).all(axis=1).sum()), int((known == 0).all(axis=1).sum())
    return PanelFigures(
        members=tuple(_member(name, verdicts) for name, verdicts in right.items()),
        twos=tuple(_two(first, second, right, shown_as_a) for first, second in combinations(right, 2)),
        all_right=all_right,
        split=len(known) - all_right - all_wrong,
        all_wrong=all_wrong,
    )


def _better_as_a(row: Row) -> RightOf | None:
    """1 of 1 if a pair's better answer is shown as A, else 0 of 1; all judges see it so."""
    judgments = [*row.judgments, *(opinion.judgment for opinion in row.opinions)]
    return RightOf(int(judgments[0].winner == "A"), 1) if judgments else None


def _right(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whether most samples of a pair are right; NaN if there are none, or as many right as wrong ones."""
    return np.where(shares == 0.5, np.nan, np.where(np.isnan(shares), np.nan, (shares > 0.5).astype(float)))


def _member(name: str, right: NDArray[np.float64]) -> MemberFigures:
    judged = right[np.isfinite(right)]
    return MemberFigures(name=name, pairs=len(judged), accuracy=float(judged.mean()) if len(judged) else None)


def _two(first: str, second: str, right: Mapping[str, NDArray[np.float64]], shown_as_a: NDArray[np.bool_]) -> TwoFigures:
    both = np.isfinite(right[first]) & np.isfinite(right[second])
    says_a = [(right[name][both] == 1) == shown_as_a[both] for name in (first, second)]
    table = np.zeros((2, 2), dtype=np.int64)
    np.add.at(table, (says_a[0].astype(int), says_a[1].astype(int)), 1)
    pairs, beyond_chance = int(both.sum()), kappa(table)
    return TwoFigures(
        first=first,
        second=second,
        pairs=pairs,
        agree=float(np.trace(table) / pairs) if pairs else None,
        kappa=beyond_chance.value,
        kappa_ci95=beyond_chance.ci95,
        why=beyond_chance.why,
    )


def panel_words(figures: PanelFigures) -> str:
    """On how many pairs all agree, for a reader."""
    judged = figures.all_right + figures.split + figures.all_wrong
    names = ", ".join(name or "the judge" for name in figures.silent)
    silent = f"; WARNING: no verdict of {names} counts: none is readable, or as many are right as wrong" if names else ""
    return (
        f"the judge and the panel all have a verdict on {judged:,} pairs: all find the label of {figures.all_right:,}, "
        f"{figures.split:,} are split, all contradict the label of {figures.all_wrong:,}{silent}"
    )
