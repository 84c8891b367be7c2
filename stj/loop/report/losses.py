"""How each training went: its loss curve from metrics.jsonl beside the model, and what its manifest says.

A curve has at most forty points, however many steps there are: a point is the mean of steps that follow each other, with the
lowest and the highest of them. A step without a finite loss is no point; it is counted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, NamedTuple

from markupsafe import Markup

from stj.errors import StjError
from stj.loop.kinds import TrainingPhase
from stj.loop.phases import Run
from stj.loop.report.cells import Cell, table_of
from stj.loop.report.html_table import html_table
from stj.loop.report.loss_plot import loss_plot, shared_range
from stj.loop.report.templates import render
from stj.loop.report.words import NONE, number, whole
from stj.text import Column, duration
from stj.train.job import METRICS
from stj.train.metrics import StepMetrics, read_metrics

_MOST_POINTS = 40  # of a curve: more are noise on a plot of this size, and the shade has the extremes
_LAST_CURVES = 23  # A run may have a thousand trainings; the first and these are drawn.
_LARGEST = 1e15  # A loss beyond this is as good as infinite; below it, arithmetic on an axis is exact enough.


class Point(NamedTuple):
    """Some steps that follow each other."""

    step: float
    """Mean of their numbers."""
    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The losses of a training, as metrics.jsonl has them."""

    steps: int
    points: tuple[Point, ...]
    lowest: float | None
    """None if no step has a finite loss."""
    lowest_step: int | None
    unfinite: int
    """Steps without a finite loss."""
    first_unfinite: int | None
    preferred: float | None
    """Of the last step; None for `sft`."""
    tokens_per_s: float | None
    """Median over the steps."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a run. What its manifest does not say is None."""

    phase: str
    judge: str
    objective: str | None
    examples: int | None
    epochs: int | None
    steps: int | None
    """Steps of the model that was kept."""
    tokens: int | None
    """Supervised tokens."""
    loss_first: float | None
    loss_last: float | None
    seconds: float | None
    curve: Curve | None
    """None if metrics.jsonl is gone, or has no readable line."""

    @property
    def stopped_before(self) -> bool:
        """Whether an earlier checkpoint is the model."""
        return self.curve is not None and self.steps is not None and self.steps < self.curve.steps


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The part of the report on trainings."""

    trainings: tuple[Training, ...] = ()

    name = "trainings"

    @classmethod
    def of(cls, run: Run) -> "Losses":
        """Reads the finished trainings of a run, warm-ups too."""
        phases = [phase for phase in run.phases if isinstance(phase, TrainingPhase)]
        return cls(trainings=tuple(_training(phase) for phase in phases if phase.artifact.state()[0] == "done"))

    def plain(self) -> list[dict[str, Any]]:
        """All numbers as JSON values."""
        return [asdict(training) for training in self.trainings]

    def html(self) -> Markup:
        """The part of the page; empty if nothing was trained."""
        if not self.trainings:
            return Markup()
        table = html_table(table_of(_CELLS, self.trainings), "the trainings of the run")
        known = [training for training in self.trainings if training.curve and training.curve.points]
        drawn = known[:1] + known[1:][-_LAST_CURVES:]
        figures = list(self._figures(drawn))
        undrawn = len(known) - len(drawn)
        return render("losses.html.jinja", figures=figures, undrawn=undrawn, table=table, trainings=self.trainings)

    def _figures(self, drawn: Sequence[Training]) -> Iterator[tuple[Training, Markup]]:
        """A plot for each of these trainings; those of one objective share the axis of losses."""
        for training in drawn:
            if training.curve:
                beside = [each.curve for each in self.trainings if each.curve and each.objective == training.objective]
                axis = shared_range([point for curve in beside for point in curve.points])
                chosen = training.steps if training.stopped_before else None
                yield training, loss_plot(training.curve.points, training.curve.steps, axis, _alt(training), chosen)


def curve_of(metrics: Sequence[StepMetrics]) -> Curve | None:
    """The curve of some lines of metrics.jsonl; of a step that comes twice, the last counts. None without lines."""
    by_step = {step.step: step for step in metrics if _is_number(step.step) and isinstance(step.loss, int | float)}
    if not by_step:
        return None
    steps = [by_step[number] for number in sorted(by_step)]
    finite = [step for step in steps if _is_number(step.loss)]
    lowest = min(finite, key=lambda step: step.loss, default=None)
    known = {step.step for step in finite}
    lost = [step.step for step in steps if step.step not in known]
    speeds = [step.tokens_per_s for step in steps if _is_number(step.tokens_per_s)]
    return Curve(
        steps=steps[-1].step,
        points=tuple(_points(finite)),
        lowest=lowest.loss if lowest else None,
        lowest_step=lowest.step if lowest else None,
        unfinite=len(lost),
        first_unfinite=lost[0] if lost else None,
        preferred=_known(steps[-1].preferred),
        tokens_per_s=median(speeds) if speeds else None,
    )


def _is_number(value: object) -> bool:
    """Whether a value of a line, which may be damaged, is a number that a plot and JSON can hold."""
    return isinstance(value, int | float) and abs(value) <= _LARGEST  # NaN is never less


def _known(value: Any) -> Any:
    """The value of a record; None if it is no such number."""
    return value if _is_number(value) else None


def _points(steps: Sequence[StepMetrics]) -> Iterator[Point]:
    """At most forty points, of as many steps each as evenly as it goes."""
    count = min(_MOST_POINTS, len(steps))
    for place in range(count):
        part = steps[place * len(steps) // count : (place + 1) * len(steps) // count]
        losses = [step.loss for step in part]
        yield Point(fmean(step.step for step in part), fmean(losses), min(losses), max(losses))


def _training(phase: TrainingPhase) -> Training:
    manifest = phase.artifact.manifest()
    known = {name: _known(manifest.get(name)) for name in ("examples", "epochs", "steps", "loss_first", "loss_last", "seconds")}
    return Training(
        phase=phase.name,
        judge=f"M_{phase.iteration}",
        objective=phase.artifact.key.get("train", {}).get("objective"),
        tokens=_known(manifest.get("supervised_tokens")),
        curve=_curve_beside(phase),
        **known,
    )


def _curve_beside(phase: TrainingPhase) -> Curve | None:
    folder = phase.artifact.folder.parent
    try:
        text = folder.read(METRICS).decode(errors="replace") if folder.exists(METRICS) else ""
    except StjError:  # the rest of the report is still written
        return None
    return curve_of(list(read_metrics(text)))


def _alt(training: Training) -> str:
    curve = training.curve
    assert curve is not None, "only a training with a curve is drawn"
    first, last = curve.points[0].mean, curve.points[-1].mean
    return (
        f"loss of {training.phase} over {curve.steps:,} steps: from {first:.3g} to {last:.3g}, "
        f"lowest {curve.lowest:.3g} at step {curve.lowest_step:,}"
    )


def _loss(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"


def _of_curve(write: Callable[[Curve], str]) -> Callable[[Training], str]:
    return lambda training: NONE if training.curve is None else write(training.curve)


_CELLS = (
    Cell[Training](Column("", "phase"), lambda training: training.phase),
    Cell[Training](Column("", "judge"), lambda training: training.judge),
    Cell[Training](Column("", "objective"), lambda training: training.objective or NONE),
    Cell[Training](Column("training", "examples"), lambda training: number(training.examples)),
    Cell[Training](Column("", "epochs"), lambda training: number(training.epochs)),
    Cell[Training](Column("", "steps"), lambda training: number(training.steps)),
    Cell[Training](Column("tokens", "learned"), lambda training: number(training.tokens)),
    Cell[Training](Column("loss,", "first"), lambda training: _loss(training.loss_first)),
    Cell[Training](Column("loss,", "last"), lambda training: _loss(training.loss_last)),
    Cell(Column("loss,", "lowest"), _of_curve(lambda curve: _loss(curve.lowest))),
    Cell(Column("", "preferred"), _of_curve(lambda curve: NONE if curve.preferred is None else f"{curve.preferred:.0%}")),
    Cell(Column("", "tok/s"), _of_curve(lambda curve: whole(curve.tokens_per_s))),
    Cell[Training](Column("", "time"), lambda training: NONE if training.seconds is None else duration(training.seconds)),
)
