"""Near-duplicates by meaning: vectors that are nearly those of an earlier text.

Comparing each vector with all earlier ones takes time that grows with the square of their number. So vectors are first put into
cells, by k-means with about 2,000 vectors each, and compared within their cell alone. Up to 20,000 vectors are one cell, where
every near-duplicate is found. Beyond that, two near-duplicates on both sides of a border are missed (benchmarks/LOG.md).
"""

import numpy as np

from stj.curating.clusters import kmeans
from stj.curating.vectors import Indices, VectorSet

_ONE_CELL = 20_000
_CELL = 2_000
_BLOCK = 1_024
ROUNDING = 5e-4  # What 16-bit floats change a similarity by: equal texts must reach a threshold of 1.
NONE = -1


def near_duplicates(vectors: VectorSet, threshold: float, seed: int) -> Indices:
    """For each vector the first earlier one with at least this cosine similarity; NONE if there is none.

    Only vectors without an earlier one count as earlier ones. So each that stays differs from all that stay before it.
    """
    found, threshold = np.full(len(vectors), NONE, np.int64), threshold - ROUNDING
    for members in _cells(vectors, seed):
        kept = np.empty(0, np.int64)
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            kept = np.concatenate([kept, _compare(vectors, block, kept, threshold, found)])
    return found


def _cells(vectors: VectorSet, seed: int) -> list[Indices]:
    """The indices of each cell, in order."""
    if len(vectors) <= _ONE_CELL:
        return [np.arange(len(vectors))]
    cells = kmeans(vectors, len(vectors) // _CELL, seed)
    order = np.argsort(cells, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(cells[order])) + 1)


def _compare(vectors: VectorSet, block: Indices, kept: Indices, threshold: float, found: Indices) -> Indices:
    """Notes in `found` which of a block repeat a kept vector or an earlier one of the block; returns those that do not."""
    here = vectors.take(block)
    for start in range(0, len(kept), _BLOCK):
        rest = np.flatnonzero(found[block] == NONE)
        if not len(rest):
            return block[:0]
        earlier = kept[start : start + _BLOCK]
        near = here[rest] @ vectors.take(earlier).T >= threshold
        hit = near.any(1)
        found[block[rest[hit]]] = earlier[near[hit].argmax(1)]
    rest = np.flatnonzero(found[block] == NONE)
    near = np.tril(here[rest] @ here[rest].T >= threshold, -1)
    for row in np.flatnonzero(near.any(1)):  # in order: an earlier one that is itself a repetition hides no other
        earlier = rest[near[row]]
        staying = earlier[found[block[earlier]] == NONE]
        if len(staying):
            found[block[rest[row]]] = block[staying[0]]
    return np.asarray(block[found[block] == NONE])
