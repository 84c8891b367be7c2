"""What curation decided about each instruction, as later phases read it."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from stj.config import Config
from stj.curating.embedding import absolute_embedding, check_embedding, check_on_hub
from stj.curation import CurateConfig
from stj.errors import ConfigError, SourceError
from stj.models.hub import is_hub_id
from stj.models.pooling import pooled_directory, pooling_of
from stj.rows import Row
from stj.storage.arrow import Int32, reader_of, schema_of
from stj.storage.artifacts import Artifact

NEAR_DUPLICATE_BY_MEANING = "near_duplicate_by_meaning"
NOT_SAMPLED = "not_sampled"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What curation decided about one row of the source."""

    id: str
    position: int
    dropped: str | None = None
    """Why it goes no further, here or before."""
    detail: str | None = None
    cluster: Int32 | None = None
    source: str | None = None
    """Name of the source of a pair that is not synthetic."""
    x: float | None = None
    """Its place on the map, if it is one of those drawn there."""
    y: float | None = None
    text: str | None = None
    """The beginning of its instruction, if it is drawn on the map."""


DECISION_SCHEMA = schema_of(Decision)
decision_from_dict = reader_of(Decision)


def as_curated(rows: Iterable[Row], curated: Artifact) -> Iterator[Row]:
    """The rows with their clusters and tombstones. Raises SourceError if they are not those that were curated."""
    columns = ["id", "position", "dropped", "detail", "cluster"]
    for row, decision in itertools.zip_longest(rows, curated.records(columns)):
        if row is None or decision is None or row.id != decision["id"]:
            raise SourceError(
                f"the source has other rows than {curated.folder.uri} was made from: set it back, or pass --overwrite"
            )
        row = row if row.dropped or not decision["dropped"] else row.drop(decision["dropped"], decision["detail"])
        yield row.in_cluster(decision["cluster"])


def check_curation(config: Config, count: Callable[[], int | None], hub: bool) -> str:
    """Words on how instructions are curated. `count` gives about how many there are, None if that is not known.

    Raises ConfigError if a package or model is missing, or there are more clusters than rows; `hub` also asks the hub.
    """
    words = _check_embedding(config.curate, hub)
    if config.curate.map == "umap" and find_spec("umap") is None:
        raise ConfigError("curate.map=umap: umap-learn is not installed: pip install 'stj[umap]', or set curate.map=pca")
    rows = count()
    if rows is not None:
        refuse_more_clusters(config, rows)
    return words


def _check_embedding(curate: CurateConfig, hub: bool) -> str:
    """Words on the embedding of a config.

    Where the hub is asked, the checks of models look at that of engines too. Without it, as before a dry run, only this does.
    """
    if (model := curate.pooled_model) is not None:
        if not hub and not is_hub_id(model.path):
            pooling_of(pooled_directory(model, weights=False), model.path)
        return f"{model.label} by engines"
    embedding = absolute_embedding(curate.embedding)
    words = check_embedding(embedding)
    if hub:
        check_on_hub(embedding)
    return words


def refuse_more_clusters(config: Config, rows: int) -> None:
    """Raises ConfigError if there are more clusters than rows to be put into them."""
    if config.curate.clustering == "kmeans" and config.curate.clusters > rows:
        fewer = f"set curate.clusters={max(2, rows // 10)} or fewer"
        remedy = fewer if rows > 1 else "look at source.path and select.*, or leave curate.clustering out"
        raise ConfigError(
            f"curate.clusters={config.curate.clusters} clusters: there are {rows:,} instructions to put into them; {remedy}"
        )
