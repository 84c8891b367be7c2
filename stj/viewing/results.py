"""The results that `stj judge` wrote, as rows: one source for each juror, read and converted as Arrow columns.

A result holds a pair's id, the votes on it, and the better response if it is known: then verdicts are right or wrong. The pair
itself is in the file that was judged. With that file the page shows the instruction and the answers.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from stj.errors import SourceError
from stj.pair_fields import OWN_FIELDS, PairFields
from stj.rows import OPEN, ROW_SCHEMA
from stj.sources.ids import id_in_task
from stj.sources.responses import read_responses, read_winners
from stj.viewing.sources import Source, TableSource

_BLOCK_BYTES = 1 << 24  # Two blocks must hold a line; a pair with 32 votes an order takes about 200 kB.
_MOST_BLOCK_BYTES = (1 << 31) - 1  # Arrow takes no larger block.
_VOTE = pa.struct([(name, pa.string()) for name in ("shown_first", "verdict", "text", "thought")])
_TEXTS = ("id", "model", "prompt", "error", "subset", "winner")
_SCHEMA = pa.schema([*((name, pa.string()) for name in _TEXTS), ("votes", pa.list_(_VOTE))])
_JUDGMENTS = ROW_SCHEMA.field("judgments").type
_TASK = "judged"
_KNOWN = "given"
"""`method` of a pair whose better response the file names."""


def read_results(file: Path, pairs: str | None, fields: PairFields = OWN_FIELDS) -> list[Source]:
    """One source for each model and prompt. Raises SourceError if a file cannot be read or does not hold what it should."""
    results = _read(file)
    known = _pairs_table(pairs, fields) if pairs else None
    jurors = pc.binary_join_element_wise(results["model"], results["prompt"], " ").combine_chunks()
    each = [results.filter(pc.equal(jurors, juror)) for juror in pc.unique(jurors).to_pylist()]
    return [TableSource(_judged(table.combine_chunks(), known, file), _name(table)) for table in each]


def _name(table: pa.Table) -> str:
    return " ".join(filter(None, (table["model"][0].as_py(), table["prompt"][0].as_py()))) or "judge"


def _read(file: Path) -> pa.Table:
    try:
        table = _table(file)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"{file}: not a file of results that `stj judge` wrote: {reason}") from None
    if not table.num_rows or pc.all(pc.is_null(table["votes"])).as_py() or pc.any(pc.is_null(table["id"])).as_py():
        raise SourceError(f"{file}: not a file of results that `stj judge` wrote: its rows need 'id' and 'votes'")
    filled = [pc.fill_null(table[name], "") for name in ("model", "prompt")]
    return table.set_column(1, "model", filled[0]).set_column(2, "prompt", filled[1])


def _table(file: Path) -> pa.Table:
    """The file in blocks, which threads parse side by side; in a single block if a line is longer than two of them."""
    options = pj.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    try:
        return pj.read_json(file, read_options=pj.ReadOptions(block_size=_BLOCK_BYTES), parse_options=options)
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error):
            raise
    whole = min(file.stat().st_size, _MOST_BLOCK_BYTES)
    return pj.read_json(file, read_options=pj.ReadOptions(block_size=whole), parse_options=options)


def _pairs_table(pairs: str, fields: PairFields) -> pa.Table:
    """The judged pairs, the better response first if it is known; `second` marks those whose second response it is."""
    winners = read_winners(pairs, fields)
    columns: dict[str, list[Any]] = {name: [] for name in ("id", "turns", "pair", "dropped", "second")}
    for row in read_responses(pairs, (_TASK,), fields):
        row_id = id_in_task(row)
        winner = winners[row_id]
        assert row.pair is not None, f"pair {row_id} has no responses"
        answers = (row.pair.chosen, row.pair.rejected)[:: -1 if winner == "B" else 1]
        pair = {"method": _KNOWN if winner else OPEN, "chosen": answers[0], "rejected": answers[1]}
        turns = [{"role": turn.role, "content": turn.content} for turn in row.turns]
        for name, value in zip(columns, (row_id, turns, pair, row.dropped, winner == "B"), strict=True):
            columns[name].append(value)
    types = {name: pa.bool_() if name == "second" else ROW_SCHEMA.field(name).type for name in columns}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def _judged(results: pa.Table, pairs: pa.Table | None, file: Path) -> pa.Table:
    """One juror's results as a table of ROW_SCHEMA."""
    size = results.num_rows
    columns = {field.name: pa.nulls(size, field.type) for field in ROW_SCHEMA}
    columns |= {field.name: pa.array([[]] * size, field.type) for field in ROW_SCHEMA if pa.types.is_list(field.type)}
    known, second = pc.is_valid(results["winner"]), pc.equal(results["winner"], "B")
    if pc.any(known).as_py():
        columns["pair"] = _no_texts(known)
    if pairs is not None:  # it may lack some of them
        shown = pairs.take(_places(results, pairs, file))
        columns |= {name: pc.coalesce(shown[name], columns[name]) for name in ("turns", "pair", "dropped")}
        second = pc.coalesce(shown["second"], second)
    columns |= {
        "id": results["id"],
        "position": pa.array(np.arange(size)),
        "task": pa.array([_TASK] * size),
        "subset": results["subset"],
        "error": results["error"],
        "judgments": _judgments(results["votes"].combine_chunks(), pc.fill_null(second, fill_value=False).to_numpy()),
        **{name: pa.array(np.zeros(size, dtype=int)) for name in ("prompt_tokens", "output_tokens", "surplus_tokens")},
    }
    return pa.table([columns[field.name] for field in ROW_SCHEMA], names=ROW_SCHEMA.names).cast(ROW_SCHEMA)


