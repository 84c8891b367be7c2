"""Matching pairs so that no named clue gives the better answer away (`curate.balance`).

For each clue a pair has a sign: the clue alone chooses its better answer (1), its worse one (-1), or neither (0). Pairs of one
source, one label and the same signs are a cell. An integer programme finds how many pairs of each cell stay, as many as it can:

    labels     as many pairs with label A as with label B, of each source
    sources    in the proportion of their weights
    clues      among the pairs of each label in which a clue differs, it is right in 50 ± 2%

The last rule leaves no clue that is rare and always right: pairs in which it does not differ say nothing of the others.
Which pairs of a cell stay depends only on the seed and their ids.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from stj.curation import Clue
from stj.errors import PassFailed
from stj.evals.clue_features import RULES, feature_sign
from stj.loop.mixing import source_of
from stj.pair_sources import PairSource
from stj.randomness import uniform
from stj.rows import Row
from stj.stages.judge import LABELS
from stj.verdict import Label

TOLERANCE = 0.02
"""How far the share of pairs about which a clue is right may be from 50%, of those in which it differs."""
_WITHIN = 0.999  # Of the tolerance: the solver's answers are whole only up to 1e-6.
_GAP = 1e-3  # Share of the pairs that the solver may leave out without need: the last ones can take it minutes.
_NODES = 100  # Branches of the search: the first few find the choice, and thousands of others only prove it within the gap.
_NEAREST, _UP, _DOWN = (-0.5, 0.5), (0.0, 1.0), (-1.0, 0.0)
"""How far rounding to a whole number may lead, from where to where."""
_Signs = tuple[int, ...]
_Cell = tuple[str, Label, _Signs]
"""The source, the label under which the better answer is shown, and the sign of each clue."""


@dataclass(frozen=True, kw_only=True)
class ClueBalanceCounts:
    """What `curate.balance` did."""

    pairs: int
    """Pairs that can be learned."""
    kept: int
    before: dict[str, float]
    """Share of the pairs about which a clue alone is right, by the clue; pairs in which it does not differ count one half."""
    after: dict[str, float]
    """The same among those that were kept."""


class ClueBalance:
    """Which pairs stay; every pair that is added takes 8 bytes of memory."""

    def __init__(self, clues: Sequence[Clue], seed: int, sources: Sequence[PairSource], *, for_humans: bool = False) -> None:
        """With `for_humans`, numbers are rounded up for sources that humans labelled, and down for others."""
        self._rounding = {
            source.title: _NEAREST if not for_humans else _UP if source.labelled_by == "human" else _DOWN for source in sources
        } or {"": _NEAREST}
        self._clues = clues
        self._seed = seed
        self._sources = sources
        self._draws: dict[_Cell, array[float]] = {}
        self._highest: dict[_Cell, float] = {}

    def add(self, row: Row, winner: Label) -> None:
        """Draws for a pair."""
        self._draws.setdefault(self._cell(row, winner), array("d")).append(self._draw(row))

    def settle(self, name: str) -> ClueBalanceCounts:
        """Chooses the pairs. Raises PassFailed, in the name of a phase, if no choice has each clue near 50%.

        If a source lacks pairs of a label, no choice has both labels: all stay, and the labels' balance says what is missing.
        """
        cells = sorted(self._draws)
        sizes = {cell: len(self._draws[cell]) for cell in cells}
        largest = max((source.weight for source in self._sources), default=1.0)  # The solver knows no numbers such as 1e9.
        weights = {source.title: source.weight / largest for source in self._sources} or {"": 1.0}
        groups = {cell[:2] for cell in cells}
        if groups >= set(product(weights, LABELS)):
            chosen = dict(zip(cells, _most(cells, list(sizes.values()), weights, self._rounding), strict=True))
            if not any(chosen.values()):
                raise PassFailed(self._unreachable(name, sizes))
        else:
            chosen = sizes
        for cell, count in chosen.items():
            draws = np.array(self._draws[cell])
            self._highest[cell] = float(np.partition(draws, count - 1)[count - 1]) if count else -1.0
        return ClueBalanceCounts(
            pairs=sum(sizes.values()), kept=sum(chosen.values()), before=self._right(sizes), after=self._right(chosen)
        )

    def has(self, row: Row, winner: Label) -> bool:
        """Whether a pair that was added stays."""
        return self._draw(row) <= self._highest[self._cell(row, winner)]

    def _cell(self, row: Row, winner: Label) -> _Cell:
        assert row.pair is not None, f"row {row.id} has no pair"
        pair = row.pair
        signs = tuple(feature_sign(clue, row.instruction, pair.chosen, pair.rejected) for clue in self._clues)
        return source_of(row, self._sources), winner, signs

    def _draw(self, row: Row) -> float:
        return uniform(self._seed, row.id, "clue balance")

    def _right(self, sizes: Mapping[_Cell, int]) -> dict[str, float]:
        whole = sum(sizes.values())
        totals = {
            clue: sum(count * signs[place] for (_, _, signs), count in sizes.items()) for place, clue in enumerate(self._clues)
        }
        return {clue: 0.5 + total / (2 * whole) for clue, total in totals.items()} if whole else {}

    def _unreachable(self, name: str, sizes: Mapping[_Cell, int]) -> str:
        right = ", ".join(f"{RULES[clue]} is the better one in {share:.1%}" for clue, share in self._right(sizes).items())
        return (
            f"{name}: curate.balance=[{', '.join(self._clues)}]: no choice among the {sum(sizes.values()):,} pairs that can be "
            f"learned has each clue right in 50 ± {TOLERANCE:.0%}: {right}. Judge more pairs, add sources whose better answers "
            "are otherwise (`preferences`), or leave out a clue"
        )


def _most(
    cells: Sequence[_Cell], sizes: Sequence[int], weights: Mapping[str, float], rounding: Mapping[str, tuple[float, float]]
) -> list[int]:
    """How many pairs of each cell stay: the most under the rules above; none at all if no choice obeys them.

    The unknowns are the pairs of each cell, the examples of one label of each source, and the unit of the weights.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    titles = sorted(weights)
    sources = len(titles)
    no_cell, no_source = [0.0] * len(cells), [0.0] * sources
    rows: list[list[float]] = []
    ends: list[tuple[float, float]] = []
    for title in titles:
        this = [float(other == title) for other in titles]
        for label in LABELS:  # the source's pairs of a label - its examples of one label = 0
            rows.append([*(float(cell[:2] == (title, label)) for cell in cells), *(-one for one in this), 0])
            ends.append((0, 0))
        rows.append([*no_cell, *this, -weights[title]])  # its examples - its weight * the unit, up to rounding
        ends.append(rounding[title])
    reach = 2 * TOLERANCE * _WITHIN
    for label, clue, sign in product(LABELS, range(len(cells[0][2])), (1, -1)):  # |sum of signs| <= reach * sum of |signs|
        ofs = (sign * signs[clue] - reach * abs(signs[clue]) if own == label else 0.0 for _, own, signs in cells)
        rows.append([*ofs, *no_source, 0])
        ends.append((-np.inf, 0))
    low, high = zip(*ends, strict=True)
    for nodes in (_NODES, None):  # Without a limit if the first branches hold no choice at all.
        solved = milp(
            c=[*(-1 for _ in cells), *no_source, 0],
            integrality=[*(1 for _ in cells), *(1 for _ in titles), 0],
            bounds=Bounds(0, [*sizes, *(np.inf for _ in titles), np.inf]),
            constraints=LinearConstraint(rows, low, high),
            options={"mip_rel_gap": _GAP, "node_limit": nodes},
        )
        if solved.x is not None:
            return [round(count) for count in solved.x[: len(cells)]]
    return [0] * len(cells)


def balance_words(counts: ClueBalanceCounts) -> str:
    """What was left out, and what it did to each clue."""
    shares = (f"{clue} {share:.1%} -> {counts.after[clue]:.1%}" for clue, share in counts.before.items())
    return f"curate.balance left out {counts.pairs - counts.kept:,} of {counts.pairs:,} pairs: {', '.join(shares)}"
