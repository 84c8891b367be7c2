"""The settings group `curate`: how diverse the instructions are, which of them go on, and which clues the pairs may not hold.

Diversity is made before the first pass, in a phase of its own (stj/loop/curation.py), which runs if `clustering`,
`near_duplicates` or `sample` is set.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

from stj.model_settings import ModelConfig
from stj.setting_checks import at_least, check

Clustering = Literal["kmeans", "hdbscan"]
Sample = Literal["quota", "farthest_first"]
Projection = Literal["pca", "umap"]
Clue = Literal["length", "markdown", "refusals", "language", "unfinished"]

WORDLLAMA = "wordllama"
"""The embedding whose weights are in its package."""
VLLM = "vllm"
"""The embedding of `curate.embedding_model`, by engines on the machines of the run."""
EMBEDDING_MODEL = "curate.embedding_model"
"""The setting that names it."""
_MOST_CLUSTERS = 2000  # Every row is compared with every centre, and the report names each cluster.


@dataclass(frozen=True, kw_only=True)
class EmbeddingModelConfig:
    """An embedding model and the GPUs of one engine."""

    path: str = ""
    """A local directory, or the id of a model on the Hugging Face hub, in sentence-transformers' layout."""
    revision: str | None = None
    """Commit on the hub; `null` is the newest. Set it if you may resume the run after the model has changed there."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Number format in which the engine holds weights."""
    max_model_len: int = 8192
    """Longest text, in tokens; a longer one is cut, and counted. The model's own context is the limit if it is shorter."""
    tensor_parallel_size: int = 1
    """Number of GPUs that share each layer; it must divide the model's number of attention heads."""

    def __post_init__(self) -> None:
        at_least(1, f"{EMBEDDING_MODEL}.", self, "max_model_len", "tensor_parallel_size")

    @property
    def model(self) -> ModelConfig:
        """The same as of any engine."""
        return ModelConfig(**{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """Diversity of the instructions: embedding, clusters, near-duplicates by meaning, and a sample of a given size."""

    embedding: str = WORDLLAMA
    """What turns an instruction into a vector: `wordllama`, whose weights are in its package, or a sentence-transformers model,
    as a local directory or an id on the Hugging Face hub. `vllm` runs `embedding_model` on engines."""
    embedding_model: EmbeddingModelConfig | None = None
    """Only with `embedding=vllm`: the embedding model and the GPUs of one engine, as in `{path: Qwen/Qwen3-Embedding-0.6B}`."""
    clustering: Clustering | None = None
    """`kmeans` makes `clusters` groups of all instructions. `hdbscan` finds their number, on a sample of 10,000 rows; each
    other row takes the cluster of the nearest sampled one, which may be none. `null` makes no clusters."""
    clusters: int = 100
    """Only `kmeans`: number of clusters, from 2 to 2000, and at most one for each row."""
    min_cluster_size: int = 25
    """Only `hdbscan`: rows of the sample that make a cluster, 2 or more. Smaller groups have no cluster."""
    near_duplicates: float | None = None
    """Drop an instruction whose embedding has at least this cosine similarity to that of an earlier one, from 0.5 to 1. It acts
    behind `source.near_duplicates`, which compares characters. `null` keeps all."""
    sample: Sample | None = None
    """How `sample_size` instructions are chosen. `quota` takes as many from each cluster, by lot. `farthest_first` takes, each
    time, the one least similar to all taken so far. `null` keeps all."""
    sample_size: int | None = None
    """Only with `sample`: number of instructions that stay, before categories."""
    map: Projection = "pca"
    """How the map of the report draws the embeddings: `pca`, or `umap`, which needs the package umap-learn."""
    balance: tuple[Clue, ...] = ()
    """Clues that must not say which answer is better: `length` (characters), `markdown`, `refusals`, `language` (another one
    than the instruction's), `unfinished` (it ends inside a sentence). Of the pairs that can be learned, so many are left out
    that each clue alone is right in 50 ± 2% of those in which it differs."""
    label_noise: float | None = None
    """Leave out a pair whose label is wrong with at least this probability, above 0.5, as all judges of the run so far see it
    (stj/evals/label_noise.py). It needs two judges, so it begins in iteration 2, or in iteration 1 with other weights or
    another prompt in `judge.panel`. 1 leaves out none, and only reports. `null` does not look."""

    def __post_init__(self) -> None:
        check(bool(self.embedding), "curate.embedding is empty; name wordllama, a directory or a model on the hub")
        check(2 <= self.clusters <= _MOST_CLUSTERS, f"curate.clusters={self.clusters} clusters: must be 2 to {_MOST_CLUSTERS}")
        check(self.min_cluster_size >= 2, f"curate.min_cluster_size={self.min_cluster_size} rows: must be 2 or more")
        self._check_embedding_model()
        share = self.near_duplicates
        check(
            share is None or (math.isfinite(share) and 0.5 <= share <= 1),
            f"curate.near_duplicates={share}: must be between 0.5 and 1, or null",
        )
        size = self.sample_size
        check(size is None or size >= 1, f"curate.sample_size={size} instructions: must be at least 1")
        check(
            (self.sample is None) == (size is None),
            f"curate.sample={self.sample or 'null'}, curate.sample_size={size or 'null'}: set both, or neither",
        )
        check(
            self.sample != "quota" or self.clustering is not None,
            "curate.sample=quota: takes as many instructions from each cluster: set curate.clustering=kmeans or hdbscan",
        )
        noise = self.label_noise
        check(
            noise is None or (math.isfinite(noise) and 0.5 < noise <= 1),
            f"curate.label_noise={noise}: must be a probability above 0.5, up to 1, or null",
        )
        check(len(set(self.balance)) == len(self.balance), f"curate.balance={list(self.balance)}: name each clue once")
        unused = {
            "clusters": self.clustering != "kmeans",
            "min_cluster_size": self.clustering != "hdbscan",
            "embedding": not self.embeds,
            "embedding_model": not self.embeds,
            "map": not self.embeds,
        }
        for name, is_unused in unused.items():
            value = getattr(self, name)
            check(
                not is_unused or value == getattr(CurateConfig, name),
                f"curate.{name}={_shown(value)}: nothing uses it: set curate.clustering, or leave it out",
            )

    def _check_embedding_model(self) -> None:
        """Raises ConfigError if the model of `vllm` is not named, or another embedding has one."""
        model = self.embedding_model
        check(self.embedding != VLLM or model is not None, f"curate.embedding={VLLM}: set {EMBEDDING_MODEL}={{path: MODEL}}")
        check(
            self.embedding == VLLM or model is None,
            f"{EMBEDDING_MODEL}={_shown(model)}: curate.embedding={self.embedding} uses no such model; set it to {VLLM}",
        )
        check(model is None or bool(model.path), f"{EMBEDDING_MODEL}.path is empty; name a directory or a model on the hub")

    @property
    def pooled_model(self) -> ModelConfig | None:
        """The model whose engines embed the instructions; None if nothing is embedded, or beside the driver."""
        return self.embedding_model.model if self.embedding_model and self.embeds else None

    @property
    def embeds(self) -> bool:
        """Whether instructions are embedded."""
        return self.clustering is not None or self.near_duplicates is not None or self.sample is not None

    def check_noise(self, *, compares: bool, judges: int) -> None:
        """Raises ConfigError if no two judges judge the same pairs."""
        where = f"curate.label_noise={self.label_noise}"
        check(self.label_noise is None or compares, f"{where}: no pairs are compared; set judge.task=pairwise, or both")
        check(
            self.label_noise is None or judges > 1,
            f"{where}: with one judge, its errors and wrong labels look the same: set iterations=2 or more, or "
            "add a member with other weights or another prompt to judge.panel",
        )

    def check_balance(self, objective: str, task: str, labelled: bool) -> None:
        """Raises ConfigError if pairs are to be balanced of which training learns others too, or only a part."""
        if not self.balance:
            return
        where = f"curate.balance=[{', '.join(self.balance)}]"
        check(
            objective != "sft_then_dpo",
            f"{where}: train.objective=sft_then_dpo learns from two sets of pairs, and one choice cannot balance both: set "
            "another objective",
        )
        check(task == "pairwise", f"{where}: judge.task={task}: grades have no better answer: set judge.task=pairwise")
        check(not labelled, f"{where}: examples.labelled adds judgments that are not balanced: leave one of them out")


def _shown(value: object) -> object:
    """A setting's value for an error: of a model, its path."""
    return value.path if isinstance(value, EmbeddingModelConfig) else value
