"""The plots of the judges and of their training data, one place on the axis for each."""

from collections.abc import Sequence

from markupsafe import Markup

from stj.loop.plots import Line, bar_plot, line_plot, split_plot
from stj.loop.report.iteration import IterationReport, training_sets


def iteration_plots(iterations: Sequence[IterationReport]) -> dict[str, Markup]:
    """The plots by name: accuracy, accepted, draws, balance. A plot of numbers that nobody recorded is empty."""
    data_by_judge = training_sets(iterations)
    judges = [f"for {judge}" for judge, _ in data_by_judge]
    accepted = [None if data.accepted is None else 100 * data.accepted for _, data in data_by_judge]
    draws = [data.draws_per_kept for _, data in data_by_judge]
    x_title = "training data"
    plots = {
        "accuracy": _accuracy_plot(iterations),
        "accepted": bar_plot(
            judges, accepted, x_title=x_title, y_title="pairs with a kept judgment, %", written=lambda v: f"{v:.1f}%", high=100
        ),
        "draws": bar_plot(judges, draws, x_title=x_title, y_title="judgments per kept one", written=lambda v: f"{v:.2f}"),
        "balance": _balance_plot(iterations),
    }
    drawn = {"accepted": any(value is not None for value in accepted), "draws": any(value is not None for value in draws)}
    return {name: plot if drawn.get(name, True) else Markup() for name, plot in plots.items()}


def _balance_plot(iterations: Sequence[IterationReport]) -> Markup:
    """The kept judgments by label; empty if there are none, or if nobody counted them."""
    splits = {f"for {judge}": (data.label_a or 0, data.label_b or 0) for judge, data in training_sets(iterations)}
    known = {judge: split for judge, split in splits.items() if any(split)}
    return split_plot(list(known), list(known.values())) if known else Markup()


def _accuracy_plot(iterations: Sequence[IterationReport]) -> Markup:
    by_judge = [iteration.heldout for iteration in iterations]

    def line(name: str, style: str, score: str, ends: str | None = None) -> Line:
        values = [getattr(scores, score, None) for scores in by_judge]
        bands = [getattr(scores, ends, None) if ends else None for scores in by_judge]
        return Line(
            name=name,
            style=style,
            values=[None if value is None else 100 * value for value in values],
            band=[(100 * band[0], 100 * band[1]) if band else None for band in bands],
        )

    lines = [
        line("winner first", "first", "accuracy_winner_first"),
        line("winner second", "second", "accuracy_winner_second"),
        line("position-consistent", "consistent", "position_consistent"),
        line("greedy, both orders", "greedy", "greedy_accuracy", "greedy_ci95"),
        line("sampled, both orders", "mean", "accuracy", "ci95"),
    ]
    return line_plot(
        [iteration.judge for iteration in iterations], lines, x_title="judge", y_title="judgments that are right, %"
    )
