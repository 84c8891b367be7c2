"""The templates of the report. All that comes from data is escaped."""

from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from stj.evals.table import interval, percent
from stj.loop.report.excerpt import cut_text
from stj.loop.report.html_table import html_table
from stj.loop.report.words import number, written
from stj.text import visible


def render(name: str, **values: object) -> Markup:
    """A part of the page from a template beside this module."""
    return Markup(_environment().get_template(name).render(**values))


def source(name: str) -> str:
    """A file beside this module."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(source),
    )
    environment.filters.update(
        percent=percent, interval=interval, number=number, written=written, visible=visible, cut=cut_text, table=html_table
    )
    return environment
