"""What curation does: reads the rows once, embeds them, and writes a decision for each.

    rows -> overlaps and MinHash -> vectors in a scratch file -> near-duplicates by meaning -> clusters -> a sample -> decisions

Memory holds the id and the decision of each row, and the texts that are drawn by lot: for the names of clusters, and for the
map. The lot of a text depends on the seed and its id alone.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stj.config import Config
from stj.curating.clusters import cluster
from stj.curating.duplicates import NONE, ROUNDING, near_duplicates
from stj.curating.embedding import Embedder, shortened
from stj.curating.projection import places
from stj.curating.sampling import farthest_first, quota
from stj.curating.vectors import NO_CLUSTER, Indices, Labels, Subset, VectorFile
from stj.curating.words import characteristic_words
from stj.loop.curated import (
    DECISION_SCHEMA,
    NEAR_DUPLICATE_BY_MEANING,
    NOT_SAMPLED,
    Decision,
    refuse_more_clusters,
)
from stj.randomness import uniform
from stj.rows import MOST_DETAIL, Row
from stj.sources.near_duplicates import NEAR_DUPLICATE
from stj.stages.select import reject_unasked
from stj.storage.arrow import table_of
from stj.storage.artifacts import Artifact

_BATCH = 512  # Texts that are embedded at once.
_PART_ROWS = 100_000
_ON_MAP = 2_000  # More points hide each other, and the page grows by 300 bytes for each.
_NAMING = 20_000  # Texts from which clusters are named: 200 for each of 100.
_NAMING_CHARACTERS = 500
_MAP_CHARACTERS = 300
_THIN = 0.25
"""A cluster is thin if it has fewer than this share of an equal part of the instructions that stay."""


@dataclass(kw_only=True)
class _Read:
    """What is remembered of the rows, and their vectors."""

    vectors: VectorFile
    ids: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    dropped: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    """Why rows go no further, by their index."""
    sources: dict[int, str] = field(default_factory=dict)
    """The sources of pairs that are not synthetic, by the index of the row."""
    embedded: list[int] = field(default_factory=list)
    """Index of the row of each vector."""
    alike: set[int] = field(default_factory=set)
    """The vectors of texts that the embedding cannot tell from others like them."""
    drawn: list[tuple[float, int, str]] = field(default_factory=list)
    """A heap of the texts that are drawn: the negative lot, the index of the vector, the text."""

    def vector_rows(self) -> Indices:
        """Index of the row of each vector."""
        return np.array(self.embedded, np.int64)

    def staying(self) -> Indices:
        """The vectors whose rows stay so far."""
        return np.array([index for index, row in enumerate(self.embedded) if row not in self.dropped], np.int64)


def decide(rows: Iterable[Row], config: Config, embedding: Embedder, artifact: Artifact) -> tuple[list[str], dict[str, Any]]:
    """Writes a decision for each row into the artifact; returns the names of the parts, and facts for the manifest.

    Raises ConfigError for more clusters than rows.
    """
    with VectorFile(embedding.dimensions) as vectors:
        read = _read(rows, config, embedding, vectors)
        found = _near_duplicates(read, config)
        staying = read.staying()
        refuse_more_clusters(config, len(staying))
        labels = np.full(len(read.embedded), NO_CLUSTER, np.int32)
        labels[staying] = cluster(Subset(read.vectors, staying), config.curate, config.seed)
        sampled = _sample(read, staying, labels, config)
        on_map, share = _map(read, staying, config)
    return _write(read, labels, on_map, artifact), {
        "embedded": len(read.embedded),
        "cut": embedding.cut,
        "clusters": _clusters(read, staying, labels),
        "without_cluster": int((labels[staying] == NO_CLUSTER).sum()) if config.curate.clustering else 0,
        "near_duplicates": found,
        "sampled": sampled,
        "map": {"by": config.curate.map if share is None else "pca", "points": len(on_map), "share_of_variance": share},
    }


def _read(rows: Iterable[Row], config: Config, embedding: Embedder, vectors: VectorFile) -> _Read:
    """Reads all rows, and embeds those that may become pairs."""
    read = _Read(vectors=vectors)
    for part in embedding.embed_all(_batches(rows, config, embedding, read)):
        vectors.append(part)
    return read


def _batches(rows: Iterable[Row], config: Config, embedding: Embedder, read: _Read) -> Iterator[list[str]]:
    """The texts that are embedded, in batches, while what is remembered of the rows is noted.

    Near-duplicates that MinHash found are embedded too if both ways are compared.
    """
    texts: list[str] = []

    def is_embedded(row: Row) -> bool:
        if row.dropped == NEAR_DUPLICATE:
            return config.curate.near_duplicates is not None
        return row.dropped is None and (row.origin is not None or reject_unasked(row, config.select) is None)

    for index, row in enumerate(rows):
        read.ids.append(row.id)
        read.positions.append(row.position)
        if row.origin is not None:
            read.sources[index] = row.origin.source
        if row.dropped is not None:
            read.dropped[index] = row.dropped, row.detail
        if is_embedded(row):
            text = shortened(row.instruction)
            _draw(read, uniform(config.seed, row.id, "curate"), text)
            if not embedding.tells_apart(text):
                read.alike.add(len(read.embedded))
            read.embedded.append(index)
            texts.append(text)
        if len(texts) == _BATCH:
            yield texts
            texts = []
    if texts:
        yield texts


def _draw(read: _Read, lot: float, text: str) -> None:
    """Remembers the texts with the lowest lots."""
    drawn = -lot, len(read.embedded), text[:_NAMING_CHARACTERS]
    if len(read.drawn) < _NAMING:
        heapq.heappush(read.drawn, drawn)
    else:
        heapq.heappushpop(read.drawn, drawn)


def _near_duplicates(read: _Read, config: Config) -> dict[str, int | None]:
    """Drops near-duplicates by meaning; returns how many MinHash, the embedding and both found. Empty if none are wanted.

    What MinHash found is None if `source.near_duplicates` does not ask it.
    """
    threshold = config.curate.near_duplicates
    if threshold is None:
        return {}
    by_minhash = [index for index, row in enumerate(read.embedded) if row in read.dropped]
    both = _agreed(read, by_minhash, threshold)
    instructions = [index for index in read.staying().tolist() if read.embedded[index] not in read.sources]
    compared = np.array([index for index in instructions if index not in read.alike], np.int64)
    first = near_duplicates(Subset(read.vectors, compared), threshold, config.seed)
    for index in np.flatnonzero(first != NONE):
        row, earlier = read.embedded[compared[index]], read.embedded[compared[first[index]]]
        read.dropped[row] = NEAR_DUPLICATE_BY_MEANING, read.ids[earlier]
    asked = config.source.near_duplicates is not None
    of_minhash = {"minhash": len(by_minhash) - both, "both": both} if asked else {"minhash": None, "both": None}
    return {**of_minhash, "embedding": int((first != NONE).sum()), "not_compared": len(instructions) - len(compared)}


def _agreed(read: _Read, by_minhash: Sequence[int], threshold: float) -> int:
    """How many of the pairs that MinHash found are as similar by their vectors as the threshold."""
    if not by_minhash:
        return 0
    vector_of = {read.ids[row][:MOST_DETAIL]: index for index, row in reversed(list(enumerate(read.embedded)))}
    agreed = 0
    for start in range(0, len(by_minhash), _BATCH):
        later = np.array(by_minhash[start : start + _BATCH])
        earlier = np.array([vector_of[read.dropped[read.embedded[index]][1] or ""] for index in later])
        similar = (read.vectors.take(later) * read.vectors.take(earlier)).sum(1)
        agreed += int((similar >= threshold - ROUNDING).sum())
    return agreed


def _sample(read: _Read, staying: Indices, labels: Labels, config: Config) -> dict[str, int]:
    """Drops the instructions that are not sampled; pairs of other sources stay. Empty if all stay by the settings."""
    size = config.curate.sample_size
    if size is None:
        return {}
    among = np.array([index for index in staying if read.embedded[index] not in read.sources], np.int64)
    by_quota = config.curate.sample == "quota"
    taken = (
        quota(labels[among], size, config.seed) if by_quota else farthest_first(Subset(read.vectors, among), size, config.seed)
    )
    for index in np.delete(among, taken):
        read.dropped[read.embedded[index]] = NOT_SAMPLED, None
    return {"among": len(among), "taken": len(taken)}


def _map(read: _Read, staying: Indices, config: Config) -> tuple[dict[int, tuple[float, float, str]], float | None]:
    """The place and the text of the rows on the map, by the index of the row, and the share of the variance that it shows."""
    stays = set(staying.tolist())
    shown = heapq.nlargest(_ON_MAP, (drawn for drawn in read.drawn if drawn[1] in stays))
    if not shown:
        return {}, None
    vectors = Subset(read.vectors, staying)
    indices = np.searchsorted(staying, [index for _, index, _ in shown])
    found, share = places(vectors, indices, config.curate.map, config.seed)
    points = zip(shown, found.tolist(), strict=True)
    return {read.embedded[index]: (x, y, text[:_MAP_CHARACTERS]) for (_, index, text), (x, y) in points}, share


def _clusters(read: _Read, staying: Indices, labels: Labels) -> list[dict[str, Any]]:
    """Each cluster with its name and sizes."""
    rows = read.vector_rows()[staying]
    here = labels[staying]
    kept = np.array([row not in read.dropped for row in rows.tolist()], bool)
    count = int(here.max(initial=NO_CLUSTER)) + 1
    sizes, left = (np.bincount(part[part >= 0], minlength=count) for part in (here, here[kept]))
    names = characteristic_words((int(labels[index]), text) for _, index, text in read.drawn if labels[index] != NO_CLUSTER)
    least = _THIN * left.sum() / max(1, count)
    return [
        {
            "number": number,
            "name": ", ".join(names.get(number, ())) or f"cluster {number}",
            "rows": int(sizes[number]),
            "kept": int(left[number]),
            "thin": bool(left[number] < least),
        }
        for number in range(count)
    ]


def _write(read: _Read, labels: Labels, on_map: dict[int, tuple[float, float, str]], artifact: Artifact) -> list[str]:
    """Writes the decisions in input order; returns the names of the parts, which sort in that order."""
    decisions, parts = _decisions(read, labels, on_map), list[str]()
    while part := list(itertools.islice(decisions, _PART_ROWS)):
        parts.append(artifact.write_part(f"rows-{len(parts):05}", table_of(part, DECISION_SCHEMA)))
    return parts


def _decisions(read: _Read, labels: Labels, on_map: dict[int, tuple[float, float, str]]) -> Iterator[Decision]:
    cluster_of = dict(zip(read.embedded, labels.tolist(), strict=True))
    for index, (row_id, position) in enumerate(zip(read.ids, read.positions, strict=True)):
        dropped, detail = read.dropped.get(index, (None, None))
        number = cluster_of.get(index, NO_CLUSTER)
        x, y, text = on_map.get(index, (None, None, None))
        yield Decision(
            id=row_id,
            position=position,
            dropped=dropped,
            detail=detail,
            cluster=None if number == NO_CLUSTER else number,
            source=read.sources.get(index),
            x=x,
            y=y,
            text=text,
        )
