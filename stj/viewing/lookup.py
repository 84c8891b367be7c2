"""Questions to all rows that need their texts: a search, and the judgments that contradict their own words."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stj.evals.contradictions import contradicted
from stj.viewing.columns import field_at
from stj.viewing.index import Index

_TEXTS = ("id", "pair.chosen", "pair.rejected", "turns.content", "candidates.answers", "judgments.text", "judgments.thought")
_VERDICTS = ("judgments.purpose", "judgments.text", "judgments.verdict")
_Holds = Callable[[pa.RecordBatch], NDArray[np.bool_]]
"""For each row of a batch whether it is wanted."""


def search(index: Index, text: str) -> list[int]:
    """The numbers of the rows whose texts or ids hold this text, in upper or lower case."""

    def holds(batch: pa.RecordBatch) -> NDArray[np.bool_]:
        wanted = np.zeros(batch.num_rows, dtype=bool)
        for parents, texts in _texts(batch):
            hits = pc.fill_null(pc.match_substring(texts, text, ignore_case=True), fill_value=False)
            wanted[parents[hits.to_numpy(zero_copy_only=False)]] = True
        return wanted

    return _rows(index, _TEXTS, holds)


def contradicting(index: Index) -> list[int]:
    """The numbers of the rows with a judgment whose verdict contradicts its last sentence."""

    def holds(batch: pa.RecordBatch) -> NDArray[np.bool_]:
        wanted = np.zeros(batch.num_rows, dtype=bool)
        if "judgments" in batch.schema.names:
            parents, judgments = _flat(batch.column("judgments"))
            for parent, judgment in zip(parents, judgments.to_pylist(), strict=True):
                rated = judgment["purpose"] == "rating"
                wanted[parent] |= not rated and contradicted(judgment["text"], judgment["verdict"]) is not None
        return wanted

    return _rows(index, _VERDICTS, holds)


def _rows(index: Index, fields: Sequence[str], holds: _Holds) -> list[int]:
    wanted = np.zeros(index.rows, dtype=bool)
    for source in {id(sheet.source): sheet.source for sheet in index.sheets}.values():
        hits = [holds(batch) for batch in source.batches(fields)]
        if hits:
            wanted[index.numbers_of(source, np.flatnonzero(np.concatenate(hits)))] = True
    return [int(number) for number in np.flatnonzero(wanted)]


def _texts(batch: pa.RecordBatch) -> Iterator[tuple[NDArray[np.int64], pa.Array]]:
    """All texts of a batch, and the row of each."""
    for name in ("id", "pair.chosen", "pair.rejected"):
        yield np.arange(batch.num_rows), pc.cast(field_at(batch, name), pa.string())
    for name, inner in (("turns", ("content",)), ("judgments", ("text", "thought"))):
        if name in batch.schema.names:
            parents, values = _flat(batch.column(name))
            for field in inner:
                if values.type.get_field_index(field) >= 0:
                    yield parents, pc.struct_field(values, field)
    answers = field_at(batch, "candidates.answers")
    if pa.types.is_list(answers.type):
        yield _flat(answers)


def _flat(lists: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    return pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), pc.list_flatten(lists)
