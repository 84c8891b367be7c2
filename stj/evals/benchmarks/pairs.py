"""A private benchmark: any file of pairs with a better response, as stj/sources/pairs.py reads them."""

from collections.abc import Iterable, Iterator
from functools import partial

from stj.evals.benchmarks.base import Benchmark, SourceRecord, pair_row
from stj.rows import Row
from stj.sources.dialogue import text_of
from stj.sources.ids import id_parts
from stj.sources.pairs import ALL, PAIR_FIELDS, given_pairs
from stj.sources.truth import CHOSEN, RESPONSES, better_response

NAME = "pairs"
_SAME = "same_answers"
"""Why a pair is not judged, nor its recorded judgment scored: two equal responses have no better one, whatever a label says,
and no author says how they count."""


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs; one with two equal responses, or on which people did not decide, is a tombstone."""
    for pair in given_pairs(((record.where, record.values) for record in records), labelled=True):
        part = pair.subset or ALL
        row = pair_row(NAME, pair.position, (part, pair.id), part, pair.turns, *pair.ranked)
        without_better = _SAME if pair.first == pair.second else pair.undecided
        yield row.drop(without_better) if without_better else row


def subset(record: SourceRecord) -> str:
    """The record's `subset`, or "all"."""
    given = record.values.get("subset")
    return ALL if given is None else text_of(given, "subset", record.where)


def _without_better(record: SourceRecord) -> str | None:
    """Why a recorded judgment has no better response. Raises SourceError, as for rows to judge, if its fields contradict."""
    names = next((names for names in (*RESPONSES, CHOSEN) if all(name in record.values for name in names)), None)
    if names is None or record.values[names[0]] != record.values[names[1]]:
        return None
    better_response(record.values, record.where)
    return _SAME


PAIRS = Benchmark(
    name=NAME,
    hub=(),
    fields=PAIR_FIELDS,
    rows=rows,
    subset=subset,
    row_parts=partial(id_parts, count=2),
    without_better=_without_better,
)
