"""What a run achieved, in a line and in the headline of its page: the gain from the first measured judge to the last.

Is a gain noise? Both judges judge the same pairs, so the paired interval of their difference decides. If they were not compared
so, their own intervals do, which overlap more easily.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stj.evals.intervals import Interval
from stj.evals.table import interval, percent, points
from stj.loop.heldout import HeldoutScores
from stj.loop.heldout_grades import GradeFigures, HeldoutGrades
from stj.loop.measures import JudgeComparison
from stj.loop.report.iteration import IterationReport
from stj.loop.report.words import difference_words


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The top of the page: `60.0% → 61.9%`, `+1.9 points, within noise`, and a sentence on the intervals."""

    figures: str
    gain: str = ""
    """Empty if fewer than two judges were measured."""
    note: str = ""


class _Measured(NamedTuple):
    """The first and the last judge whose accuracy was measured."""

    first: str
    old: HeldoutScores
    last: str
    new: HeldoutScores
    paired: JudgeComparison | None
    """The last against the first on the same pairs."""

    @property
    def within_noise(self) -> bool:
        """Whether chance may explain the gain."""
        if self.paired is not None:
            return self.paired.ci95[0] <= 0 <= self.paired.ci95[1]
        return not self.apart

    @property
    def apart(self) -> bool:
        """Whether the judges' own intervals are apart."""
        return not _overlap(self.old.ci95, self.new.ci95)

    def noise_words(self) -> str:
        """What the intervals say, and which of them decides."""
        own = f"the 95% intervals {'are apart' if self.apart else 'overlap'}"
        verdict = "within noise" if self.within_noise else "beyond noise"
        if self.paired is None or self.within_noise != self.apart:
            return f"{own}, so this is {verdict}" if self.within_noise else own
        return f"{own}, but the paired one {'holds' if self.within_noise else 'leaves out'} 0, so this is {verdict}"


def headline(iterations: Sequence[IterationReport]) -> Headline:
    """The headline: of accuracy on held-out pairs, else of grades, else that nothing was measured."""
    measured, graded = _measured(iterations), _graded(iterations)
    if measured is None:
        return Headline(figures="No judge was measured") if graded is None else _grades_headline(*graded)
    before = f"{percent(measured.old.accuracy)}%"
    if measured.first == measured.last:
        return Headline(
            figures=f"{before} held-out accuracy",
            note=f"Of {measured.first}, mean of both orders over {measured.old.pairs:,} pairs, 95% interval "
            f"{interval(measured.old.ci95)}; no later judge was measured.",
        )
    gain = points(measured.new.accuracy - measured.old.accuracy)
    compared = measured.paired
    on_same = "" if compared is None else f" On the same pairs the difference is {difference_words(compared)} points."
    return Headline(
        figures=f"{before} → {percent(measured.new.accuracy)}%",
        gain=f"{gain} points, {'within' if measured.within_noise else 'beyond'} noise",
        note=f"Held-out accuracy of {measured.first} and {measured.last}, mean of both orders over {measured.new.pairs:,} "
        f"pairs: {interval(measured.old.ci95)} and {interval(measured.new.ci95)}; {measured.noise_words()}.{on_same}",
    )


def lift(iterations: Sequence[IterationReport]) -> str:
    """One line: the gain in held-out mean accuracy from the first measured judge to the last, with both intervals."""
    measured = _measured(iterations)
    if measured is None:
        return grades_lift(iterations) or "Held-out accuracy: no judge was measured"
    first, old, last, new, _ = measured
    if first == last:
        return f"Held-out accuracy of {first}: {percent(old.accuracy)}% {interval(old.ci95)}; no later judge was measured"
    return (
        f"Lift {first} -> {last}: {points(new.accuracy - old.accuracy)} points of held-out accuracy, "
        f"{percent(old.accuracy)}% {interval(old.ci95)} -> {percent(new.accuracy)}% {interval(new.ci95)}; "
        f"{measured.noise_words()}"
    )


def grades_lift(iterations: Sequence[IterationReport]) -> str:
    """One line: exact agreement and rank correlation of the first judge and the last; "" without held-out grades."""
    graded = _graded(iterations)
    if graded is None:
        return ""
    (first, old), (last, new) = graded
    if first == last:
        return f"Held-out grades of {first}: {_grade_words(old.sampled)}; no later judge was measured"
    before, after = old.sampled.exact, new.sampled.exact
    gained = "" if before is None or after is None else f"{points(after - before)} points of exact agreement; "
    return f"Grades {first} -> {last}: {gained}{_grade_words(old.sampled)} -> {_grade_words(new.sampled)}"


def _measured(iterations: Sequence[IterationReport]) -> _Measured | None:
    measured = [(iteration, iteration.heldout) for iteration in iterations if iteration.heldout]
    if not measured:
        return None
    (first, old), (last, new) = measured[0], measured[-1]
    paired = next((found for found in last.heldout_comparisons if found.against == first.judge), None)
    return _Measured(first.judge, old, last.judge, new, paired)


_Graded = tuple[str, HeldoutGrades]


def _graded(iterations: Sequence[IterationReport]) -> tuple[_Graded, _Graded] | None:
    """The first and the last judge whose grades were measured."""
    graded = [(iteration.judge, iteration.heldout_grades) for iteration in iterations if iteration.heldout_grades]
    return (graded[0], graded[-1]) if graded else None


def _grades_headline(first: _Graded, last: _Graded) -> Headline:
    (judge, old), (later, new) = first, last
    before, after = old.sampled, new.sampled
    note = f"Held-out grades of {judge}: {_grade_words(before)}"
    if judge == later:
        return Headline(figures=f"{_agreement(before)} exact agreement", note=f"{note}; no later judge was measured.")
    return Headline(
        figures=f"{_agreement(before)} → {_agreement(after)} exact",
        gain=_exact_gain(before, after),
        note=f"{note}; of {later}: {_grade_words(after)}. A gain is within noise if the intervals overlap.",
    )


def _exact_gain(before: GradeFigures, after: GradeFigures) -> str:
    """The gain in exact agreement; empty if either is not known."""
    if before.exact is None or after.exact is None:
        return ""
    gain = f"{points(after.exact - before.exact)} points"
    if before.exact_ci95 is None or after.exact_ci95 is None:
        return gain
    return f"{gain}, {'within' if _overlap(before.exact_ci95, after.exact_ci95) else 'beyond'} noise"


def _agreement(figures: GradeFigures) -> str:
    return "–" if figures.exact is None else f"{percent(figures.exact)}%"


def _grade_words(figures: GradeFigures) -> str:
    rank = "no rank correlation" if figures.spearman is None else f"Spearman {figures.spearman:.3f}"
    exact = "no whole true score" if figures.exact is None else f"{percent(figures.exact)}% {interval(figures.exact_ci95)}"
    return f"{exact}, {rank}"


def _overlap(first: Interval, second: Interval) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]
