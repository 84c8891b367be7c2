"""Clusters of vectors: k-means over all of them in batches, or HDBSCAN on a sample.

k-means is MiniBatchKMeans of scikit-learn. It begins from k-means++ on a sample, and reads all vectors two to ten times,
each time in another order. So a source that is sorted by topic gives clusters as good as a shuffled one.

HDBSCAN needs all of its vectors at once. It is fitted on 10,000 vectors that are drawn by lot, in the 16 directions in which
the vectors vary most: density means little in 256. Each other vector takes the cluster of the nearest drawn one, which may be
none.

Clusters are numbered by their size, the largest first. On one kind of machine the same vectors and seed give the same clusters.
"""

from collections.abc import Callable

import numpy as np
from sklearn.cluster import HDBSCAN, MiniBatchKMeans, kmeans_plusplus

from stj.curating.embedding import Vectors
from stj.curating.projection import principal_axes
from stj.curating.vectors import CHUNK, NO_CLUSTER, Labels, VectorSet, by_lot
from stj.curation import CurateConfig
from stj.errors import ConfigError

_FITTED = 10_000
"""Vectors that HDBSCAN is fitted on. Its time grows with the square of their number."""
_DIRECTIONS = 16
_FIRST_CENTRES = 20_000  # Vectors among which k-means++ finds the first centres; at least 10 for each cluster.
_BATCHES = 60  # More of them change centres little.
_EPOCHS = range(2, 11)  # Readings of all vectors: the fewest and the most.


def cluster(vectors: VectorSet, config: CurateConfig, seed: int) -> Labels:
    """The cluster of each vector under these settings; NO_CLUSTER for all if none are wanted."""
    if config.clustering is None or not len(vectors):
        return np.full(len(vectors), NO_CLUSTER, np.int32)
    found = kmeans(vectors, config.clusters, seed) if config.clustering == "kmeans" else hdbscan(vectors, config, seed)
    return _largest_first(found)


def kmeans(vectors: VectorSet, clusters: int, seed: int) -> Labels:
    """The nearest of the centres for each vector. Fewer clusters have vectors if fewer vectors differ."""
    sample = vectors.take(by_lot(len(vectors), max(_FIRST_CENTRES, 10 * clusters), seed))
    first, _ = kmeans_plusplus(sample, clusters, random_state=seed)
    model = MiniBatchKMeans(clusters, init=first, n_init=1, random_state=seed)
    draw = np.random.default_rng(seed)
    epochs = -(-_BATCHES * CHUNK // len(vectors))
    for _ in range(min(max(epochs, _EPOCHS[0]), _EPOCHS[-1])):
        order = draw.permutation(len(vectors))
        for start in range(0, len(order), CHUNK):
            model.partial_fit(vectors.take(np.sort(order[start : start + CHUNK])))
    return nearest(vectors, model.cluster_centers_)


def hdbscan(vectors: VectorSet, config: CurateConfig, seed: int) -> Labels:
    """The cluster of the nearest vector among those that HDBSCAN was fitted on. Raises ConfigError if it finds none."""
    axes = principal_axes(vectors, _DIRECTIONS)
    drawn = by_lot(len(vectors), _FITTED, seed)
    fitted_on = axes.project(vectors.take(drawn))
    least = min(config.min_cluster_size, len(drawn))
    none = np.full(len(drawn), NO_CLUSTER, np.int32)
    labels = HDBSCAN(min_cluster_size=least, copy=True).fit(fitted_on).labels_.astype(np.int32) if least > 1 else none
    if (labels == NO_CLUSTER).all():
        raise ConfigError(
            f"curate.min_cluster_size={config.min_cluster_size} rows: HDBSCAN finds no cluster in a sample of {len(drawn):,} "
            "rows: lower it, or set curate.clustering=kmeans"
        )
    found: Labels = np.asarray(labels[nearest(vectors, fitted_on, axes.project)])
    found[drawn] = labels
    return found


def nearest(vectors: VectorSet, points: Vectors, projected: Callable[[Vectors], Vectors] | None = None) -> Labels:
    """Index of the nearest point for each vector, the first of several."""
    found = np.empty(len(vectors), np.int32)
    half_squares = (points**2).sum(1) / 2
    for start, chunk in vectors.chunks():
        here: Vectors = projected(chunk) if projected else chunk
        for at in range(0, len(here), 1024):  # with 10,000 points 40 MB at once
            found[start + at : start + at + len(here[at : at + 1024])] = (
                here[at : at + 1024] @ points.T - half_squares
            ).argmax(1)
    return found


def _largest_first(labels: Labels) -> Labels:
    """The same clusters, numbered from 0 by their size; empty ones have no number."""
    counts = np.bincount(labels[labels >= 0]) if (labels >= 0).any() else np.zeros(0, np.int64)
    order = np.argsort(-counts, kind="stable")
    numbers = np.empty(len(counts) + 1, np.int32)
    numbers[order] = np.arange(len(counts))
    numbers[-1] = NO_CLUSTER  # what label -1 finds
    return np.asarray(numbers[labels])
