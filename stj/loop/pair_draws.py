"""How many samples of each training pair had the right verdict in a pass, by the row's id."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stj.rows import Judgment, Row


class RightOf(NamedTuple):
    """How many samples of a pair have the right verdict, and how many there are."""

    right: int
    samples: int

    @classmethod
    def of(cls, row: Row) -> "RightOf | None":
        """Counts a row's judgments; one without a verdict is not right. None without any."""
        return cls._counted(row.judgments)

    @classmethod
    def opinion(cls, row: Row, *, first_alone: bool) -> "RightOf | None":
        """Counts a row's verdicts, or its first one alone; None without any.

        A judgment without a verdict does not speak against the label. If sampling stopped at a right verdict, all verdicts are
        no fair draw of the judge's opinions, and only the first of them is.
        """
        verdicts = [judgment for judgment in row.judgments if judgment.verdict is not None]
        return cls._counted(verdicts[:1] if first_alone else verdicts)

    @classmethod
    def _counted(cls, judgments: Sequence[Judgment]) -> "RightOf | None":
        return cls(sum(judgment.correct for judgment in judgments), len(judgments)) if judgments else None

    @property
    def share(self) -> float:
        """The share of right samples."""
        return self.right / self.samples


class PairDraws:
    """The samples of the rows that have any; 12 bytes of memory for each."""

    def __init__(self, rows: Iterable[Row], count: Callable[[Row], RightOf | None] = RightOf.of) -> None:
        digests, counts = array("Q"), array("H")
        for row in rows:
            if (drawn := count(row)) is not None:
                digests.append(digest_of_id(row.id))
                counts.extend(drawn)
        unordered = np.array(digests, dtype=np.uint64)
        order = np.argsort(unordered)
        self.digests: NDArray[np.uint64] = unordered[order]
        """In ascending order."""
        self._counts = np.array(counts, dtype=np.uint16).reshape(-1, 2)[order]

    def of(self, row_id: str) -> RightOf | None:
        """The samples of a pair; None if it was not judged."""
        digest = np.uint64(digest_of_id(row_id))
        place = int(np.searchsorted(self.digests, digest))
        if place == len(self.digests) or self.digests[place] != digest:
            return None
        return RightOf(*map(int, self._counts[place]))

    def shares(self, digests: NDArray[np.uint64]) -> NDArray[np.float64]:
        """The share of right samples of each of these pairs; NaN for one that was not judged."""
        found = np.full(len(digests), np.nan)
        if len(self.digests):
            places = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
            same = self.digests[places] == digests
            right, samples = self._counts[places[same]].T
            found[same] = right / samples
        return found


def digest_of_id(row_id: str) -> int:
    """64 bits of an id: among a million pairs, two are alike with a probability of 3 in 100 million."""
    return int.from_bytes(hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
