"""A look at the first instructions of a run, before it starts: their lengths, and what the rules make of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from stj.config import Config
from stj.loop.inputs import kept_out
from stj.loop.named_pairs import BenchmarkPlace
from stj.models.token_count import token_counter
from stj.plan.sample import SourceSample
from stj.rows import Pair, Row
from stj.sources import read_rows, source_size
from stj.sources.answer_overlap import drop_repeats
from stj.sources.hub import is_hub_dataset
from stj.sources.near_duplicates import drop_near_duplicates
from stj.sources.overlap import Place
from stj.stages.judge import judge_messages
from stj.stages.select import reject_unasked

_ROWS = 200
_TEMPLATE = 32
"""Tokens that a chat template adds to a system message and a question; those of the families of 2024 add 9 to 30."""
_TOO_LONG = "prompt_too_long"


def source_sample(config: Config) -> SourceSample | None:
    """The first rows of the instructions; None if none are read, or if they are on the hub.

    Raises SourceError if they cannot be read.
    """
    if not config.makes_synthetic or is_hub_dataset(config.source.path):
        return None
    counter = token_counter(config.models.seed)
    places = kept_out(config)
    far = [place for place in places if isinstance(place, BenchmarkPlace) and not place.ref.is_local]
    rows = list(_screened(config, [place for place in places if place not in far]))
    asked = [row for row in rows if row.dropped is None]
    tokens = counter.tokens([row.instruction for row in asked])
    most = config.models.generator.max_model_len
    fitting = tuple(length for length in tokens if length + _TEMPLATE < most)
    dropped = Counter(row.dropped for row in rows if row.dropped is not None)
    if len(fitting) < len(tokens):
        dropped[_TOO_LONG] += len(tokens) - len(fitting)
    words = judge_messages("", Pair(method="given", chosen="", rejected=""), "A")
    return SourceSample(
        rows=len(rows),
        size=source_size(config.source),
        dropped=dict(dropped),
        tokens=fitting,
        prompt=sum(counter.tokens([turn.content for turn in words])) + _TEMPLATE,
        exact=counter.exact,
        not_looked_for=tuple(f"{place.key}={place.location}" for place in far),
    )


def _screened(config: Config, places: Sequence[Place]) -> Iterator[Row]:
    """The rows with the reasons for which no model is asked about them, as a pass finds them that keeps out these places."""
    rows = drop_repeats(islice(read_rows(config.source), _ROWS), places)
    if config.source.near_duplicates is not None:
        rows = drop_near_duplicates(rows, config.source.near_duplicates, lambda row: reject_unasked(row, config.select) is None)
    for row in rows:
        reason = None if row.dropped else reject_unasked(row, config.select)
        yield replace(row, dropped=reason) if reason else row
