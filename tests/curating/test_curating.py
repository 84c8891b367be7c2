"""Clusters, near-duplicates and samples against plain, slow versions of the same rules."""

import re
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.curating import duplicates
from stj.curating.clusters import cluster, nearest
from stj.curating.duplicates import NONE, ROUNDING, near_duplicates
from stj.curating.embedding import Vectors, normalized
from stj.curating.projection import places, principal_axes
from stj.curating.sampling import farthest_first, quota
from stj.curating.vectors import CHUNK, NO_CLUSTER, Indices, Subset, VectorFile
from stj.curating.words import characteristic_words, words_of
from stj.curation import CurateConfig
from stj.errors import ConfigError, StjError
from tests.cpu_time import in_proportion


def stored(vectors: Vectors) -> VectorFile:
    file = VectorFile(vectors.shape[1])
    for start in range(0, len(vectors), 1000):
        file.append(vectors[start : start + 1000])
    return file


def blobs(count: int, topics: int, dimensions: int = 24, noise: float = 0.3, seed: int = 0) -> tuple[Vectors, Indices]:
    """Vectors around random centres, and the centre of each, sorted by centre: the worst order of a source."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(topics, dimensions))
    of = np.sort(draw.integers(topics, size=count))
    return normalized((centres[of] + noise * draw.normal(size=(count, dimensions))).astype(np.float32)), of


def purity(labels: np.ndarray, of: Indices) -> float:
    """Share of the vectors whose cluster is mostly of their centre."""
    return float(sum(np.bincount(of[labels == number]).max() for number in range(labels.max() + 1)) / len(of))


@pytest.mark.slow
@pytest.mark.parametrize("config", [CurateConfig(clustering="kmeans", clusters=8), CurateConfig(clustering="hdbscan")])
def test_clusters_are_the_centres_of_a_sorted_source_numbered_by_size_and_the_same_again(config: CurateConfig) -> None:
    vectors, of = blobs(12_000, 8)
    file = stored(vectors)
    labels = cluster(file, config, seed=3)
    assert purity(labels, of) > 0.97
    assert len(set(labels.tolist()) - {NO_CLUSTER}) == 8
    assert (labels == NO_CLUSTER).mean() < 0.02
    sizes = np.bincount(labels[labels >= 0])
    assert (np.diff(sizes) <= 0).all()
    assert (cluster(file, config, seed=3) == labels).all()


def test_fewer_different_vectors_than_clusters_leave_no_empty_number() -> None:
    file = stored(np.repeat(np.eye(3, dtype=np.float32), 10, axis=0))
    labels = cluster(file, CurateConfig(clustering="kmeans", clusters=6), seed=0)
    assert set(labels.tolist()) == set(range(labels.max() + 1))


@pytest.mark.parametrize("count", [0, 2])
def test_hardly_any_vectors_are_no_error(count: int) -> None:
    file = stored(np.eye(4, dtype=np.float32)[:count])
    assert len(cluster(file, CurateConfig(clustering="kmeans", clusters=2), 0)) == count
    assert places(file, np.arange(count), "pca", 0)[0].shape == (count, 2)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_vectors_of_no_density_are_refused_by_hdbscan(count: int) -> None:
    file = stored(np.eye(30, dtype=np.float32)[:count])
    with pytest.raises(ConfigError, match=rf"HDBSCAN finds no cluster in a sample of {count} rows: lower it"):
        cluster(file, CurateConfig(clustering="hdbscan"), 0)


@pytest.mark.long
def test_umap_lays_the_shown_vectors_out() -> None:
    pytest.importorskip("umap")
    vectors, of = blobs(300, 3, noise=0.1)
    shown = np.arange(0, 300, 2)
    found, share = places(stored(vectors), shown, "umap", 0)
    assert (found.shape, share) == ((150, 2), None)
    centres = np.array([found[of[shown] == topic].mean(0) for topic in range(3)])
    assert (((found[:, None] - centres[None]) ** 2).sum(-1).argmin(1) == of[shown]).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_for_umap_are_laid_out_by_pca(count: int) -> None:
    vectors, _ = blobs(count, 2)
    found, share = places(stored(vectors), np.arange(count), "umap", 0)
    assert found.shape == (count, 2)
    assert np.isfinite(found).all()
    assert share is not None


def test_a_full_disk_is_one_line_and_a_kill_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = VectorFile(8)
    assert list(tmp_path.iterdir()) == []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StjError, match=re.escape(f"{tmp_path}: cannot write: File too large")):
            file.append(np.ones((1000, 8), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_vector_takes_the_nearest_point() -> None:
    vectors, _ = blobs(CHUNK + 100, 5)
    points = vectors[::500]
    expected = ((vectors[:, None] - points[None]) ** 2).sum(-1).argmin(1)
    assert (nearest(stored(vectors), points) == expected).mean() > 0.999  # 16-bit floats move a border a little


def plain_duplicates(vectors: Vectors, threshold: float) -> list[int]:
    """The rule, one by one."""
    kept, found = list[int](), []
    for index, vector in enumerate(vectors):
        earlier = next((other for other in kept if vector @ vectors[other] >= threshold - ROUNDING), NONE)
        found.append(earlier)
        kept += [index] if earlier == NONE else []
    return found


@pytest.mark.slow
@given(st.integers(0, 400), st.sampled_from([0.5, 0.8, 0.95, 1.0]), st.integers(0, 5), st.sampled_from([3, 7, 64]))
def test_near_duplicates_follow_the_rule_in_any_blocks(count: int, threshold: float, seed: int, block: int) -> None:
    vectors, _ = blobs(count, 9, dimensions=6, seed=seed)
    vectors = vectors.astype(np.float16).astype(np.float32)
    file = stored(vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        found = near_duplicates(file, threshold, 0)
    assert found.tolist() == plain_duplicates(vectors, threshold)


def test_equal_vectors_reach_a_threshold_of_1() -> None:
    vectors, _ = blobs(50, 5, dimensions=256, noise=1.0)
    found = near_duplicates(stored(np.concatenate([vectors, vectors])), 1.0, 0)
    assert found.tolist() == [NONE] * 50 + list(range(50))


@pytest.mark.slow
def test_planted_near_duplicates_are_found_in_cells_too() -> None:
    vectors, _ = blobs(24_000, 40, dimensions=64, noise=1.0)
    draw = np.random.default_rng(1)
    copied = draw.choice(20_000, 500, replace=False)
    copies = normalized(vectors[copied] + 0.02 * draw.normal(size=(500, 64)).astype(np.float32))
    found = near_duplicates(stored(np.concatenate([vectors, copies])), 0.97, 0)
    assert (found[:24_000] == NONE).all()
    assert (found[24_000:] == copied).mean() > 0.97


def plain_farthest_first(vectors: Vectors, size: int, seed: int) -> list[int]:
    taken = [int(np.random.default_rng(seed).integers(len(vectors)))]
    near = vectors @ vectors[taken[0]]
    while len(taken) < size:
        near[taken] = np.inf
        taken.append(int(near.argmin()))
        near = np.maximum(near, vectors @ vectors[taken[-1]])
    return sorted(taken)


def test_farthest_first_is_the_greedy_algorithm() -> None:
    vectors, _ = blobs(9_000, 30)
    file = stored(vectors)
    assert farthest_first(file, 200, 5).tolist() == plain_farthest_first(vectors.astype(np.float16).astype(np.float32), 200, 5)


def test_farthest_first_takes_time_in_proportion_to_the_vectors() -> None:
    vectors, _ = blobs(40_000, 30)
    file = stored(vectors)
    assert in_proportion(lambda size: farthest_first(Subset(file, np.arange(size)), 50, 0), 10_000, 40_000, 4)


@given(st.lists(st.integers(-1, 5), max_size=60), st.integers(1, 70), st.integers(0, 3))
def test_a_quota_has_the_size_and_is_as_equal_as_it_can_be(labels: list[int], size: int, seed: int) -> None:
    taken = quota(np.array(labels, np.int32), size, seed)
    assert len(taken) == min(size, len(labels)) == len(set(taken.tolist()))
    assert (np.diff(taken) > 0).all()
    of = np.array(labels, int)[taken]
    for label in set(labels):
        here = int((of == label).sum())
        if here < labels.count(label):
            assert all(int((of == other).sum()) <= here + 1 for other in set(labels))


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_sample_of_few_vectors_has_them_all(size: int) -> None:
    assert farthest_first(stored(np.eye(3, dtype=np.float32)[:size]), 3, 0).tolist() == list(range(size))


def test_equal_vectors_can_be_sampled_too() -> None:
    assert len(set(farthest_first(stored(np.ones((50, 4), np.float32) / 2), 20, 0).tolist())) == 20


def test_principal_axes_are_those_of_numpy() -> None:
    vectors, _ = blobs(CHUNK + 500, 4)
    axes = principal_axes(stored(vectors), 3)
    _, values, expected = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    assert np.abs(np.sum(axes.directions.T * expected[:3], 1)) == pytest.approx(1, abs=1e-3)
    assert axes.share == pytest.approx((values[:3] ** 2).sum() / (values**2).sum(), abs=1e-3)


def test_clusters_are_named_by_the_words_that_set_them_apart() -> None:
    filler = "please tell me how the thing is made and what it is"
    topics = ["bake bread with yeast", "observe galaxies with telescopes", "sort arrays with python"]
    texts = [(number, f"{filler} {words} {index}") for index in range(40) for number, words in enumerate(topics)]
    names = characteristic_words(texts)
    for number, words in enumerate(topics):
        assert set(names[number]) <= set(words.split()) - {"with"}
        assert len(names[number]) == 3


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=40)), max_size=12))
def test_any_texts_can_name_clusters(texts: list[tuple[int, str]]) -> None:
    names = characteristic_words(texts)
    assert set(names) == {number for number, _ in texts}
    for number, words in names.items():
        assert set(words) <= set().union(*(words_of(text) for cluster, text in texts if cluster == number))


def test_words_of_scripts_without_spaces_are_pairs_of_characters() -> None:
    assert words_of("机器学习 and Größe x 42") == {"机器", "器学", "学习", "and", "grösse"}
