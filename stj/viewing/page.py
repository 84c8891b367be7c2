"""The page: one file with its style and its script, and, if it is written to a file, with its rows.

The policy allows only this script and this style, by their hashes, and only requests to the server that sent the page. Rows are
data in JSON; the script shows them as text alone.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np

from stj.evals.length_bins import LENGTH_BINS, length_bounds
from stj.viewing.assets import asset, content_policy, filled
from stj.viewing.columns import Whole
from stj.viewing.details import row_details
from stj.viewing.index import Index

ONE_FILE_ROWS = 2000
"""Rows that a page of one file holds at most; judged rows come first."""
ONE_FILE_TEXT = 20_000
"""Characters of each text in it; a longer one is cut, and says so."""


def policy(*, served: bool) -> str:
    """The Content-Security-Policy of a page."""
    connect = "'self'" if served else "'none'"
    return content_policy(script=asset("view.js"), style=_style(), connect=connect)


def page(name: str, data: Any = None) -> str:
    """The page for a place of this name; it asks the server for the rows if `data` is None."""
    block = "" if data is None else f'<script type="application/json" id="data">{_json(data)}</script>\n'
    values = {
        "policy": policy(served=data is None),
        "name": escape(name),
        "style": _style(),
        "script": asset("view.js"),
        "data": block,
        "lengths": "".join(_length_options()),
    }
    return filled(asset("page.html"), values)


def one_file(name: str, index: Index) -> str:
    """A page with its rows in it: at most ONE_FILE_ROWS of them, with texts of at most ONE_FILE_TEXT characters."""
    numbers = _first_judged(index)
    record, places = index.plain(numbers), numbers.tolist()
    rows = [row_details(index.id(number), index.judged(number), ONE_FILE_TEXT) for number in places]
    titles = [{"id": index.id(number), "title": index.title(number)} for number in places]
    contradictions = [place for place, row in enumerate(rows) if _contradicts(row)]
    return page(name, {"index": record, "titles": titles, "rows": rows, "contradictions": contradictions})


def _length_options() -> Iterator[str]:
    for name, (low, high) in zip(LENGTH_BINS, length_bounds(), strict=True):
        bounds = f"{'-Infinity' if low is None else low}:{'Infinity' if high is None else high}"
        yield f'<option value="{bounds}">better answer: {name}</option>'


def _contradicts(row: dict[str, Any]) -> bool:
    return any(judgment["contradiction"] for judge in row["judges"] for judgment in judge["judgments"])


def _first_judged(index: Index) -> Whole:
    judged = np.any([each.prefers > 0 for each in index.opinions] or [np.zeros(index.rows, dtype=bool)], axis=0)
    return np.sort(np.argsort(~judged, kind="stable")[:ONE_FILE_ROWS])


def _json(data: Any) -> str:
    """JSON in ASCII that no HTML parser can take for markup."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _style() -> str:
    return asset("base.css") + asset("view.css")
