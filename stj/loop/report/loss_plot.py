"""A loss curve as a small plot, made to stand beside those of other iterations on the same axis."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from stj.loop.plots import svg, text, ticks_between

if TYPE_CHECKING:
    from stj.loop.report.losses import Point

_WIDTH, _HEIGHT = 330, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 40
_LEAST_SPAN = 1e-6  # of the largest loss: below it all losses are one line in the middle


class Axis(NamedTuple):
    """The ends of the axis of losses."""

    low: float
    high: float


def shared_range(points: Sequence["Point"]) -> Axis:
    """An axis with room for all these points, and for a little more. It has a span even if all losses are equal."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    room = max((high - low) / 20, _LEAST_SPAN * max(1.0, abs(low), abs(high)))
    return Axis(low - room, high + room)


def loss_plot(points: Sequence["Point"], steps: int, axis: Axis, alt: str, chosen: int | None = None) -> Markup:
    """The means as a line in the band of the lowest and the highest; `chosen` marks the step whose model was kept."""
    places = [(_x(point.step, steps), point) for point in points]
    outline = [f"{x:.1f},{_y(point.high, axis):.1f}" for x, point in places]
    outline += [f"{x:.1f},{_y(point.low, axis):.1f}" for x, point in reversed(places)]
    line = " ".join(f"{x:.1f},{_y(point.mean, axis):.1f}" for x, point in places)
    last_x, last = places[-1]
    parts = [
        *_grid(axis),
        text(_LEFT, _HEIGHT - 22, "1", style="tick"),
        text(_WIDTH - _RIGHT, _HEIGHT - 22, f"{steps:,}", anchor="end", style="tick"),
        text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "step", style="axis"),
        f'<g class="band mean"><polygon points="{" ".join(outline)}"/></g>',
        f'<g class="line mean loss"><polyline points="{line}"/>'
        f'<circle cx="{last_x:.1f}" cy="{_y(last.mean, axis):.1f}" r="3"/></g>',
    ]
    if chosen is not None:
        x = _x(chosen, steps)
        parts.append(f'<line class="middle" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    return svg(_WIDTH, _HEIGHT, parts, alt)


def _grid(axis: Axis) -> list[str]:
    lines = []
    for tick in ticks_between(*axis):
        y = _y(tick, axis)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(text(_LEFT - 6, y + 4, f"{tick:.4g}", anchor="end", style="tick"))
    return lines


def _x(step: float, steps: int) -> float:
    """The place of a step; the only step of a training is in the middle."""
    share = (step - 1) / (steps - 1) if steps > 1 else 0.5
    return _LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _RIGHT - _LEFT)


def _y(loss: float, axis: Axis) -> float:
    floor = _HEIGHT - _BOTTOM
    return floor - (loss - axis.low) / (axis.high - axis.low) * (floor - _TOP)
