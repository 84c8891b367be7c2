"""The light columns of rows: all that filters and lists need, without the long texts.

They are computed batch by batch with Arrow and NumPy. A hundred thousand rows take well under a second.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stj.rows import WITHOUT_BETTER
from stj.viewing.sources import Source

Whole = NDArray[np.int64]
TITLE = 160  # characters of an instruction in a list
UNKNOWN_DIFFERENCE = -(2**31)
"""The length difference of a row without two answers."""
_LABELS = "ABCD"
FIRST, SECOND, NEITHER, UNREAD = range(4)
"""What a verdict is for: the row's first answer (the better one, if it is known), another answer, neither, or unreadable."""
_FIELDS = (
    *("id", "task", "subset", "turns.content", "dropped", "error"),
    *("category.name", "category.complexity", "category.length"),
    *("pair.method", "pair.chosen", "pair.rejected", "candidates.good"),
    *("judgments.purpose", "judgments.winner", "judgments.verdict"),
)
FACTS = ("task", "subset", "category", "complexity", "length", "state")
"""Names of the texts by which rows are filtered."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The rows of one source, as columns of equal length."""

    ids: pa.Array
    titles: pa.Array
    """The last turn of the instruction, its first characters."""
    facts: dict[str, pa.Array]
    """By the names FACTS; null where there is none."""
    answers: NDArray[np.bool_]
    """Whether the row has answers."""
    known: NDArray[np.bool_]
    """Whether it is known that its first answer is the better one."""
    difference: Whole
    """Characters of the first answer minus those of the second, or UNKNOWN_DIFFERENCE."""
    counts: Whole
    """Judgments, shape (rows, 4, 4): by the label under which the first answer was shown, and by FIRST ... UNREAD."""


def columns_of(source: Source) -> Columns:
    """The columns of all rows of a source."""
    batches = [_columns(batch) for batch in source.batches(_FIELDS) if batch.num_rows]
    if not batches:
        return _columns(pa.RecordBatch.from_pylist([], schema=pa.schema([("id", pa.string()), ("task", pa.string())])))
    return Columns(
        ids=pa.chunked_array([columns.ids for columns in batches]).combine_chunks(),
        titles=pa.chunked_array([columns.titles for columns in batches]).combine_chunks(),
        facts={name: pa.chunked_array([columns.facts[name] for columns in batches]).combine_chunks() for name in FACTS},
        answers=np.concatenate([columns.answers for columns in batches]),
        known=np.concatenate([columns.known for columns in batches]),
        difference=np.concatenate([columns.difference for columns in batches]),
        counts=np.concatenate([columns.counts for columns in batches]),
    )


def _columns(batch: pa.RecordBatch) -> Columns:
    task = field_at(batch, "task")
    method = field_at(batch, "pair.method")
    paired, several = _is_valid(method), _is_valid(field_at(batch, "candidates.good"))
    state = pc.if_else(_judged(batch), "judged", "not judged")
    state = pc.if_else(
        pc.is_valid(field_at(batch, "dropped")), pc.binary_join_element_wise("dropped", field_at(batch, "dropped"), ": "), state
    )
    state = pc.if_else(pc.is_valid(field_at(batch, "error")), "failed", state)
    facts = {
        "task": task,
        "subset": field_at(batch, "subset"),
        "category": field_at(batch, "category.name"),
        "complexity": pc.cast(field_at(batch, "category.complexity"), pa.string()),
        "length": field_at(batch, "category.length"),
        "state": state,
    }
    return Columns(
        ids=field_at(batch, "id"),
        titles=_titles(batch),
        facts={name: pc.cast(values, pa.string()) for name, values in facts.items()},
        answers=paired | several,
        known=several | (paired & ~_numpy(pc.fill_null(pc.is_in(method, pa.array(WITHOUT_BETTER)), fill_value=True))),
        difference=_difference(batch),
        counts=_counts(batch),
    )


def field_at(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A field, by its dotted name; nulls if the rows have no such field."""
    first, *inner = name.split(".")
    if first not in batch.schema.names:
        return pa.nulls(batch.num_rows, pa.string())
    return reduce(_field, inner, batch.column(first))


def _field(values: pa.Array, name: str) -> pa.Array:
    if not pa.types.is_struct(values.type) or values.type.get_field_index(name) < 0:
        return pa.nulls(len(values), pa.string())
    return pc.struct_field(values, name)


def _titles(batch: pa.RecordBatch) -> pa.Array:
    turns = batch.column("turns") if "turns" in batch.schema.names else None
    if turns is None:
        return pa.nulls(batch.num_rows, pa.string())
    offsets = turns.offsets.to_numpy()
    ends = np.where(offsets[1:] > offsets[:-1], offsets[1:] - 1, -1)
    places = pa.array(ends, mask=ends < 0)
    return pc.utf8_slice_codeunits(_field(turns.values, "content").take(places), 0, TITLE)


def _difference(batch: pa.RecordBatch) -> Whole:
    first, second = (pc.utf8_length(pc.cast(field_at(batch, f"pair.{name}"), pa.string())) for name in ("chosen", "rejected"))
    difference = pc.subtract(pc.cast(first, pa.int64()), pc.cast(second, pa.int64()))
    no_texts = pc.equal(pc.max_element_wise(first, second), 0)  # results of `stj judge` without their pairs
    return _numpy(pc.fill_null(pc.if_else(no_texts, UNKNOWN_DIFFERENCE, difference), UNKNOWN_DIFFERENCE))


def _judged(batch: pa.RecordBatch) -> pa.Array:
    if "judgments" not in batch.schema.names:
        return pa.array(np.zeros(batch.num_rows, dtype=bool))
    return pc.fill_null(pc.greater(pc.list_value_length(batch.column("judgments")), 0), fill_value=False)


def _counts(batch: pa.RecordBatch) -> Whole:
    shape = (batch.num_rows, len(_LABELS), 4)
    if "judgments" not in batch.schema.names or not batch.num_rows:
        return np.zeros(shape, dtype=np.int64)
    lists = batch.column("judgments")
    parents = _numpy(pc.list_parent_indices(lists))
    judgments = pc.list_flatten(lists)
    purpose, winner, verdict = (pc.cast(_field(judgments, name), pa.string()) for name in ("purpose", "winner", "verdict"))
    shown = _place(winner)
    kind = np.full(len(parents), NEITHER)
    kind[_place(verdict) >= 0] = SECOND
    kind[_numpy(pc.fill_null(pc.equal(winner, verdict), fill_value=False))] = FIRST
    kind[~_is_valid(verdict)] = UNREAD
    rated = _numpy(pc.fill_null(pc.equal(purpose, "rating"), fill_value=False))
    kind[rated & (kind != UNREAD)] = NEITHER  # a rating of one answer prefers none
    flat = np.bincount(parents * 16 + np.maximum(shown, 0) * 4 + kind, minlength=batch.num_rows * 16)
    return flat.astype(np.int64).reshape(shape)


def _place(labels: pa.Array) -> Whole:
    """The place of each label among A to D; -1 for any other text and for null."""
    return _numpy(pc.fill_null(pc.index_in(labels, value_set=pa.array(list(_LABELS))), -1)).astype(np.int64)


def _is_valid(values: pa.Array) -> NDArray[np.bool_]:
    return _numpy(pc.is_valid(values))


def _numpy(values: pa.Array) -> NDArray[Any]:
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array