def _places(results: pa.Table, pairs: pa.Table, file: Path) -> pa.Array:
    """The place of each result's pair. An id that repeats in the file of pairs has its subset before it there."""
    ids = pairs["id"].combine_chunks()
    escaped = pc.replace_substring(pc.replace_substring(pc.fill_null(results["subset"], ""), "%", "%25"), "/", "%2F")
    in_subset = pc.index_in(pc.binary_join_element_wise(escaped, results["id"], "/"), value_set=ids)
    places = pc.coalesce(in_subset, pc.index_in(results["id"], value_set=ids))
    if pc.all(pc.is_null(places)).as_py():
        raise SourceError(f"{file}: none of its ids is in the file that --pairs names")
    return places


def _no_texts(known: pa.ChunkedArray) -> pa.Array:
    """Pairs whose texts the results do not hold; only which response is better, where it is `known`."""
    empty = [{"method": _KNOWN, "chosen": "", "rejected": ""} if is_known else None for is_known in known.to_pylist()]
    return pa.array(empty, ROW_SCHEMA.field("pair").type)


def _judgments(votes: pa.ListArray, second: np.ndarray) -> pa.ListArray:
    """Votes as judgments. A vote names responses; a judgment names the labels under which they were shown.

    `second` marks the rows whose second response is the better one: it becomes the row's first answer.
    """
    flat = pc.list_flatten(votes)
    parents = pc.list_parent_indices(votes).to_numpy(zero_copy_only=False)
    shown, verdict = pc.struct_field(flat, "shown_first"), pc.struct_field(flat, "verdict")
    first = pa.array(np.where(second, "B", "A")[parents], pa.string())
    number = np.arange(len(flat)) - votes.offsets.to_numpy()[parents]
    fields = {
        "purpose": pa.array(["sampled"] * len(flat)),
        "winner": pc.if_else(pc.equal(shown, first), "A", "B"),
        "index": pa.array(number // 2),
        "text": pc.fill_null(pc.struct_field(flat, "text"), ""),
        "verdict": pc.if_else(
            pc.is_null(verdict), pa.scalar(None, pa.string()), pc.if_else(pc.equal(shown, verdict), "A", "B")
        ),
        "finish_reason": pa.array(["stop"] * len(flat)),
        "output_tokens": pa.nulls(len(flat), pa.int32()),
        "thought": pc.fill_null(pc.struct_field(flat, "thought"), ""),
    }
    wanted = _JUDGMENTS.value_type
    values = [pc.cast(fields.get(field.name, pa.nulls(len(flat), field.type)), field.type) for field in wanted]
    offsets = pa.array(np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(votes), 0).to_numpy())]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(values, fields=list(wanted)))
