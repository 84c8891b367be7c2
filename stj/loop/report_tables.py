"""The tables of a run for the terminal: how good each judge is, how sure that is, and the training data that it made."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from stj.evals.table import accuracy_line, interval, percent
from stj.loop.attack_tables import attack_table
from stj.loop.clue_balance import balance_words
from stj.loop.counts import by_parser, by_score, rescue_words
from stj.loop.label_flags import noise_words
from stj.loop.measures import HELDOUT_PAIRS, BenchmarkReport, JudgeComparison
from stj.loop.mixing import mixing_words
from stj.loop.report import (
    IterationReport,
    benchmark_names,
    difference_words,
    ends,
    grades_lift,
    heldout_notes,
    heldout_subsets,
    length_words,
    lift,
    number,
    p_words,
    training_sets,
)
from stj.text import WIDTH, Column, Table, visible_line

_NONE = "–"
_MOST_SUBSETS = 12
_ACCURACY = (
    Column("", "judge"),
    Column("mean accuracy", "[95% interval]", "held-out pairs, %"),
    Column("winner", "first"),
    Column("winner", "second"),
    Column("position-", "consistent"),
    Column("no", "verdict", priority=1),
    Column("", "greedy", priority=2),
    Column("samples", "agree", priority=3),
)
_SUBSETS = (
    Column("", "subset"),
    Column("", "judge", "held-out pairs by subset, %"),
    Column("", "pairs"),
    Column("mean accuracy", "[95% interval]"),
    Column("position-", "consistent"),
)
_GRADES = (
    Column("", "judge"),
    Column("exact", "% [95%]", "held-out grades against true scores: sampled, then greedy"),
    Column("Spearman", "[95%]"),
    Column("", "Pearson", priority=2),
    Column("mean abs.", "error", priority=1),
    Column("no", "score, %", word="no score"),
    Column("greedy", "exact, %", priority=3),
    Column("greedy", "Spearman", priority=3),
)
_GRADED = (
    Column("", "judge"),
    Column("pairs", "graded", "grades of the training pairs for the next judge"),
    Column("samples", "/ kept"),
    Column("", "accepted"),
    Column("grades learned", "by score", priority=1),
    Column("no", "score, %", word="no score"),
)
_COMPARISONS = (
    Column("", "measured on"),
    Column("", "judge"),
    Column("", "against"),
    Column("", "n", priority=2),
    Column("accuracy", "% [95%]"),
    Column("difference", "points [95%]"),
    Column("McNemar", "exact p", priority=1),
)
_DATA = (
    Column("", "judge"),
    Column("instr.", "in", "training data for the next judge"),
    Column("", "selected", priority=1),
    Column("", "pairs", word="pairs made"),
    Column("draws", "/ kept"),
    Column("", "accepted"),
    Column("kept", "A / B", priority=2),
    Column("training", "examples"),
    Column("rows", "failed", priority=3),
)
_SOURCES = (
    Column("", "judge"),
    Column("", "source"),
    Column("", "labelled by", "pairs for the next judge by source"),
    Column("", "weight", priority=1),
    Column("pairs", "judged", priority=2),
    Column("can be", "learned", priority=3),
    Column("training", "examples"),
    Column("share", "%"),
)
_DASHBOARD = (
    Column("", "judge"),
    Column("verdicts", "A, %", "judgments of the training pairs"),
    Column("no", "verdict, %"),
    Column("tokens of a", "judgment"),
    Column("characters of", "better answer", priority=1),
    Column("characters of", "worse answer", priority=1),
)


def tables(iterations: Sequence[IterationReport], clues: Table | None = None) -> list[Table]:
    """The tables of a run that have rows, with that of its clues; the note of the last one ends with the lift."""
    trained_by = [iteration for iteration in iterations if iteration.pairs is not None]
    made = [
        Table(columns=_ACCURACY, rows=_accuracy_rows(iterations)),
        Table(columns=_SUBSETS, rows=list(_subset_rows(iterations))),
        Table(columns=_GRADES, rows=[_grades(iteration) for iteration in iterations if iteration.heldout_grades]),
        Table(columns=_COMPARISONS, rows=list(_comparisons(iterations)), keys=3),
        attack_table(iterations),
        Table(columns=_DATA, rows=[_data(iteration) for iteration in trained_by]),
        Table(columns=_GRADED, rows=[_graded(iteration) for iteration in trained_by if iteration.grading]),
        Table(columns=_SOURCES, rows=[row for iteration in trained_by for row in _sources(iteration)], keys=2),
        Table(columns=_DASHBOARD, rows=[_dashboard(iteration) for iteration in trained_by if iteration.dashboard]),
        *([clues] if clues else []),
    ]
    shown = [table for table in made if table.rows] or made[:1]
    lifts = [lift(iterations), grades_lift(iterations)]
    measured = (
        [" ".join(accuracy_line().split())]
        if any(iteration.heldout or iteration.benchmarks for iteration in iterations)
        else []
    )
    notes = [*measured, *_notes(iterations), *dict.fromkeys(line for line in lifts if line)]
    wrapped = "\n".join(line for note in notes for line in textwrap.wrap(note, WIDTH, subsequent_indent="  "))
    last = shown[-1]
    return [*shown[:-1], replace(last, note=wrapped)]


def _accuracy_rows(iterations: Sequence[IterationReport]) -> list[list[str]]:
    """A row for each judge; none if held-out responses alone measure the judges."""
    grades_alone = any(iteration.heldout_grades for iteration in iterations) and not any(i.heldout for i in iterations)
    return [] if grades_alone else [_accuracies(iteration) for iteration in iterations]


def _subset_rows(iterations: Sequence[IterationReport]) -> Iterator[list[str]]:
    """A row for each subset and judge; none if there are too many for a terminal, which the report has."""
    subsets = heldout_subsets(iterations)
    for subset in subsets if len(subsets) <= _MOST_SUBSETS else ():
        rows = [
            [
                *(iteration.judge, f"{scores.pairs:,}", f"{percent(scores.accuracy)} {interval(scores.ci95)}"),
                percent(scores.position_consistent),
            ]
            for iteration in iterations
            if iteration.heldout and (scores := iteration.heldout.subsets.get(subset))
        ]
        yield from _named(visible_line(subset), rows)


def _grades(iteration: IterationReport) -> list[str]:
    scores = iteration.heldout_grades
    assert scores is not None, "only judges that graded have a row"
    sampled, greedy = scores.sampled, scores.greedy
    rank = f"{_correlation(sampled.spearman)} {ends(sampled.spearman_ci95)}".rstrip()
    return [
        iteration.judge,
        f"{percent(sampled.exact)} {interval(sampled.exact_ci95)}",
        rank,
        _correlation(sampled.pearson),
        number(sampled.mean_absolute_error),
        percent(scores.unparsed),
        percent(greedy.exact if greedy else None),
        _correlation(greedy.spearman if greedy else None),
    ]


def _correlation(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _graded(iteration: IterationReport) -> list[str]:
    grading = iteration.grading
    assert grading is not None, "only judges that graded have a row"
    accepted = _NONE if grading.accepted is None else f"{percent(grading.accepted)}%"
    unread = grading.unparsed / (2 * grading.draws) if grading.draws else None
    counts = number(grading.graded), number(grading.draws_per_kept)
    return [iteration.judge, *counts, accepted, by_score(grading.learned), percent(unread)]


def _accuracies(iteration: IterationReport) -> list[str]:
    scores = iteration.heldout
    if scores is None:
        return [iteration.judge, *[_NONE] * 7]
    shares = (
        *(scores.accuracy_winner_first, scores.accuracy_winner_second, scores.position_consistent),
        *(scores.unparsed, scores.greedy_accuracy, scores.self_agreement),
    )
    return [iteration.judge, f"{percent(scores.accuracy)} {interval(scores.ci95)}", *map(percent, shares)]


def _comparisons(iterations: Sequence[IterationReport]) -> Iterator[list[str]]:
    """For the held-out pairs and each benchmark: every judge against the one before it and against M_0."""
    compared = [iteration for iteration in iterations if iteration.heldout]
    if any(iteration.heldout_comparisons for iteration in compared):
        yield from _named(HELDOUT_PAIRS, [row for iteration in compared for row in _on_heldout(iteration)])
    for name in benchmark_names(iterations):
        measured = [(iteration.judge, iteration.benchmarks[name]) for iteration in iterations if name in iteration.benchmarks]
        yield from _named(name, [row for judge, report in measured for row in _on_benchmark(judge, report)])


def _named(name: str, rows: Sequence[list[str]]) -> Iterator[list[str]]:
    """The rows, with the name before the first."""
    for place, row in enumerate(rows):
        yield ["" if place else name, *row]


def _on_heldout(iteration: IterationReport) -> list[list[str]]:
    scores = iteration.heldout
    assert scores is not None, "only measured judges are compared"
    accuracy = f"{percent(scores.accuracy)} {interval(scores.ci95)}"
    return _judge_rows([iteration.judge, f"{scores.pairs:,}", accuracy], iteration.heldout_comparisons)


def _on_benchmark(judge: str, report: BenchmarkReport) -> list[list[str]]:
    scores = report.scores
    accuracy = f"{percent(scores.accuracy)} {interval(scores.ci95)}" if scores else _NONE
    return _judge_rows([judge, f"{report.judged:,}", accuracy], report.comparisons)


def _judge_rows(cells: list[str], comparisons: Sequence[JudgeComparison]) -> list[list[str]]:
    """A row for each comparison of a judge; only the first repeats who it is and how good."""
    judge, *figures = cells
    compared = [[comparison.against, difference_words(comparison), p_words(comparison)] for comparison in comparisons]
    (against, *first), *others = compared or [[_NONE] * 3]
    unnamed = [""] * len(figures)
    return [[judge, against, *figures, *first], *(["", other, *unnamed, *differs] for other, *differs in others)]


def _data(iteration: IterationReport) -> list[str]:
    counts = map(number, (iteration.instructions_in, iteration.selected, iteration.pairs, iteration.draws_per_kept))
    accepted = _NONE if iteration.accepted is None else f"{percent(iteration.accepted)}%"
    balance = _NONE if iteration.label_a is None else f"{iteration.label_a}/{iteration.label_b}"
    return [iteration.judge, *counts, accepted, balance, *map(number, (iteration.examples, iteration.failed))]


def _sources(iteration: IterationReport) -> Iterator[list[str]]:
    """A row for each source of pairs, the judge's name before the first."""
    sources = iteration.sources or {}
    learned = sum(counts.learned for counts in sources.values())
    for number_of, (title, counts) in enumerate(sources.items()):
        yield [
            "" if number_of else iteration.judge,
            title,
            counts.labelled_by.replace("_", " "),
            f"{counts.weight:g}",
            *map(number, (counts.judged, counts.kept, counts.learned)),
            percent(counts.learned / learned if learned else None),
        ]


