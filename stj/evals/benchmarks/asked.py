"""What was asked: null means that it was not, alike in JSONL, CSV (an empty cell) and Parquet (which fills absent members).

A judgment that is an empty text was asked, and has no verdict. CSV cannot hold one.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from stj.evals.benchmarks.base import SourceRecord
from stj.sources.files import kind_of

NOT_ASKED = "not asked"
"""Why a row has no verdicts: it holds no judgment, or only null."""

_AS_JSON = ("judgments", "results", "ratings", "styles", "votes", "num_correct")
"""Fields with lists, objects or numbers, which a CSV cell holds as JSON."""


def without_nulls(record: SourceRecord) -> SourceRecord:
    """The record without the fields that are null."""
    values = {name: value for name, value in record.values.items() if value is not None}
    if _is_csv(record.origin):
        values = {name: _cell(name, value) for name, value in values.items() if value != ""}
    return record._replace(values=values)


@lru_cache(maxsize=64)
def _is_csv(origin: str) -> bool:
    return (kind_of(Path(origin)) or "").startswith(".csv")


def _cell(name: str, text: Any) -> Any:
    if name not in _AS_JSON:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # The field's own check names it.
        return text
