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

    right: float
    samples: int

    @classmethod
    def of(cls, row: Row) -> "RightOf | None":
        """Counts a row's judgments; one without a verdict is not right. None without any."""
        return cls.counted(row.judgments)

    @classmethod
    def counted(cls, judgments: Sequence[Judgment]) -> "RightOf | None":
        """Counts these judgments; None without any."""
        return cls(sum(judgment.correct for judgment in judgments), len(judgments)) if judgments else None

    @property
    def share(self) -> float:
        """The share of right samples."""
        return self.right / self.samples


class PairDraws:
    """The samples of the rows that have any; 12 bytes of memory for each."""

    def __init__(self, rows: Iterable[Row], count: Callable[[Row], RightOf | None] = RightOf.of) -> None:
        [collected] = _collected(rows, [count])
        self._settle(*collected)

    @classmethod
    def joined(cls, draws: "Sequence[PairDraws]") -> "PairDraws":
        """The samples of several passes as those of one."""
        if len(draws) == 1:
            return draws[0]
        joined = cls(())
        joined.digests, places = np.unique(np.concatenate([each.digests for each in draws]), return_inverse=True)
        joined._counts = np.zeros((len(joined.digests), 2), dtype=np.uint16)
        np.add.at(joined._counts, places, np.concatenate([each._counts for each in draws]))
        return joined

    def _settle(self, digests: "array[int]", counts: "array[int]") -> None:
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


def draws_by(rows: Iterable[Row], counts: Sequence[Callable[[Row], RightOf | None]]) -> list[PairDraws]:
    """The samples of the same rows as each of these counts them, in one reading."""
    made = [PairDraws(()) for _ in counts]
    for draws, collected in zip(made, _collected(rows, counts), strict=True):
        draws._settle(*collected)
    return made


def _collected(rows: Iterable[Row], counts: Sequence[Callable[[Row], RightOf | None]]) -> "list[tuple[array[int], array[int]]]":
    """For each count, the digests of the rows that have samples, and the numbers of right ones and of all."""
    collected = [(array("Q"), array("H")) for _ in counts]
    for row in rows:
        digest = digest_of_id(row.id)
        for (digests, numbers), count in zip(collected, counts, strict=True):
            if (drawn := count(row)) is not None:
                digests.append(digest)
                numbers.extend((int(drawn.right), drawn.samples))
    return collected


def digest_of_id(row_id: str) -> int:
    """64 bits of an id: among a million pairs, two are alike with a probability of 3 in 100 million."""
    return int.from_bytes(hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
