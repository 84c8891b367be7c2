"""The tables of a run for the terminal: how good each judge is, how sure that is, and the training data that it made."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from stj.evals.table import accuracy_line
from stj.loop.report.data_tables import dashboard_table, data_table, graded_table, sources_table
from stj.loop.report.headline import grades_lift, lift
from stj.loop.report.iteration import IterationReport
from stj.loop.report.judge_tables import accuracy_table, attack_table, comparisons_table, grades_table, subsets_table
from stj.loop.report.notes import (
    alarm_notes,
    benchmark_notes,
    category_notes,
    data_notes,
    grade_notes,
    heldout_notes,
    parser_notes,
)
from stj.loop.report.panel_tables import panel_agreement_table, panel_table
from stj.text import WIDTH, Table

_MOST_SUBSETS = 12  # More have no room on a terminal; the page has them.


def tables(iterations: Sequence[IterationReport], clues: Table | None = None) -> list[Table]:
    """The tables of a run that have rows, with that of its clues; the note of the last one ends with the lift."""
    made = [
        accuracy_table(iterations),
        subsets_table(iterations, _MOST_SUBSETS),
        grades_table(iterations),
        comparisons_table(iterations),
        attack_table(iterations),
        data_table(iterations),
        graded_table(iterations),
        sources_table(iterations),
        panel_table(iterations),
        panel_agreement_table(iterations),
        dashboard_table(iterations),
        *([clues] if clues else []),
    ]
    shown = [table for table in made if table.rows] or made[:1]
    lines = (line for note in _notes(iterations) for line in textwrap.wrap(note, WIDTH, subsequent_indent="  "))
    return [*shown[:-1], replace(shown[-1], note="\n".join(lines))]


def _notes(iterations: Sequence[IterationReport]) -> Iterator[str]:
    """What an accuracy is, then what was accepted, learned and not scored, the alarms, and last the lift."""
    if any(iteration.heldout or iteration.benchmarks for iteration in iterations):
        yield " ".join(accuracy_line().split())
    for notes in (category_notes, data_notes, parser_notes, heldout_notes, benchmark_notes, grade_notes, alarm_notes):
        yield from notes(iterations)
    yield from dict.fromkeys(line for line in (lift(iterations), grades_lift(iterations)) if line)
