"""Mixing sources of training pairs by their weights (Table 6): as many examples of each as its weight says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stj.loop.label_balance import LabelBalance
from stj.pair_sources import PairSource, synthetic_source
from stj.rows import LabelledBy, Row
from stj.verdict import Label

_ALONE = ""
"""The only source of a run that names none."""


@dataclass(kw_only=True)
class SourceCounts:
    """What became of the pairs of one source."""

    labelled_by: LabelledBy
    weight: float
    judged: int = 0
    """Its pairs that the judge saw."""
    kept: int = 0
    """Those of them that can be learned."""
    learned: int = 0
    """Its examples, after the balance of labels and the mixing."""


class MixedBalance:
    """As many examples with label A as with label B of each source, and of the sources in the proportion of their weights.

    Nothing is drawn twice: of a source that has too many, some are left out. The choice depends only on the seed and each
    example's id.
    """

    def __init__(self, seed: int, sources: Sequence[PairSource]) -> None:
        self._sources = sources
        self._weights = {source.title: source.weight for source in sources} or {_ALONE: 1.0}
        self._balances = {title: LabelBalance(seed) for title in self._weights}

    @property
    def size(self) -> int:
        """Examples of each label that are kept, once settled."""
        return sum(balance.size for balance in self._balances.values())

    def size_of(self, title: str) -> int:
        """Examples of each label that are kept of one source."""
        return self._balances[title].size

    def count(self, winner: Label) -> int:
        """Examples with this label."""
        return sum(balance.count(winner) for balance in self._balances.values())

    def add(self, row: Row, winner: Label) -> None:
        """Draws for an example."""
        self._of(row).add(row.id, winner)

    def has(self, row: Row, winner: Label) -> bool:
        """Whether an example that was added is kept."""
        return self._of(row).has(row.id, winner)

    def settle(self, within: "MixedBalance | None" = None) -> None:
        """Keeps as many examples of each source as its rarer label has; with `within`, only those that this balance keeps."""
        for title, balance in self._balances.items():
            balance.settle(within._balances[title] if within else None)

    def mix(self) -> None:
        """Leaves out examples, once settled, until the sources have the proportion of their weights."""
        unit = min(balance.size / self._weights[title] for title, balance in self._balances.items())
        for title, balance in self._balances.items():
            balance.limit(round(unit * self._weights[title]))

    def limit(self, most: int) -> None:
        """Keeps at most this many examples of each label, of the sources in proportion."""
        size = self.size
        if most < size:
            for balance in self._balances.values():
                balance.limit(balance.size * most // size)

    def _of(self, row: Row) -> LabelBalance:
        return self._balances[source_of(row, self._sources)]


def source_of(row: Row, sources: Sequence[PairSource]) -> str:
    """Name of the source of a training pair; empty if the run names none."""
    if row.origin is not None:
        return row.origin.source
    source = synthetic_source(sources, row.category.name if row.category else None)
    return source.title if source else _ALONE


def source_counts(sources: Sequence[PairSource]) -> Mapping[str, SourceCounts]:
    """Counts of nothing yet, for each source that the run names."""
    return {source.title: SourceCounts(labelled_by=source.labelled_by, weight=source.weight) for source in sources}
