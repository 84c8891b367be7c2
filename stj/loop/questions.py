"""Questions with known answers that a policy answers, in a pass of its own: what goes in, and what comes back as pairs.

    questions ──► the policy's pass: several answers to each, the first right and the first wrong one are a pair
                       └──► the pass that makes the other pairs takes these as they are

So all that follows finds every training pair in one place. An open question has no such pair: of two answers only a judge would
know which is better, and a judge must not be the source of its own labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from stj.config import Config, ModelConfig
from stj.loop.external_sort import sorted_by_position
from stj.loop.reading import resumable, sum_of, unchanged
from stj.pair_sources import PairSource
from stj.rows import Row, row_from_dict
from stj.sources.answer_overlap import drop_repeats
from stj.sources.overlap import Place
from stj.sources.preferences import preferences_identity, preferences_size, read_preferences
from stj.storage.artifacts import Artifact

_ANSWERS_FAILED = "answers_failed"


def read_questions(
    config: Config, model: ModelConfig, weights: str, kept_out: Sequence[Place], identity: Mapping[str, Any] | None = None
) -> Iterator[Row]:
    """The questions that a policy answers, in input order, with its name and the identity of its weights in their origins.

    Questions that repeat a text to keep out are tombstones. `identity` is the content that the sources must have
    (`questions_key`). Raises SourceError if a file cannot be read any further, or was changed since.
    """
    sources = answered_by(config, model)
    policy = weights if model.label in weights else f"{model.label} ({weights})"
    named = " or ".join(f"{source.key}.path={source.path}" for source in sources if source.path) or "the data"
    rows = drop_repeats(read_preferences(sources), kept_out)
    for row in resumable(unchanged(rows, partial(questions_key, config, model), identity, named)):
        yield replace(row, origin=replace(row.origin, policy=policy)) if row.origin else row


def answered_by(config: Config, model: ModelConfig) -> list[PairSource]:
    """The sources whose questions a policy answers."""
    return [source for source in config.preferences if source.model == model]


def questions_key(config: Config, model: ModelConfig) -> dict[str, Any]:
    """The content of the questions that a policy answers, for keys. Raises SourceError if a file is missing."""
    return {"preferences": preferences_identity(answered_by(config, model))}


def count_questions(config: Config, model: ModelConfig) -> int | None:
    """About how many questions a policy answers; None if they cannot be counted without reading them."""
    return sum_of([preferences_size(source) for source in answered_by(config, model)])


def no_pair_words(config: Config, artifact: Artifact, model: ModelConfig) -> str:
    """The error of a policy's pass in which no question became a pair: why, and what to change."""
    manifest = artifact.manifest()
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in manifest["dropped"].items()) or "none"
    sources = ", ".join(source.key for source in answered_by(config, model))
    return (
        f"none of {manifest['rows']:,} questions became a pair (dropped: {dropped}; failed: {manifest['failed']}). "
        f"{model.label} is always right, never right, or it is not clear what its answers end with: raise samples of "
        f'{sources}, ask for "Answer: ..." in the questions, raise pairs.answer.max_tokens, or name other questions. '
        f"`stj show {artifact.folder.uri}` has its answers"
    )


def answered_rows(artifact: Artifact, source: PairSource) -> Iterator[Row]:
    """The pairs and tombstones of a source whose questions a policy answered, in the order of the questions.

    Its tokens were spent in that pass. A question whose request failed there is a tombstone, "answers_failed".
    """
    rows = (row for row in map(row_from_dict, artifact.records()) if row.origin and row.origin.source == source.title)
    for row in sorted_by_position(rows):
        row = replace(row, aborted=0, surplus_tokens=0, prompt_tokens=0, output_tokens=0)
        yield row if row.error is None else replace(row, error=None).drop(_ANSWERS_FAILED, row.error)
