"""How often the judge is right about a pair, and which pairs are near the boundary (`select.disagreement`)."""

import hashlib
from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from stj.disagreement import DisagreementConfig
from stj.randomness import uniform
from stj.rows import Row

TOO_HARD, TOO_EASY, OFF_BOUNDARY = "too_hard", "too_easy", "off_boundary"
"""Why a pair that could be learned is left out: by `low`, by `high`, or by lot."""


class RightOf(NamedTuple):
    """How many samples of a pair have the right verdict, and how many there are. One without a verdict is not right."""

    right: int
    samples: int

    @classmethod
    def of(cls, row: Row) -> "RightOf | None":
        """Counts a row's judgments; None without any."""
        judgments = row.judgments
        return cls(sum(judgment.correct for judgment in judgments), len(judgments)) if judgments else None

    @property
    def share(self) -> float:
        """The share of right samples."""
        return self.right / self.samples


class EarlierDraws:
    """The samples of the iteration before, by the row's id; 12 bytes of memory for each pair."""

    def __init__(self, rows: Iterable[Row]) -> None:
        digests, counts = array("Q"), array("H")
        for row in rows:
            if (drawn := RightOf.of(row)) is not None:
                digests.append(_digest(row.id))
                counts.extend(drawn)
        unordered = np.array(digests, dtype=np.uint64)
        order = np.argsort(unordered)
        self._digests = unordered[order]
        self._counts = np.array(counts, dtype=np.uint16).reshape(-1, 2)[order]

    def of(self, row_id: str) -> RightOf | None:
        """The samples of a pair; None if it was not judged."""
        digest = np.uint64(_digest(row_id))
        place = int(np.searchsorted(self._digests, digest))
        if place == len(self._digests) or self._digests[place] != digest:
            return None
        return RightOf(*map(int, self._counts[place]))


class Boundary:
    """Which pairs are near the boundary; `earlier` has their samples if they are not this iteration's."""

    def __init__(self, config: DisagreementConfig, seed: int, earlier: EarlierDraws | None) -> None:
        self._config = config
        self._seed = seed
        self._earlier = earlier

    def rejects(self, row: Row) -> str | None:
        """Why a pair is left out; None if it stays. One without samples stays."""
        config, drawn = self._config, self._drawn(row)
        if drawn is None:
            return None
        if drawn.share < config.low:
            return TOO_HARD
        if drawn.share > config.high:
            return TOO_EASY
        return OFF_BOUNDARY if config.weighted and self._lost(row, drawn) else None

    def difficulty(self, row: Row) -> float | None:
        """Where a pair comes in a curriculum, from 0 (easy) to 1; None if the order is random, or without samples."""
        drawn = self._drawn(row) if self._config.order == "easy_first" else None
        return None if drawn is None else 1 - drawn.share

    def _drawn(self, row: Row) -> RightOf | None:
        """The samples by which a pair is chosen."""
        if self._config.draws == "all":
            return RightOf.of(row)
        return self._earlier.of(row.id) if self._earlier else None

    def _lost(self, row: Row, drawn: RightOf) -> bool:
        """Whether the lot leaves a pair out."""
        p = (drawn.right + 0.5) / (drawn.samples + 1)
        return uniform(self._seed, row.id, "boundary") >= 4 * p * (1 - p)


def _digest(row_id: str) -> int:
    """64 bits of the id: among a million pairs, two are alike with a probability of 3 in 100 million."""
    return int.from_bytes(hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
