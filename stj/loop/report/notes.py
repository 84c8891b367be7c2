"""Sentences of a report: what its tables have no room for. The terminal and the page share them."""

from collections.abc import Iterator, Sequence

from stj.evals.table import percent
from stj.loop.clue_balance import balance_words
from stj.loop.counts import by_parser, rescue_words
from stj.loop.label_flags import noise_words
from stj.loop.mixing import mixing_words
from stj.loop.panel_figures import panel_words
from stj.loop.report.data_tables import counted
from stj.loop.report.iteration import IterationReport, training_sets
from stj.loop.report.words import number

_Judges = Sequence[IterationReport]


def category_notes(iterations: _Judges) -> Iterator[str]:
    """What was accepted in each category; the page has a table of it."""
    for judge, data in training_sets(iterations):
        if data.dashboard and len(data.dashboard.by_category) > 1:
            shares = (f"{name} {part.accepted:.0%} of {part.judged:,}" for name, part in data.dashboard.by_category.items())
            yield f"Accepted for {judge}, by category: {', '.join(shares)}"


def parser_notes(iterations: _Judges) -> Iterator[str]:
    """What each parser would keep; the page has a table of it."""
    for judge, data in training_sets(iterations):
        if data.kept_by_parser:
            kept = by_parser(data.kept_by_parser)
            yield f"Pairs with a judgment to keep for {judge}, by parser: {kept}; {data.parser} decided"


def data_notes(iterations: _Judges) -> Iterator[str]:
    """What became of the pairs of each training set that are not plain ones."""
    for judge, data in training_sets(iterations):
        yield from _data_notes(judge, data)


def _data_notes(judge: str, data: IterationReport) -> Iterator[str]:
    if data.attacked:
        by_attack = ", ".join(f"{name} {count:,}" for name, count in data.attacked.items())
        yield (
            f"Attacked pairs for {judge}: {sum(data.attacked.values()):,} of {number(data.pairs)} ({by_attack}); "
            f"{percent(data.attacked_accepted)}% of them accepted"
        )
    if data.sources:
        by_humans = sum(counts.learned for counts in data.sources.values() if counts.labelled_by == "human")
        share = by_humans / max(1, sum(counts.learned for counts in data.sources.values()))
        yield f"Examples of pairs for {judge} that rest on human labels: {by_humans:,}, {percent(share)}%"
        yield from (f"Mixed for {judge}: {words}" for words in mixing_words(data.sources))
    if data.rescue:
        yield f"For {judge}: {rescue_words(data.rescue)}"
    if data.label_noise:
        yield f"Labels for {judge}: {noise_words(data.label_noise)}"
    if data.panel:
        yield f"Judged for {judge}: {panel_words(data.panel)}"
    if data.balanced:
        yield f"Learned for {judge}: {balance_words(data.balanced)}"
    if data.labelled:
        reasons = counted(data.labelled["dropped"])
        of = f"{data.labelled['learned']:,} of {data.labelled['rows']:,} labelled judgments"
        yield f"Learned for {judge}: {of}{f' (dropped: {reasons})' if reasons else ''}"


def suspect_notes(iterations: _Judges) -> Iterator[str]:
    """The pairs whose labels are most probably wrong; the terminal has no room for them."""
    for judge, data in training_sets(iterations):
        if data.label_noise and data.label_noise.most:
            suspects = ", ".join(f"{row_id} ({percent(wrong)}%)" for row_id, wrong in data.label_noise.most)
            yield f"Labels for {judge} that are most probably wrong: {suspects}"


def heldout_notes(iterations: _Judges) -> Iterator[str]:
    """Which held-out pairs are ties, and which were not judged, for each judge of whom it is not the same as before."""
    said = ""
    for iteration in iterations:
        scores = iteration.heldout
        if scores is None:
            continue
        reasons = counted(scores.unjudged_by_reason)
        tied = [f"{scores.tied:,} of {scores.pairs:,} are ties by their labels"] if scores.tied else []
        words = "; ".join([*tied, *([f"{scores.unjudged:,} not judged ({reasons})"] if reasons else [])])
        if words and words != said:
            yield f"Held-out pairs of {iteration.judge}: {words}"
        said = words


def benchmark_notes(iterations: _Judges) -> Iterator[str]:
    """Which benchmarks are not scored, and what a reader must know of the others."""
    for iteration in iterations:
        for name, report in iteration.benchmarks.items():
            if report.error:
                yield f"{name} by {iteration.judge} is not scored: {report.error}"
            yield from (f"{name} by {iteration.judge}: {note}" for note in report.notes)


def grade_notes(iterations: _Judges) -> Iterator[str]:
    """Which held-out responses have no grade, and whether their scales differ."""
    graded = [(iteration.judge, iteration.heldout_grades) for iteration in iterations if iteration.heldout_grades]
    for judge, grades in graded:
        if grades.ungraded:
            yield f"Not graded by {judge}: {grades.ungraded:,} held-out responses ({counted(grades.ungraded_by_reason)})"
        if grades.scales > 1:
            yield (
                f"Held-out responses on {grades.scales} scales: only exact agreement compares them; `stj eval MODEL "
                "grades:FILE` has the other figures by rubric"
            )
            return


def alarm_notes(iterations: _Judges) -> Iterator[str]:
    """Each number that is out of its bounds."""
    for iteration in iterations:
        yield from (f"ALARM {iteration.judge}: {alarm}" for alarm in iteration.alarms)
