"""A private benchmark: any file of pairs with a better response, as stj/sources/pairs.py reads them."""

from collections.abc import Iterable, Iterator
from functools import partial

from stj.evals.benchmarks.base import Benchmark, SourceRecord, pair_row
from stj.rows import Row
from stj.sources.dialogue import text_of
from stj.sources.ids import id_parts
from stj.sources.pairs import ALL, PAIR_FIELDS, given_pairs

NAME = "pairs"


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs. Two equal responses have no better one, and no author says how they count: such a row is a tombstone."""
    for pair in given_pairs(((record.where, record.values) for record in records), labelled=True):
        part = pair.subset or ALL
        row = pair_row(NAME, pair.position, (part, pair.id), part, pair.turns, *pair.ranked)
        yield row.drop("same_answers") if pair.first == pair.second else row


def subset(record: SourceRecord) -> str:
    """The record's `subset`, or "all"."""
    given = record.values.get("subset")
    return ALL if given is None else text_of(given, "subset", record.where)


PAIRS = Benchmark(name=NAME, hub=(), fields=PAIR_FIELDS, rows=rows, subset=subset, row_parts=partial(id_parts, count=2))
