"""Any file of pairs, a private benchmark: instruction, response_a, response_b and winner, or instruction, chosen and rejected.

`winner` is A or B (also response_a, model_a and the like); `id` and `subset` may be given. Ties are not allowed.
"""

from collections.abc import Iterable, Iterator

from stj.evals.benchmarks.base import Benchmark, SourceRecord, better_of, identity, pair_row
from stj.rows import Row
from stj.sources.dialogue import text_of, turns_from
from stj.sources.files import Fields
from stj.sources.ids import Seen, numbered

NAME = "pairs"
_RESPONSES = ("response_a", "response_b", "winner")


def rows(found: Iterable[SourceRecord]) -> Iterator[Row]:
    """Rows of pairs."""
    seen = Seen()
    for position, one in enumerate(found):
        part = subset(one)
        named = {**one.record, "id": one.record.get("id") if one.record.get("id") is not None else numbered(position)}
        row_id = identity(one._replace(record=named), "id", part, seen)
        turns = turns_from(one.record["instruction"], "instruction", one.where)
        yield pair_row(NAME, position, row_id, part, turns, *_answers(one))


def _answers(found: SourceRecord) -> tuple[str, str]:
    """The better answer and the worse one."""
    chosen_named = any(found.record.get(name) is not None for name in ("chosen", "rejected"))
    names = ("chosen", "rejected") if chosen_named else _RESPONSES
    Fields(required=names).check(found.record, found.where)
    first, second = (text_of(found.record[name], name, found.where) for name in names[:2])
    return (first, second) if chosen_named or better_of(found, "winner") == "A" else (second, first)


def subset(found: SourceRecord) -> str:
    """The record's own, or "all"."""
    given = found.record.get("subset")
    return "all" if given is None else text_of(given, "subset", found.where)


PAIRS = Benchmark(
    name=NAME,
    hub=(),
    fields=Fields(required=("instruction",), optional=("id", "subset", "chosen", "rejected", *_RESPONSES)),
    rows=rows,
    subset=subset,
)
