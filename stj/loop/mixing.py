"""Mixing sources of training pairs by their weights (Table 6): as many examples of each as its weight says.

    down   examples of a source that has too many are left out. The source with the fewest for its weight keeps all
    up     examples of a source that has too few are repeated. The source with the most for its weight has no repeats

A repeat is another example of the same pair, under an id of its own. It has the pair's label and its place in a curriculum. If
`examples` asks for several kinds, each repeat draws its own kind.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stj.loop.label_balance import LabelBalance
from stj.pair_mixing import Mixing
from stj.pair_sources import PairSource, synthetic_source
from stj.rows import LabelledBy, Row
from stj.verdict import Label

_ALONE = ""
"""The only source of a run that names none."""
_ROUNDING = 1e-6  # A product of weights that should be a whole number is this near to it.
MOST_TIMES = 100
"""A run that would learn an example more often ends with an error: its weights are a mistake, or its source nearly empty."""


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
    """Its examples, after the balance of labels and the mixing; repeats count."""
    repeated: int = 0
    """Those of its examples that are repeats."""
    most_times: int = 1
    """How often one of its examples is learned at most."""
    own_weight: float | None = None
    """Its weight in `preferences`, if `examples.human_share` changed it."""


class MixedBalance:
    """As many examples with label A as with label B of each source, and of the sources in the proportion of their weights.

    Which examples are left out or repeated depends only on the seed and each example's id.
    """

    def __init__(self, seed: int, sources: Sequence[PairSource], mixing: Mixing = "down", *, for_humans: bool = False) -> None:
        """With `for_humans`, numbers are rounded up for sources that humans labelled, and down for others."""
        self._sources = sources
        self._mixing = mixing
        self._weights = {source.title: source.weight for source in sources} or {_ALONE: 1.0}
        self._balances = {title: LabelBalance(seed) for title in self._weights}
        human = {source.title for source in sources if source.labelled_by == "human"} if for_humans else set[str]()
        self._rounded = {title: round if not for_humans else _up if title in human else _down for title in self._weights}

    @property
    def size(self) -> int:
        """Examples of each label that are learned, once settled; repeats count."""
        return sum(balance.size for balance in self._balances.values())

    def size_of(self, title: str) -> int:
        """Examples of each label that are learned of one source; repeats count."""
        return self._balances[title].size

    def distinct_of(self, title: str) -> int:
        """Those of them that are no repeats."""
        return self._balances[title].distinct

    def most_times_of(self, title: str) -> int:
        """How often an example of one source is learned at most."""
        return self._balances[title].most_times

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

    def times(self, row: Row, winner: Label) -> int:
        """How often an example that was added is learned."""
        return self._of(row).times(row.id, winner)

    def mix(self) -> None:
        """Leaves out or repeats examples, once settled, until the sources have the proportion of their weights."""
        units = [balance.size / self._weights[title] for title, balance in self._balances.items()]
        unit = max(units) if self._mixing == "up" else min(units)
        for title, balance in self._balances.items():
            balance.resize(self._rounded[title](unit * self._weights[title]))

    def limit(self, most: int) -> None:
        """Keeps at most this many examples of each label, of the sources in proportion."""
        size = self.size
        if most >= size:
            return
        left = most
        shares = {title: balance.size * most / size for title, balance in self._balances.items()}
        for title in sorted(shares, key=lambda title: self._rounded[title] is not _up):  # What is rounded up is taken first.
            balance = self._balances[title]
            balance.limit(min(left, _up(shares[title]) if self._rounded[title] is _up else _down(shares[title])))
            left -= balance.size

    def _of(self, row: Row) -> LabelBalance:
        return self._balances[source_of(row, self._sources)]


def source_of(row: Row, sources: Sequence[PairSource]) -> str:
    """Name of the source of a training pair; empty if the run names none."""
    if row.origin is not None:
        return row.origin.source
    source = synthetic_source(sources, row.category.name if row.category else None)
    return source.title if source else _ALONE


def source_counts(mixed: Sequence[PairSource], named: Sequence[PairSource]) -> Mapping[str, SourceCounts]:
    """Counts of nothing yet, for each source that the run names; `mixed` are the sources with the weights of the mixing."""
    own = {source.title: source.weight for source in named}
    return {
        source.title: SourceCounts(
            labelled_by=source.labelled_by,
            weight=source.weight,
            own_weight=None if own[source.title] == source.weight else own[source.title],
        )
        for source in mixed
    }


def mixing_words(counts: Mapping[str, SourceCounts]) -> Iterator[str]:
    """What was repeated, and which weights `examples.human_share` has changed; nothing if neither was."""
    for title, of in counts.items():
        if of.repeated:
            yield (
                f"{title}: {of.repeated:,} of its {of.learned:,} examples are repeats; each is learned at most "
                f"{of.most_times:,} times"
            )
        if of.own_weight is not None:
            yield f"{title}: examples.human_share raised its weight from {of.own_weight:g} to {of.weight:.3g}"


def _up(count: float) -> int:
    return math.ceil(count - _ROUNDING)


def _down(count: float) -> int:
    return math.floor(count + _ROUNDING)
