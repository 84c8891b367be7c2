"""What was asked: null means that it was not, alike in JSONL, CSV (an empty cell) and Parquet (which fills absent members).

A judgment that is an empty text was asked, and has no verdict. CSV cannot hold one.
"""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from stj.errors import SourceError
from stj.evals.benchmarks.base import SourceRecord
from stj.evals.benchmarks.recorded_verdicts import TEXT_FIELDS
from stj.sources.files import kind_of
from stj.sources.truth import JUDGE_FIELDS

NOT_ASKED = "not asked"
"""Why a row has no verdicts: it holds no judgment, or only null."""

_AS_JSON = ("judgments", "results", "ratings", "styles", "votes", "num_correct")
"""Fields with lists, objects or numbers, which a CSV cell holds as JSON."""
_TEXTS = (*(name for names in TEXT_FIELDS for name in names), *JUDGE_FIELDS)
"""Fields with a text or a list of texts: a CSV cell holds the text as it is, and the list as JSON."""
_PRINTED_LIST = re.compile(r"\[\s*(?:['\"]|None\b|nan\b).*\]", re.DOTALL)
"""A list as Python prints it, with single quotes or without commas."""


def without_nulls(record: SourceRecord) -> SourceRecord:
    """The record without the fields that are null.

    Raises SourceError if a CSV cell holds a list of texts as Python prints it: such a cell cannot be told from a text.
    """
    values = {name: value for name, value in record.values.items() if value is not None}
    if _is_csv(record.origin):
        values = {name: _cell(name, value, record.where) for name, value in values.items() if value != ""}
    return record._replace(values=values)


@lru_cache(maxsize=64)
def _is_csv(origin: str) -> bool:
    return (kind_of(Path(origin)) or "").startswith(".csv")


def _cell(name: str, text: Any, where: str) -> Any:
    if name in _AS_JSON:
        return _json_value(text)
    if name not in _TEXTS or not text.startswith("["):
        return text
    value = _json_value(text)
    if isinstance(value, list) and all(isinstance(member, str | None) for member in value):
        return value
    if name not in JUDGE_FIELDS and _PRINTED_LIST.fullmatch(text):
        raise SourceError(
            f"{where}: field '{name}' is a list as Python prints it, {text[:40]!r}; write lists in a cell as JSON"
        )
    return text


def _json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # The field's own check names it.
        return text
