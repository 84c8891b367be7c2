"""The phase that curates instructions: embeds them, clusters them, and decides which of them stay."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from stj.config import ModelConfig
from stj.curating.embedding import Embedder, embedder
from stj.loop.curation_watch import CurationWatch
from stj.loop.inputs import PassPart, count_inputs, read_uncurated
from stj.loop.phase import Phase
from stj.passes.ledger import read_ledger
from stj.text import LiveLine, duration


@dataclass(frozen=True, kw_only=True)
class CurationPhase(Phase):
    """Decides about every row of the source before any model is asked. It runs beside the driver; engines may embed for it."""

    @property
    def engine_model(self) -> ModelConfig | None:
        """The model that embeds by engines, if one does."""
        return self.config.curate.pooled_model

    def run(self, line: LiveLine | None = None) -> None:
        """Writes a decision for each row. Raises ConfigError if there are more clusters than rows."""
        from stj.loop.deciding import decide  # scikit-learn takes seconds to import

        for part in self.artifact.parts():  # of a start that was killed: another engine's vectors may decide otherwise
            self.artifact.folder.delete(part)
        made_of = self.artifact.key["source"]
        identity = {name: made_of[name] for name in ("path", "preferences") if name in made_of}
        try:
            of_pass: tuple[PassPart, ...] = ("pairs",)
            total = count_inputs(self.config, of_pass, None)
            watch = CurationWatch(self.name, self.artifact.folder, self.config, line or LiveLine(), total)
            with watch, self._embedding(watch) as embedding:
                rows = watch.counted(read_uncurated(self.config, identity))
                parts, facts = decide(rows, self.config, embedding, self.artifact)
        except BaseException:
            self._forget()
            raise
        self.artifact.finish(parts, **facts, **watch.facts())

    def _embedding(self, watch: CurationWatch) -> AbstractContextManager[Embedder]:
        config, model = self.config, self.engine_model
        if model is None:
            return nullcontext(embedder(config.curate.embedding))
        from stj.passes.embedding import EmbeddingSpec, EngineEmbedding  # ray takes seconds to import

        identity = self.artifact.key["curate"]["embedding_model"]["files"]
        deadline_s = config.ray.capacity_deadline_s
        spec = EmbeddingSpec(model=model, identity=identity, config=config.engine, capacity_deadline_s=deadline_s)
        engines = EngineEmbedding(spec)
        watch.watch_engines(engines)
        return engines

    def _forget(self) -> None:
        """Removes all but the cost of a start in which nothing was made.

        So a start with other settings, or with a mended source, does not ask for --overwrite.
        """
        spent = read_ledger(self.artifact.folder)
        self.artifact.folder.remove()
        if spent.starts:
            spent.write(self.artifact.folder)

    def summary(self) -> str:
        """Rows, clusters, near-duplicates by what found them, and how many were sampled."""
        return "; ".join(curation_words(self.artifact.manifest()))


def curation_words(manifest: dict[str, Any]) -> list[str]:
    """What curation found, in words, of its manifest."""
    words = [f"{manifest['embedded']:,} of {manifest['rows']:,} rows embedded"]
    if cut := manifest.get("cut"):  # artifacts of before engines embedded have no such count
        words.append(f"{cut:,} texts cut to what the model reads")
    if clusters := manifest["clusters"]:
        without = f", {manifest['without_cluster']:,} rows without one" if manifest["without_cluster"] else ""
        words.append(f"{len(clusters)} clusters{without}")
    if found := manifest["near_duplicates"]:
        words.append(f"near-duplicates: {_found_by(found)}")
        if found["not_compared"]:
            words.append(f"{found['not_compared']:,} texts not compared by embedding (curate.embedding)")
    if sampled := manifest["sampled"]:
        words.append(f"sampled {sampled['taken']:,} of {sampled['among']:,} instructions")
    if ledger := manifest.get("ledger"):
        dollars = "" if ledger["dollars"] is None else f", ${ledger['dollars']:,.2f}"
        words.append(f"{ledger['prompt_tokens']:,} tokens read, {duration(ledger['engine_seconds'])} of engines{dollars}")
    thin = [cluster["name"] for cluster in manifest["clusters"] if cluster["thin"]]
    return [*words, *([f"thin: {len(thin)} clusters, such as {thin[-1]}"] if thin else [])]


def _found_by(found: Mapping[str, int | None]) -> str:
    """How many near-duplicates which way found, in words."""
    if found["minhash"] is None:
        return f"{found['embedding']:,} by embedding; MinHash was not asked (source.near_duplicates)"
    return f"{found['minhash']:,} by MinHash alone, {found['both']:,} by both, {found['embedding']:,} by embedding alone"
