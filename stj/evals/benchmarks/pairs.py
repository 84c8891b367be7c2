"""A private benchmark: any file of pairs with a better response, as stj/sources/pairs.py reads them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from stj.evals.benchmarks.base import Benchmark, SourceRecord, pair_row
from stj.pair_fields import OWN_FIELDS, PairFields, Ties
from stj.rows import Row
from stj.sources.dialogue import text_of
from stj.sources.ids import id_parts
from stj.sources.pairs import ALL, HUMAN_TIE, SAME_ANSWERS, calls_a_tie, fields_to_read, given_pairs
from stj.sources.truth import CHOSEN, RESPONSES, better_response

NAME = "pairs"


def rows(records: Iterable[SourceRecord], fields: PairFields = OWN_FIELDS, ties: Ties = "skip") -> Iterator[Row]:
    """Rows of pairs; one with two equal responses, or on which people did not decide, is a tombstone."""
    for pair in given_pairs(((record.where, record.values) for record in records), fields, labelled=True):
        part, (judged, reason) = pair.subset or ALL, pair.judged(ties)
        row = pair_row(NAME, pair.position, (part, pair.id), part, pair.turns, judged.chosen, judged.rejected)
        yield row.drop(reason) if reason else replace(row, pair=judged)


def read_as(fields: PairFields, ties: Ties) -> Benchmark:
    """The benchmark of a file whose fields have these names."""
    return replace(PAIRS, fields=fields_to_read(fields), rows=partial(rows, fields=fields, ties=ties))


def subset(record: SourceRecord) -> str:
    """The record's `subset`, or "all"."""
    given = record.values.get("subset")
    return ALL if given is None else text_of(given, "subset", record.where)


def _without_better(record: SourceRecord) -> str | None:
    """Why a recorded judgment has no better response: equal responses, whatever a label says, or a tie.

    Raises SourceError, as for rows to judge, if its fields contradict.
    """
    tied = calls_a_tie(record.values, record.where)
    names = next((names for names in (*RESPONSES, CHOSEN) if all(name in record.values for name in names)), None)
    if names is None or record.values[names[0]] != record.values[names[1]]:
        return HUMAN_TIE if tied else None
    if not tied:
        better_response(record.values, record.where)
    return SAME_ANSWERS


PAIRS = Benchmark(
    name=NAME,
    hub=(),
    fields=fields_to_read(),
    rows=rows,
    subset=subset,
    row_parts=partial(id_parts, count=2),
    without_better=_without_better,
    read_as=read_as,
)
