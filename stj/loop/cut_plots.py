"""Horizontal plots for classes with long names: accuracies with their intervals, and distributions side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stj.evals.intervals import Interval
from stj.loop.plots import svg, text

_LEFT, _END, _WIDTH = 250, 780, 1000
_HEAD, _FOOT = 26, 14
_STYLES = ("first", "mean", "greedy", "consistent")
"""Classes of the page's colours, by series; the last judge, or the selected instructions, get the strong one."""
_MOST_NAME = 35  # Characters of a class's name that fit beside a plot, as the longest of the paper's categories does.


@dataclass(frozen=True, kw_only=True)
class Point:
    """A share with its interval, both from 0 to 1, and what stands beside it."""

    share: float
    interval: Interval
    note: str


def interval_plot(labels: Sequence[str], series: Sequence[tuple[str, Sequence[Point | None]]], *, title: str) -> Markup:
    """For each class a point with its interval for each series, from 0 to 100%."""
    row = 8 + 18 * len(series)
    floor = _HEAD + row * len(labels)
    parts = [*_legend([name for name, _ in series]), *_scale(floor, 1.0), *_names(labels, row)]
    for place in range(len(labels)):
        for number, (_, points) in enumerate(series):
            point = points[place]
            if point is not None:
                parts.append(_point(point, _HEAD + place * row + 17 + 18 * number, _STYLES[number]))
    return svg(_WIDTH, floor + _FOOT + 16, parts, title)


def share_plot(labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], *, title: str) -> Markup:
    """For each class a bar with its share of each series; the axis ends at the largest share."""
    row = 8 + 14 * len(series)
    floor = _HEAD + row * len(labels)
    high = max((share for _, shares in series for share in shares), default=0.0) or 1.0
    parts = [*_legend([name for name, _ in series]), *_names(labels, row)]
    for place in range(len(labels)):
        for number, (_, shares) in enumerate(series):
            parts.append(_bar(shares[place], high, _HEAD + place * row + 5 + 14 * number, _STYLES[number]))
    return svg(_WIDTH, floor + _FOOT, parts, title)


def _legend(names: Sequence[str]) -> list[str]:
    """The names of the series above the plot, each in its colour."""
    step = (_END - _LEFT) / max(1, len(names))
    return [
        text(_LEFT + number * step, 14, f"● {name}", anchor="start", style=f"name {style}")
        for number, (name, style) in enumerate(zip(names, _STYLES, strict=False))
    ]


def _names(labels: Sequence[str], row: int) -> list[str]:
    return [
        text(_LEFT - 12, _HEAD + place * row + row / 2 + 5, _shortened(label), anchor="end", style="tick")
        for place, label in enumerate(labels)
    ]


def _shortened(label: str) -> str:
    return label if len(label) <= _MOST_NAME else f"{label[: _MOST_NAME - 1]}…"


def _scale(floor: int, high: float) -> list[str]:
    """Lines at each quarter, and one per cent sign below each."""
    parts = []
    for quarter in range(5):
        x = _x(high * quarter / 4, high)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD}" y2="{floor}"/>')
        parts.append(text(x, floor + 18, f"{25 * quarter}%", style="tick"))
    return parts


def _point(point: Point, y: float, style: str) -> str:
    low, middle, high = (_x(share, 1.0) for share in (point.interval[0], point.share, point.interval[1]))
    return (
        f'<g class="line {style}"><polyline points="{low:.1f},{y:.1f} {high:.1f},{y:.1f}"/>'
        f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="4"/></g>'
        + text(_END + 12, y + 4, point.note, anchor="start", style=f"name {style}")
    )


def _bar(share: float, high: float, y: float, style: str) -> str:
    wide = _x(share, high) - _LEFT
    return f'<rect class="share {style}" x="{_LEFT}" y="{y:.1f}" width="{wide:.1f}" height="12" rx="2"/>' + text(
        _LEFT + wide + 8, y + 10, f"{100 * share:.1f}%", anchor="start", style="tick"
    )


def _x(share: float, high: float) -> float:
    return _LEFT + (_END - _LEFT) * share / high
