"""A table as HTML: heads that name their column or row for a screen reader, with the definition of the word as a hint.

It scrolls sideways in its own box if the window is narrow; on paper its cells wrap. A table with a column for each judge of a
long run is wider than any paper: it continues below, as on a terminal.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from markupsafe import Markup, escape

from stj.errors import ConfigError
from stj.glossary import explain
from stj.text import Column, Table

_MOST_COLUMNS = 12  # beside the first: as many have room on paper, with their intervals below the values
_WITH_INTERVAL = re.compile(r"(?P<value>.*\S) (?P<soft>[\[(].*[\])])")


def html_table(table: Table, caption: str, *, words: bool = False) -> Markup:
    """The table; empty without rows. The caption is read aloud and not shown: a heading or a sentence stands above.

    `words` says that the rows are named by words of `stj explain`, and not by data.
    """
    if not table.rows:
        return Markup()
    hints = [definition(row[0]) if words else "" for row in table.rows]
    grouped = sum(bool(column.group) for column in table.columns) > 1  # A single name says no more than the heading above.
    return Markup("".join(_part(part, caption, hints, grouped=grouped) for part in _parts(table)))


def _parts(table: Table) -> Iterator[Table]:
    """The table, in parts if it is too wide for paper; each repeats the first column, and no group is torn."""
    starts = [place for place, column in enumerate(table.columns) if column.group and place]
    ends = [*(starts[1:] if len(starts) > 1 else range(2, len(table.columns))), len(table.columns)]
    first = 1
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or following - first > _MOST_COLUMNS:
            places = [0, *range(first, end)]
            rows = [[row[place] for place in places] for row in table.rows]
            yield Table(columns=[table.columns[place] for place in places], rows=rows)
            first = end


def _part(table: Table, caption: str, hints: Sequence[str], *, grouped: bool) -> str:
    groups = _groups(table) if grouped else ""
    body = "".join(_row(row, hint) for row, hint in zip(table.rows, hints, strict=True))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead>{groups}<tr>{''.join(map(_head, table.columns))}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def definition(word: str) -> str:
    """What `stj explain` says of a word; empty for a word that the data names."""
    with suppress(ConfigError):
        return explain(word).text.replace("`", "")
    return ""


def _head(column: Column) -> str:
    title = _title(definition(column.word or column.name))
    lines = "<br>".join(str(escape(line)) for line in (column.upper, column.lower) if line)
    return f'<th scope="col"{title}>{lines}</th>'


def _groups(table: Table) -> str:
    """The names of the groups above their columns."""
    starts = [place for place, column in enumerate(table.columns) if column.group]
    return f'<tr class="groups">{"".join(_group_heads(table, starts))}</tr>'


def _group_heads(table: Table, starts: list[int]) -> Iterator[str]:
    yield f'<td colspan="{starts[0]}"></td>'
    for start, end in zip(starts, [*starts[1:], len(table.columns)], strict=True):
        yield f'<th scope="colgroup" colspan="{end - start}">{escape(table.columns[start].group)}</th>'


def _title(hint: str) -> str:
    return f' title="{escape(hint)}"' if hint else ""


def _row(cells: Sequence[str], hint: str) -> str:
    name, *others = cells
    return f'<tr><th scope="row" dir="auto"{_title(hint)}>{escape(name)}</th>{"".join(map(_cell, others))}</tr>'


def _cell(text: str) -> str:
    match = _WITH_INTERVAL.fullmatch(text)
    inner = f"{escape(match['value'])} <i>{escape(match['soft'])}</i>" if match else str(escape(text))
    return f"<td>{inner}</td>"
