"""The page: one file with its style and its script, and, if it is written to a file, with its rows.

The policy allows only this script and this style, by their hashes, and only requests to the server that sent the page. Rows are
data in JSON; the script shows them as text alone.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from stj.evals.length_bins import LENGTH_BINS, length_bounds
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
    return (
        f"default-src 'none'; script-src '{_hash('view.js')}'; style-src '{_hash('view.css')}'; connect-src {connect}; "
        "base-uri 'none'; form-action 'none'"
    )


def page(name: str, data: Any = None) -> str:
    """The page for a place of this name; it asks the server for the rows if `data` is None."""
    block = "" if data is None else f'<script type="application/json" id="data">{_json(data)}</script>\n'
    filled = {
        "policy": policy(served=data is None),
        "name": escape(name),
        "style": _asset("view.css"),
        "script": _asset("view.js"),
        "data": block,
        "lengths": "".join(_length_options()),
    }
    parts = _asset("page.html").replace("}}", "{{").split("{{")
    return "".join(filled[part.strip()] if place % 2 else part for place, part in enumerate(parts))


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


def _hash(asset: str) -> str:
    digest = hashlib.sha256(_asset(asset).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
