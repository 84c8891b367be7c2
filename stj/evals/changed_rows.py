"""The rows on which two judges differ: right in A and wrong in B, and the other way round. Right is right in all orders."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from stj.rows import Row
from stj.sources.ids import id_in_task
from stj.text import visible_line

_SHORT = 60  # characters of an instruction beside its id, so that both fit on a line


@dataclass(frozen=True, kw_only=True)
class ChangedRow:
    """A row that one judge judged right, and the other did not."""

    id: str
    """The id under which `stj view` finds it."""
    instruction: str
    """The start of its last turn."""


@dataclass(frozen=True, kw_only=True)
class ChangedRows:
    """All rows on which two judges differ, by id."""

    only_a: tuple[ChangedRow, ...] = ()
    """Right in A, not in B."""
    only_b: tuple[ChangedRow, ...] = ()
    """Right in B, not in A."""


def changed_rows(right_a: Mapping[str, bool], right_b: Mapping[str, bool], rows: Iterable[Row]) -> ChangedRows:
    """The changes among the examples that both judged. An example's key ends with the id of its row in its task."""
    shared = sorted(right_a.keys() & right_b.keys())
    changed = [key for key in shared if right_a[key] != right_b[key]]
    named = _named(changed, rows)
    return ChangedRows(
        only_a=tuple(named[key] for key in changed if right_a[key]),
        only_b=tuple(named[key] for key in changed if right_b[key]),
    )


def changed_lines(benchmark: str, changed: ChangedRows, limit: int) -> Iterator[str]:
    """At most `limit` rows of each kind, for a reader."""
    for where, rows in (("right in A, not in B", changed.only_a), ("right in B, not in A", changed.only_b)):
        if rows and limit:
            rest = f"; the first {limit:,}" if len(rows) > limit else ""
            yield f"{benchmark}, {where}: {len(rows):,} row{'s' if len(rows) > 1 else ''}{rest}"
            for row in rows[:limit]:
                yield f"  {visible_line(row.id)}  {visible_line(row.instruction)}".rstrip()


def _named(keys: list[str], rows: Iterable[Row]) -> dict[str, ChangedRow]:
    """The row of each key: the one with the longest id that the key ends with, else only the key without its subset."""
    by_ending: dict[str, list[str]] = {}
    for key in keys:
        parts = key.split("/")
        for start in range(len(parts)):
            by_ending.setdefault("/".join(parts[start:]), []).append(key)
    named = {key: ChangedRow(id=key.partition("/")[2] or key, instruction="") for key in keys}
    longest = dict.fromkeys(keys, 0)
    for row in rows:
        row_id = id_in_task(row)
        for key in by_ending.get(row_id, ()):
            if len(row_id) > longest[key]:
                longest[key] = len(row_id)
                named[key] = ChangedRow(id=row.id, instruction=_short(row))
    return named


def _short(row: Row) -> str:
    words = " ".join(row.turns[-1].content[: 4 * _SHORT].split()) if row.turns else ""
    return words if len(words) <= _SHORT else f"{words[: _SHORT - 1]}…"
