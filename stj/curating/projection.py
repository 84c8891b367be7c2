"""The directions in which vectors vary most, and places on a map."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stj.curating.embedding import Vectors
from stj.curating.vectors import Indices, VectorSet
from stj.curation import Projection

_NEIGHBOURS = 15  # UMAP's own default.
_FEWEST = 4  # Points that UMAP can lay out: it needs more than the three eigenvectors that it begins from.


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Principal components."""

    mean: Vectors
    directions: Vectors
    """Shape (dimensions, directions)."""
    share: float
    """Share of the variance that lies in these directions."""

    def project(self, vectors: Vectors) -> Vectors:
        """The coordinates of vectors along the directions."""
        return np.asarray((vectors - self.mean) @ self.directions, np.float32)


def principal_axes(vectors: VectorSet, count: int) -> Axes:
    """The principal components of all vectors, read once. The largest weight of each is positive, so that maps do not flip."""
    dimensions = vectors.dimensions
    total, products = np.zeros(dimensions), np.zeros((dimensions, dimensions))
    for _, chunk in vectors.chunks():
        total += chunk.sum(0, dtype=np.float64)
        products += (chunk.T @ chunk).astype(np.float64)
    mean = total / max(1, len(vectors))
    variances, directions = np.linalg.eigh(products / max(1, len(vectors)) - np.outer(mean, mean))
    directions = directions[:, ::-1][:, :count]
    signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    variances = np.maximum(variances[::-1], 0)
    return Axes(
        mean=mean.astype(np.float32),
        directions=(directions * signs).astype(np.float32),
        share=float(variances[:count].sum() / max(variances.sum(), 1e-12)),
    )


def places(vectors: VectorSet, shown: Indices, by: Projection, seed: int) -> tuple[npt.NDArray[np.float32], float | None]:
    """The place of each shown vector on a map, shape (shown, 2), and the share of the variance that PCA shows.

    PCA's axes are those of all vectors; UMAP lays out the shown ones alone. PCA also shows what is too little for UMAP.
    """
    if by == "pca" or len(shown) < _FEWEST:
        axes = principal_axes(vectors, 2)
        return axes.project(vectors.take(shown)), axes.share
    from umap import UMAP

    laid_out = UMAP(n_neighbors=min(_NEIGHBOURS, len(shown) - 1), metric="cosine", random_state=seed, n_jobs=1)
    return np.asarray(laid_out.fit_transform(vectors.take(shown)), np.float32), None
