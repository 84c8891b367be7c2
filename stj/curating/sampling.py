"""Which instructions stay if only so many may: a quota for each cluster, or the ones that are far from each other.

`quota`: as many from each cluster, by lot; a cluster that has fewer gives all, and the others share what is left. Vectors
without a cluster count as one more.

`farthest_first`: the first by lot, then each time the vector that is least similar to all taken so far (Gonzalez, 1985). The
result is that of the plain greedy algorithm, but far fewer vectors are compared. A vector's distance to the taken ones only
shrinks. So the farthest of a few thousand candidates is the farthest of all, while it is at least as far as all others were.
"""

import numpy as np
import numpy.typing as npt

from stj.curating.vectors import Indices, Labels, VectorSet

Similarities = npt.NDArray[np.float32]

_CANDIDATES = 4096  # Each round reads all vectors, and decides about some of these.


def quota(labels: Labels, size: int, seed: int) -> Indices:
    """`size` of the indices of these labels, in order, with as many of each cluster as it has and the others need."""
    if size >= len(labels):
        return np.arange(len(labels))
    lots = np.random.default_rng(seed).permutation(len(labels))
    order = np.lexsort((lots, labels))
    sorted_labels = labels[order]
    starts = np.flatnonzero(np.r_[True, sorted_labels[1:] != sorted_labels[:-1]])
    sizes = np.diff(np.r_[starts, len(order)])
    shares = _shares(sizes, size)
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    return np.sort(order[place < np.repeat(shares, sizes)])


def _shares(sizes: Indices, size: int) -> Indices:
    """How many each cluster gives: at most what it has, and no other gives two more than one that has more to give."""
    shares, left = np.zeros_like(sizes), min(size, int(sizes.sum()))
    while left:
        open_ones = np.flatnonzero(shares < sizes)
        if left < len(open_ones):  # the last of them, one each: from the largest clusters
            largest = open_ones[np.argsort(-sizes[open_ones], kind="stable")[:left]]
            shares[largest] += 1
            return shares
        more = min(left // len(open_ones), int((sizes - shares)[open_ones].min()))
        shares[open_ones] += more
        left -= more * len(open_ones)
    return shares


def farthest_first(vectors: VectorSet, size: int, seed: int) -> Indices:
    """`size` of the vectors, in order, each of which was the least similar to all that were taken before it."""
    if size >= len(vectors):
        return np.arange(len(vectors))
    first = int(np.random.default_rng(seed).integers(len(vectors)))
    taken, new = [first], [first]
    similarity = np.full(len(vectors), -2.0, np.float32)  # to the most similar taken one; lower is farther
    while True:
        _update(vectors, new, similarity)
        similarity[taken] = np.inf
        if len(taken) == size:
            return np.sort(np.array(taken))
        new = _next_taken(vectors, similarity, size - len(taken))
        taken += new


def _update(vectors: VectorSet, new: list[int], similarity: Similarities) -> None:
    """Takes the newly taken ones into account."""
    there = vectors.take(np.array(new)).T
    for start, chunk in vectors.chunks():
        part = similarity[start : start + len(chunk)]
        np.maximum(part, (chunk @ there).max(1), out=part)


def _next_taken(vectors: VectorSet, similarity: Similarities, most: int) -> list[int]:
    """The next ones of the greedy algorithm, as far as the farthest candidates alone decide them: one or more."""
    among = min(_CANDIDATES, len(similarity))
    farthest = np.sort(np.argpartition(similarity, among - 1)[:among])
    others = np.delete(similarity, farthest).min() if among < len(similarity) else np.inf
    here, near, taken = vectors.take(farthest), similarity[farthest].copy(), list[int]()
    while len(taken) < most:
        best = int(near.argmin())
        if near[best] == np.inf or (taken and near[best] >= others):
            break
        taken.append(int(farthest[best]))
        near = np.maximum(near, here @ here[best])
        near[best] = np.inf
    return taken
