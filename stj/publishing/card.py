"""Cards: Markdown from templates. Names and notes in them come from data, and must not become markup."""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from stj.evals.intervals import Interval
from stj.evals.table import NONE, interval, percent
from stj.text import visible_line

_MARKUP = re.compile(r"([\\`*_\[\]<>|#])")
_BLANK_LINES = re.compile(r"\n{3,}")


def render(template: str, **values: Any) -> bytes:
    """The content of a card."""
    text = _environment().from_string(files(__package__).joinpath(template).read_text(encoding="utf-8")).render(**values)
    return (_BLANK_LINES.sub("\n\n", text).rstrip() + "\n").encode(errors="replace")


def _line(text: str) -> str:
    """A text as one line, in which only angle brackets are escaped."""
    return visible_line(text).replace("<", "&lt;")


def _cell(text: str) -> str:
    """A text for a cell of a table, of which nothing is markup."""
    return _MARKUP.sub(r"\\\1", visible_line(text))


def _decimal(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _ends(ends: Interval | None) -> str:
    return "" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, interval=interval, count=lambda number: f"{number:,}", line=_line, cell=_cell)
    environment.filters.update(decimal=_decimal, ends=_ends, quoted=lambda text: json.dumps(text, ensure_ascii=False))
    return environment