def _dashboard(iteration: IterationReport) -> list[str]:
    dashboard = iteration.dashboard
    assert dashboard is not None, "only judges with a dashboard have a row"
    lengths = dashboard.judgment_tokens, dashboard.chosen_characters, dashboard.rejected_characters
    return [iteration.judge, percent(dashboard.verdict_a), percent(dashboard.unparsed), *map(length_words, lengths)]


def _notes(iterations: Sequence[IterationReport]) -> Iterator[str]:
    """What was accepted in each category and by each parser, what was not scored, and the alarms."""
    for judge, data in training_sets(iterations):
        if data.dashboard and len(data.dashboard.by_category) > 1:
            shares = (f"{name} {part.accepted:.0%} of {part.judged:,}" for name, part in data.dashboard.by_category.items())
            yield f"Accepted for {judge}, by category: {', '.join(shares)}"
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
        if data.balanced:
            yield f"Learned for {judge}: {balance_words(data.balanced)}"
        if data.labelled:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in data.labelled["dropped"].items())
            of = f"{data.labelled['learned']:,} of {data.labelled['rows']:,} labelled judgments"
            yield f"Learned for {judge}: {of}{f' (dropped: {reasons})' if reasons else ''}"
        if data.kept_by_parser:
            kept = by_parser(data.kept_by_parser)
            yield f"Pairs with a judgment to keep for {judge}, by parser: {kept}; {data.parser} decided"
    yield from heldout_notes(iterations)
    for iteration in iterations:
        for name, report in iteration.benchmarks.items():
            if report.error:
                yield f"{name} by {iteration.judge} is not scored: {report.error}"
            yield from (f"{name} by {iteration.judge}: {note}" for note in report.notes)
    for iteration in iterations:
        grades = iteration.heldout_grades
        if grades and grades.ungraded:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in grades.ungraded_by_reason.items())
            yield f"Not graded by {iteration.judge}: {grades.ungraded:,} held-out responses ({reasons})"
        if grades and grades.scales > 1:
            yield (
                f"Held-out responses on {grades.scales} scales: only exact agreement compares them; `stj eval MODEL "
                "grades:FILE` has the other figures by rubric"
            )
            break
    for iteration in iterations:
        for alarm in iteration.alarms:
            yield f"ALARM {iteration.judge}: {alarm}"
