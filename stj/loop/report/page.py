"""The page of a report, and its files. The page needs neither network nor scripts, and prints."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from markupsafe import Markup

from stj.loop.report.changes import changes_table
from stj.loop.report.data_tables import (
    categories_table,
    dashboard_table,
    data_table,
    dropped_table,
    graded_table,
    parsers_table,
    sources_table,
)
from stj.loop.report.headline import grades_lift, headline, lift
from stj.loop.report.iteration import IterationReport, heldout_subsets
from stj.loop.report.iteration_plots import iteration_plots
from stj.loop.report.judge_tables import accuracy_table, attack_table, comparisons_table, grades_table, subsets_table
from stj.loop.report.notes import benchmark_notes, data_notes, grade_notes, heldout_notes, suspect_notes
from stj.loop.report.panel_tables import panel_agreement_table, panel_table
from stj.loop.report.settings import settings_of
from stj.loop.report.templates import render, source
from stj.storage.folder import Folder, json_bytes

_NOT_SHOWN = {"config", "samples", "fingerprints"}
"""Facts about a run that have a part of the page of their own, or say nothing to a reader."""
_MOST_SUBSETS = 200  # A page with more is slow to read; report.json has them.
_HEADING = re.compile(r'<h2 id="(?P<id>[\w-]+)">(?P<title>[^<]+)</h2>')


class Part(Protocol):
    """A part of the report with numbers and a section of its own."""

    @property
    def name(self) -> str:
        """Its key in report.json."""

    def plain(self) -> Any:
        """Its numbers as JSON values; None leaves it out of report.json."""

    def html(self) -> Markup:
        """Its section, which begins with `<h2 id="...">`; empty if it has nothing to say."""


def write_report(
    folder: Folder, run: dict[str, Any], iterations: Sequence[IterationReport], parts: Sequence[Part] = ()
) -> None:
    """Writes report.json and report.html, unless they hold the same already.

    `run` holds JSON values: facts about the run, its resolved settings as `config`, and a few judgments to show as `samples`.
    A sample has instruction, chosen, rejected, judge, thought, text, verdict and winner. `parts` are in the order of the page.
    """
    for name, content in report_files(run, iterations, parts).items():
        folder.keep(name, content)


def report_files(run: dict[str, Any], iterations: Sequence[IterationReport], parts: Sequence[Part] = ()) -> dict[str, bytes]:
    """The content of the report's files, by name."""
    numbers = {part.name: plain for part in parts if (plain := part.plain()) is not None}
    record = {"run": run, "iterations": [asdict(iteration) for iteration in iterations], **numbers}
    return {
        "report.json": json_bytes(record),
        "report.html": html(run, iterations, parts).encode(errors="backslashreplace"),
    }


def html(run: Mapping[str, Any], iterations: Sequence[IterationReport], parts: Sequence[Part] = ()) -> str:
    """The report as one page."""
    judges = _judges(iterations)
    body = render("body.html.jinja", parts=[part.html() for part in parts], **judges, **_run(run))
    return render(
        "page.html.jinja",
        title=lift(iterations),
        style=Markup(source("page.css")),  # ours, without anything from data
        top=render("top.html.jinja", **judges),
        sections=[(match["id"], Markup(match["title"])) for match in _HEADING.finditer(body)],
        body=body,
    )


def _judges(iterations: Sequence[IterationReport]) -> dict[str, Any]:
    """What the page says of the judges and of their training data."""
    measured = [iteration.heldout for iteration in iterations if iteration.heldout]
    graded = [iteration.heldout_grades for iteration in iterations if iteration.heldout_grades]
    return {
        "headline": headline(iterations),
        "alarms": [(iteration.judge, alarm) for iteration in iterations for alarm in iteration.alarms],
        "first": measured[0] if measured else None,
        "last": measured[-1] if len(measured) > 1 else None,
        "accuracy": accuracy_table(iterations, page=True),
        "subsets": subsets_table(iterations, _MOST_SUBSETS),
        "more_subsets": len(heldout_subsets(iterations)) > _MOST_SUBSETS,
        "heldout_notes": list(heldout_notes(iterations)),
        "grades": grades_table(iterations, page=True),
        "grades_lift": grades_lift(iterations),
        "graded": graded[0] if graded else None,
        "grade_notes": list(grade_notes(iterations)),
        "changes": changes_table(iterations),
        "comparisons": comparisons_table(iterations, page=True),
        "benchmark_notes": list(benchmark_notes(iterations)),
        "attacks": attack_table(iterations, page=True),
        "plots": iteration_plots(iterations),
        **_training_data(iterations),
    }


def _training_data(iterations: Sequence[IterationReport]) -> dict[str, Any]:
    return {
        "data": data_table(iterations, page=True),
        "data_notes": [*data_notes(iterations), *suspect_notes(iterations)],
        "sources": sources_table(iterations),
        "panel": panel_table(iterations),
        "panel_agreement": panel_agreement_table(iterations),
        "data_grades": graded_table(iterations, page=True),
        "dashboard": dashboard_table(iterations, page=True),
        "categories": categories_table(iterations),
        "parsers": parsers_table(iterations),
        "dropped": dropped_table(iterations),
        "dropped_known": any(iteration.dropped is not None for iteration in iterations),
    }


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the run as a whole."""
    return {
        "facts": {key: value for key, value in run.items() if key not in _NOT_SHOWN},
        "settings": settings_of(run.get("config") or {}),
        "samples": run.get("samples") or [],
    }
