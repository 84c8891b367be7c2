"""What changed from judge to judge: how it judges, what it made of the same training pairs, and what it learned from.

A column for each judge, so that a drift is seen along a row. A number in round brackets is the change since the judge before.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from stj.evals.table import interval, percent
from stj.loop.heldout import HeldoutScores
from stj.loop.measures import JudgeComparison
from stj.loop.report.iteration import IterationReport
from stj.loop.report.words import NONE, correlation, difference_words, number, p_words
from stj.text import Column, Table


class Step(NamedTuple):
    """A judge, and the one before it, which made its training data; None for M_0."""

    now: IterationReport
    before: IterationReport | None

    @property
    def compared(self) -> JudgeComparison | None:
        """The judge against the one before it, on the same held-out pairs."""
        found = (each for each in self.now.heldout_comparisons if self.before and each.against == self.before.judge)
        return next(found, None)


Write = Callable[[Step], str]


def _followed(value: Callable[[IterationReport], float | None], scale: float = 100, digits: int = 1) -> Write:
    """A number, and its change since the judge before."""

    def write(step: Step) -> str:
        now, before = value(step.now), value(step.before) if step.before else None
        if now is None:
            return NONE
        shown = f"{scale * now:,.{digits}f}"
        if before is None:
            return shown
        change = round(scale * (now - before), digits)
        return f"{shown} ({f'{change:+,.{digits}f}' if change else '='})"

    return write


def _of_heldout(value: Callable[[HeldoutScores], float | None]) -> Write:
    return _followed(lambda judge: None if judge.heldout is None else value(judge.heldout))


def _against(write: Callable[[JudgeComparison], str]) -> Write:
    return lambda step: NONE if step.compared is None else write(step.compared)


def _accuracy(step: Step) -> str:
    scores = step.now.heldout
    return NONE if scores is None else f"{percent(scores.accuracy)} {interval(scores.ci95)}"


def _exact(step: Step) -> str:
    grades = step.now.heldout_grades
    return NONE if grades is None else f"{percent(grades.sampled.exact)} {interval(grades.sampled.exact_ci95)}"


def _spearman(step: Step) -> str:
    return NONE if step.now.heldout_grades is None else correlation(step.now.heldout_grades.sampled.spearman)


def _verdicts_a(judge: IterationReport) -> float | None:
    return None if judge.dashboard is None else judge.dashboard.verdict_a


def _tokens(judge: IterationReport) -> float | None:
    return judge.dashboard.judgment_tokens.mean if judge.dashboard and judge.dashboard.judgment_tokens else None


ROWS: dict[str, Write] = {
    "accuracy, %": _accuracy,
    "difference, points": _against(difference_words),
    "fixed": _against(lambda compared: f"{compared.only_b:,}"),
    "broken": _against(lambda compared: f"{compared.only_a:,}"),
    "exact p": _against(p_words),
    "position-consistent, %": _of_heldout(lambda scores: scores.position_consistent),
    "position gap, points": _of_heldout(lambda scores: scores.accuracy_winner_first - scores.accuracy_winner_second),
    "held-out verdicts A, %": _of_heldout(lambda scores: scores.verdict_a),
    "no verdict, %": _of_heldout(lambda scores: scores.unparsed),
    "samples agree, %": _of_heldout(lambda scores: scores.self_agreement),
    "exact, %": _exact,
    "Spearman": _spearman,
    "accepted, %": _followed(lambda judge: judge.accepted),
    "draws / kept": _followed(lambda judge: judge.draws_per_kept, scale=1, digits=2),
    "verdicts A, %": _followed(_verdicts_a),
    "truncated, %": _followed(lambda judge: judge.truncated),
    "tokens of a judgment": _followed(_tokens, scale=1, digits=0),
    "examples learned": lambda step: number(step.before.examples) if step.before else NONE,
}
"""What each row is called, and what it says of a judge. The names are defined in stj/glossary/words.yaml."""


def changes_table(iterations: Sequence[IterationReport]) -> Table:
    """A row for each number that any judge has, a column for each judge; no rows for fewer than two judges."""
    steps = list(_steps(iterations))
    rows = [[name, *(write(step) for step in steps)] for name, write in ROWS.items()]
    known = [row for row in rows if any(cell != NONE for cell in row[1:])] if len(steps) > 1 else []
    return Table(columns=[Column("", "what", word="unit of a row"), *(_judge(step) for step in steps)], rows=known)


def _steps(iterations: Sequence[IterationReport]) -> Iterator[Step]:
    """The judges that the artifacts say something of, in their order."""
    before: IterationReport | None = None
    for iteration in iterations:
        learned = before is not None and before.examples is not None
        if iteration.heldout or iteration.heldout_grades or iteration.pairs is not None or learned:
            yield Step(iteration, before)
        before = iteration


def _judge(step: Step) -> Column:
    return Column("", step.now.judge, word="judge")
