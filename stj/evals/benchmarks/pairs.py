"""A private benchmark, any file of pairs: instruction, response_a, response_b and winner, or instruction, chosen and rejected.

`winner` is A or B (also response_a, model_a and the like). `id` and `subset` are optional. Ties are not allowed.
"""

from collections.abc import Iterable, Iterator

from stj.evals.benchmarks.base import Benchmark, SourceRecord, better_of, pair_row, unique_id
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from
from stj.sources.files import Fields
from stj.sources.ids import Seen, numbered

NAME = "pairs"
_RESPONSES = ("response_a", "response_b", "winner")


def rows(records: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs."""
    seen = Seen()
    for position, record in enumerate(records):
        part = subset(record)
        given = record.values.get("id")
        values = {**record.values, "id": numbered(position) if given is None else given}
        row_id = unique_id(record._replace(values=values), "id", part, seen)
        turns = turns_from(record.values["instruction"], "instruction", record.where)
        yield pair_row(NAME, position, row_id, part, turns, *_answers(record))


def _answers(record: SourceRecord) -> tuple[str, str]:
    """The better answer and the worse one."""
    is_chosen = any(record.values.get(name) is not None for name in ("chosen", "rejected"))
    names = ("chosen", "rejected") if is_chosen else _RESPONSES
    Fields(required=names).check(record.values, record.where)
    first, second = (text_of(record.values[name], name, record.where) for name in names[:2])
    return (first, second) if is_chosen or better_of(record, "winner") == "A" else (second, first)


def subset(record: SourceRecord) -> str:
    """The record's `subset`, or "all"."""
    given = record.values.get("subset")
    return "all" if given is None else text_of(given, "subset", record.where)


PAIRS = Benchmark(
    name=NAME,
    hub=(),
    fields=Fields(required=("instruction",), optional=("id", "subset", "chosen", "rejected", *_RESPONSES)),
    rows=rows,
    subset=subset,
)
