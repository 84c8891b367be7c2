"""The report of a run: a table for the terminal, report.json for programs, report.html for people."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from stj.evals.table import interval, percent
from stj.loop.heldout import HeldoutScores
from stj.loop.plots import Line, bar_plot, line_plot, split_plot
from stj.storage.folder import Folder

_NONE = "–"
_COLUMNS = (
    # over the group, over the column, the column
    ("", "", "judge"),
    ("held-out pairs, %", "mean accuracy", "[95% interval]"),
    ("", "winner", "first"),
    ("", "winner", "second"),
    ("", "position-", "consistent"),
    ("", "no", "verdict"),
    ("", "", "greedy"),
    ("training data for the next judge", "instr.", "in"),
    ("", "", "selected"),
    ("", "", "pairs"),
    ("", "draws", "/ kept"),
    ("", "", "accepted"),
    ("", "kept", "A / B"),
    ("", "training", "examples"),
    ("", "rows", "failed"),
)


@dataclass(frozen=True, kw_only=True)
class IterationReport:
    """One judge: how good it is, and what became of the training pairs that were judged for the next one.

    All but `judge` and `heldout` is None for the last judge, M_T, which judges no training pairs.
    """

    judge: str
    """"M_0" to "M_T"."""
    heldout: HeldoutScores | None = None
    draws_per_kept: float | None = None
    """Judgments sampled for each one that was kept."""
    accepted: float | None = None
    """Share of the pairs of which a judgment was kept."""
    examples: int | None = None
    """Training examples, after balancing."""
    instructions_in: int | None = None
    selected: int | None = None
    pairs: int | None = None
    label_a: int | None = None
    """Kept judgments whose better answer was shown as A, before balancing."""
    label_b: int | None = None
    dropped: dict[str, int] | None = None
    """Rows that went no further, by reason."""
    failed: int | None = None
    """Rows whose request to a model failed."""


def table(iterations: Sequence[IterationReport]) -> str:
    """The table of a run for a terminal, at most 150 columns wide, and under it the lift from the first judge to the last."""
    body = [_cells(iteration) for iteration in iterations]
    widths = [
        max(map(len, column)) for column in zip(*body, *([c[1] for c in _COLUMNS], [c[2] for c in _COLUMNS]), strict=True)
    ]
    lines = [_group_line(widths), *(_line([c[row] for c in _COLUMNS], widths) for row in (1, 2))]
    lines += ["-" * len(lines[2]), *(_line(cells, widths) for cells in body), "", lift(iterations)]
    return "\n".join(line.rstrip() for line in lines)


def lift(iterations: Sequence[IterationReport]) -> str:
    """One line: from the first measured judge to the last, in points of held-out mean accuracy, with both intervals."""
    measured = [(one.judge, one.heldout) for one in iterations if one.heldout]
    if not measured:
        return "Held-out accuracy: no judge was measured"
    (first, old), (last, new) = measured[0], measured[-1]
    if len(measured) == 1:
        return f"Held-out accuracy of {first}: {percent(old.accuracy)}% {interval(old.ci95)}; no later judge was measured"
    apart = old.ci95[1] < new.ci95[0] or new.ci95[1] < old.ci95[0]
    return (
        f"Lift {first} -> {last}: {100 * (new.accuracy - old.accuracy):+.1f} points of held-out accuracy, "
        f"{percent(old.accuracy)}% {interval(old.ci95)} -> {percent(new.accuracy)}% {interval(new.ci95)}; "
        f"the 95% intervals {'are apart' if apart else 'overlap'}"
    )


def write_report(folder: Folder, run: dict[str, Any], iterations: Sequence[IterationReport]) -> None:
    """Writes report.json and report.html.

    `run` holds JSON values: facts about the run, its resolved settings as `config`, and as `samples` a few judgments to show,
    each with instruction, chosen, rejected, judge, text, verdict and winner.
    """
    record = {"run": run, "iterations": [asdict(iteration) for iteration in iterations]}
    folder.write_json("report.json", record)
    folder.write("report.html", html(run, iterations).encode(errors="backslashreplace"))


def html(run: Mapping[str, Any], iterations: Sequence[IterationReport]) -> str:
    """The report as one page that needs neither network nor scripts."""
    measured = [one for one in iterations if one.heldout]
    trained = _trained(iterations)
    drops = Counter[str]()
    for _, one in trained:
        drops.update(one.dropped or {})
    return _template().render(
        facts={key: value for key, value in run.items() if key not in {"config", "samples"}},
        settings=list(_settings(run.get("config") or {})),
        samples=run.get("samples") or [],
        iterations=iterations,
        first=measured[0] if measured else None,
        last=measured[-1] if measured else None,
        trained=trained,
        reasons=[reason for reason, _ in drops.most_common()],
        lift=lift(iterations),
        plots=_plots(iterations),
    )


def number(value: float | None) -> str:
    """A count as it is, any other number with two decimals."""
    if value is None:
        return _NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _cells(one: IterationReport) -> list[str]:
    scores = one.heldout
    accuracies = [_NONE] * 6
    if scores:
        accuracies = [f"{percent(scores.accuracy)} {interval(scores.ci95)}"]
        accuracies += map(percent, (scores.accuracy_winner_first, scores.accuracy_winner_second, scores.position_consistent))
        accuracies += map(percent, (scores.unparsed, scores.greedy_accuracy))
    counts = map(number, (one.instructions_in, one.selected, one.pairs, one.draws_per_kept))
    accepted = _NONE if one.accepted is None else f"{percent(one.accepted)}%"
    balance = _NONE if one.label_a is None else f"{one.label_a}/{one.label_b}"
    return [one.judge, *accuracies, *counts, accepted, balance, number(one.examples), number(one.failed)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]
    )


def _group_line(widths: Sequence[int]) -> str:
    """The names of the groups, each above the left end of its first column."""
    line = ""
    for i, (group, _, _) in enumerate(_COLUMNS):
        if group:
            line = line.ljust(sum(widths[:i]) + 2 * i) + group
    return line


def _trained(iterations: Sequence[IterationReport]) -> list[tuple[str, IterationReport]]:
    """The training data, each under the name of the judge that it trains: that holds whoever judged it."""
    following = [*(one.judge for one in iterations[1:]), "the next judge"]
    return [(name, one) for name, one in zip(following, iterations, strict=False) if one.pairs is not None]


def _plots(iterations: Sequence[IterationReport]) -> dict[str, Markup]:
    trained = _trained(iterations)
    judges = [f"for {name}" for name, _ in trained]
    accepted = [None if one.accepted is None else 100 * one.accepted for _, one in trained]
    draws = [one.draws_per_kept for _, one in trained]
    splits = [(one.label_a or 0, one.label_b or 0) for _, one in trained]
    x_title = "training data"
    return {
        "accuracy": _accuracy_plot(iterations),
        "accepted": bar_plot(
            judges, accepted, x_title=x_title, y_title="pairs with a kept judgment, %", written=lambda v: f"{v:.1f}%", high=100
        ),
        "draws": bar_plot(judges, draws, x_title=x_title, y_title="judgments per kept one", written=lambda v: f"{v:.2f}"),
        "balance": split_plot(judges, splits),
    }


def _accuracy_plot(iterations: Sequence[IterationReport]) -> Markup:
    scores = [one.heldout for one in iterations]

    def line(name: str, style: str, score: str, ends: str | None = None) -> Line:
        values = [getattr(one, score, None) for one in scores]
        bands = [getattr(one, ends, None) if ends else None for one in scores]
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
    return line_plot([one.judge for one in iterations], lines, x_title="judge", y_title="judgments that are right, %")


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The config by section, each with its settings under dotted names; the settings without a section come first."""
    loose = [(key, _written(value)) for key, value in config.items() if not isinstance(value, Mapping)]
    if loose:
        yield "run", loose
    for section, settings in config.items():
        if isinstance(settings, Mapping):
            yield section, list(_flat(settings))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _written(value)


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, interval=interval, number=number, written=_written)
    return environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
