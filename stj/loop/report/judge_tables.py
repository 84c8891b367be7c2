"""How good each judge is: on held-out pairs and responses, against earlier judges, and under attacks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stj.evals.attack_card import AttackCard, flips
from stj.evals.metrics import Scores
from stj.evals.table import interval, percent
from stj.loop.heldout import HeldoutScores, SubsetScores
from stj.loop.heldout_grades import HeldoutGrades
from stj.loop.measures import HELDOUT_PAIRS, JudgeComparison
from stj.loop.report.cells import Cell, table_of, without_repeats
from stj.loop.report.iteration import IterationReport, attack_cards, benchmark_names, heldout_subsets
from stj.loop.report.words import NONE, correlation, difference_words, ends, number, p_words
from stj.text import Column, Table, visible_line

JUDGE = Cell[IterationReport](Column("", "judge"), lambda iteration: iteration.judge)


def _scored(write: Callable[[HeldoutScores], str]) -> Callable[[IterationReport], str]:
    return lambda iteration: NONE if iteration.heldout is None else write(iteration.heldout)


_ACCURACY = (
    JUDGE,
    Cell(Column("", "pairs"), _scored(lambda scores: f"{scores.pairs:,}"), page_only=True),
    Cell(
        Column("mean accuracy", "[95% interval]", "held-out pairs, %"),
        _scored(lambda scores: f"{percent(scores.accuracy)} {interval(scores.ci95)}"),
    ),
    Cell(Column("winner", "first"), _scored(lambda scores: percent(scores.accuracy_winner_first))),
    Cell(Column("winner", "second"), _scored(lambda scores: percent(scores.accuracy_winner_second))),
    Cell(Column("position-", "consistent"), _scored(lambda scores: percent(scores.position_consistent))),
    Cell(Column("no", "verdict", priority=1), _scored(lambda scores: percent(scores.unparsed))),
    Cell(Column("", "truncated"), _scored(lambda scores: percent(scores.truncated)), page_only=True),
    Cell(Column("", "greedy", priority=2), _scored(lambda scores: percent(scores.greedy_accuracy))),
    Cell(
        Column("greedy, position-", "consistent"),
        _scored(lambda scores: percent(scores.greedy_position_consistent)),
        page_only=True,
    ),
    Cell(Column("samples", "agree", priority=3), _scored(lambda scores: percent(scores.self_agreement))),
)


def accuracy_table(iterations: Sequence[IterationReport], *, page: bool = False) -> Table:
    """A row for each judge, on the page for each that was measured; none if held-out responses alone measure the judges."""
    grades_alone = any(iteration.heldout_grades for iteration in iterations) and not any(i.heldout for i in iterations)
    shown = [] if grades_alone else [each for each in iterations if each.heldout or not page]
    return table_of(_ACCURACY, shown, page=page)


class _OfSubset(NamedTuple):
    subset: str
    judge: str
    scores: SubsetScores


_SUBSETS = (
    Cell[_OfSubset](Column("", "subset"), lambda row: row.subset),
    Cell[_OfSubset](Column("", "judge", "held-out pairs by subset, %"), lambda row: row.judge),
    Cell[_OfSubset](Column("", "pairs"), lambda row: f"{row.scores.pairs:,}"),
    Cell[_OfSubset](
        Column("mean accuracy", "[95% interval]"), lambda row: f"{percent(row.scores.accuracy)} {interval(row.scores.ci95)}"
    ),
    Cell[_OfSubset](Column("position-", "consistent"), lambda row: percent(row.scores.position_consistent)),
)


def subsets_table(iterations: Sequence[IterationReport], most: int) -> Table:
    """A row for each subset and judge; none if there are more than `most` subsets."""
    subsets = heldout_subsets(iterations)
    rows = [
        _OfSubset(visible_line(subset), iteration.judge, scores)
        for subset in (subsets if len(subsets) <= most else ())
        for iteration in iterations
        if iteration.heldout and (scores := iteration.heldout.subsets.get(subset))
    ]
    return without_repeats(table_of(_SUBSETS, rows))


def _graded(write: Callable[[HeldoutGrades], str]) -> Callable[[IterationReport], str]:
    return lambda iteration: NONE if iteration.heldout_grades is None else write(iteration.heldout_grades)


_GRADES = (
    JUDGE,
    Cell(Column("", "responses"), _graded(lambda grades: f"{grades.responses:,}"), page_only=True),
    Cell(
        Column("exact", "% [95%]", "held-out grades against true scores: sampled, then greedy"),
        _graded(lambda grades: f"{percent(grades.sampled.exact)} {interval(grades.sampled.exact_ci95)}"),
    ),
    Cell(
        Column("Spearman", "[95%]"),
        _graded(lambda grades: f"{correlation(grades.sampled.spearman)} {ends(grades.sampled.spearman_ci95)}".rstrip()),
    ),
    Cell(Column("", "Pearson", priority=2), _graded(lambda grades: correlation(grades.sampled.pearson))),
    Cell(Column("", "Kendall"), _graded(lambda grades: correlation(grades.sampled.kendall)), page_only=True),
    Cell(Column("mean abs.", "error", priority=1), _graded(lambda grades: number(grades.sampled.mean_absolute_error))),
    Cell(Column("no", "score, %", word="no score"), _graded(lambda grades: percent(grades.unparsed))),
    Cell(
        Column("greedy", "exact, %", priority=3),
        _graded(lambda grades: percent(grades.greedy.exact if grades.greedy else None)),
    ),
    Cell(
        Column("greedy", "Spearman", priority=3),
        _graded(lambda grades: correlation(grades.greedy.spearman if grades.greedy else None)),
    ),
)


def grades_table(iterations: Sequence[IterationReport], *, page: bool = False) -> Table:
    """A row for each judge whose grades of held-out responses were measured."""
    return table_of(_GRADES, [iteration for iteration in iterations if iteration.heldout_grades], page=page)


class _Compared(NamedTuple):
    """A judge on one set of examples, against an earlier judge; only the first row of a judge says how good it is."""

    measured_on: str
    judge: str
    examples: str
    accuracy: str
    comparison: JudgeComparison | None
    """None if there is no earlier judge."""


def _against(write: Callable[[JudgeComparison], str]) -> Callable[[_Compared], str]:
    return lambda row: NONE if row.comparison is None else write(row.comparison)


_COMPARISONS = (
    Cell[_Compared](Column("", "measured on"), lambda row: row.measured_on),
    Cell[_Compared](Column("", "judge"), lambda row: row.judge),
    Cell(Column("", "against"), _against(lambda comparison: comparison.against)),
    Cell[_Compared](Column("", "n", priority=2), lambda row: row.examples),
    Cell[_Compared](Column("accuracy", "% [95%]"), lambda row: row.accuracy),
    Cell(Column("difference", "points [95%]"), _against(difference_words)),
    Cell(Column("", "fixed"), _against(lambda comparison: f"{comparison.only_b:,}"), page_only=True),
    Cell(Column("", "broken"), _against(lambda comparison: f"{comparison.only_a:,}"), page_only=True),
    Cell(Column("McNemar", "exact p", priority=1), _against(p_words)),
)


def comparisons_table(iterations: Sequence[IterationReport], *, page: bool = False) -> Table:
    """For the held-out pairs and each benchmark: every judge against the one before it and against M_0."""
    return without_repeats(table_of(_COMPARISONS, _comparisons(iterations), page=page, keys=3))


def _comparisons(iterations: Sequence[IterationReport]) -> Iterator[_Compared]:
    compared = any(iteration.heldout_comparisons for iteration in iterations if iteration.heldout)
    for iteration in iterations if compared else ():
        if scores := iteration.heldout:
            yield from _rows(HELDOUT_PAIRS, iteration.judge, scores.pairs, scores, iteration.heldout_comparisons)
    for name in benchmark_names(iterations):
        for iteration in iterations:
            if (report := iteration.benchmarks.get(name)) is not None:
                yield from _rows(name, iteration.judge, report.judged, report.scores, report.comparisons)


def _rows(
    name: str, judge: str, examples: int, scores: HeldoutScores | Scores | None, comparisons: Sequence[JudgeComparison]
) -> Iterator[_Compared]:
    accuracy = f"{percent(scores.accuracy)} {interval(scores.ci95)}" if scores else NONE
    first, *others = comparisons or (None,)
    yield _Compared(name, judge, f"{examples:,}", accuracy, first)
    yield from (_Compared(name, "", "", "", comparison) for comparison in others)


def attack_table(iterations: Sequence[IterationReport], *, page: bool = False) -> Table:
    """The attack cards: of the first judge that has one and of the last, on the page of all. Without any it has no rows."""
    cards = attack_cards(iterations)
    shown = cards if page else {judge: cards[judge] for judge in (list(cards)[:1] + list(cards)[1:][-1:])}
    columns = [Column("", "attack")]
    for judge in shown:
        columns += [
            Column("right", "before", f"{judge}, %"),
            Column("of these", "flipped [95%]", word="flipped"),
            Column("accuracy", "after"),
        ]
    names: Mapping[str, Any] = next(iter(shown.values()), {})
    return Table(columns=columns, rows=[[name, *_attacked(name, shown)] for name in names])


def _attacked(attack: str, cards: Mapping[str, AttackCard]) -> Iterator[str]:
    for card in cards.values():
        result = card.get(attack)
        yield from [NONE] * 3 if result is None else [f"{result.right:,}", flips(result), percent(result.accuracy_after)]
