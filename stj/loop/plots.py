"""Plots as inline SVG: strings made by small functions, coloured by the page's CSS, readable without scripts.

Lengths are SVG user units: pixels, if the plot has the size for which it is drawn. Colours are CSS variables, so that a plot
serves light and dark pages. Names are escaped: they may come from data.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_LINE_GAP = 16  # The least distance between two labels at the ends of lines; the font is 13 high.


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a line plot. Each place on the x axis has a value, or None."""

    name: str
    style: str
    """The CSS class for colour, width and dashes."""
    values: Sequence[float | None]
    band: Sequence[tuple[float, float] | None] = ()
    """The low and high end of an interval at each place."""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The box of a plot: maps places and values to lengths."""

    width: int
    height: int
    labels: Sequence[str]
    low: float
    high: float
    left: int = 56
    right: int = 16
    top: int = 14
    bottom: int = 48

    @property
    def end(self) -> int:
        return self.width - self.right

    @property
    def floor(self) -> int:
        return self.height - self.bottom

    @property
    def step(self) -> float:
        return (self.end - self.left) / max(1, len(self.labels))

    def x(self, place: int) -> float:
        return self.left + (place + 0.5) * self.step

    def y(self, value: float) -> float:
        return self.floor - (value - self.low) / (self.high - self.low) * (self.floor - self.top)

    def draw(self, parts: Sequence[str], *, x_title: str, y_title: str) -> Markup:
        """The whole SVG: the grid, the axes and their titles, then the parts on top."""
        middle = (self.top + self.floor) / 2
        ticks = ticks_between(self.low, self.high)
        digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
        grid = [
            f'<line class="grid" x1="{self.left}" x2="{self.end}" y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}"/>'
            + text(self.left - 8, self.y(tick) + 4, f"{tick:,.{digits}f}", anchor="end", style="tick")
            for tick in ticks
        ]
        names = [text(self.x(i), self.floor + 19, name, style="tick") for i, name in enumerate(self.labels)]
        titles = [
            text((self.left + self.end) / 2, self.height - 8, x_title, style="axis"),
            f'<g transform="rotate(-90 14 {middle:.1f})">{text(14, middle + 4, y_title, style="axis")}</g>',
        ]
        return svg(self.width, self.height, [*grid, *names, *titles, *parts], f"{y_title}, by {x_title}")


def line_plot(labels: Sequence[str], lines: Sequence[Line], *, x_title: str, y_title: str) -> Markup:
    """Lines with their bands over the labels. Each line is named at its right end. Values are percentages."""
    shown = [value for line in lines for value in line.values if value is not None]
    shown += [end for line in lines for interval in line.band if interval for end in interval]
    low, high = (20 * math.floor(min(shown) / 20), 20 * math.ceil(max(shown) / 20)) if shown else (0, 100)
    frame = _Frame(width=1000, height=400, labels=labels, low=low, high=max(high, low + 20), right=216)
    parts = [_band(frame, line) for line in lines] + [_line(frame, line) for line in lines]
    return frame.draw([*parts, *_end_labels(frame, lines)], x_title=x_title, y_title=y_title)


def bar_plot(
    labels: Sequence[str],
    values: Sequence[float | None],
    *,
    x_title: str,
    y_title: str,
    written: Callable[[float], str],
    high: float | None = None,
) -> Markup:
    """One bar per label, from zero up, with its value on top. `high` is the end of the axis, if it is known."""
    top = high or 1.15 * max([value for value in values if value is not None], default=1.0) or 1.0
    frame = _Frame(width=490, height=270, labels=labels, low=0, high=top, top=22)
    wide = min(56.0, 0.6 * frame.step)
    bars = [
        f'<rect class="bar" x="{frame.x(i) - wide / 2:.1f}" y="{frame.y(value):.1f}" width="{wide:.1f}" '
        f'height="{frame.floor - frame.y(value):.1f}" rx="2"/>'
        + text(frame.x(i), frame.y(value) - 6, written(value), style="value")
        for i, value in enumerate(values)
        if value is not None
    ]
    return frame.draw(bars, x_title=x_title, y_title=y_title)


def split_plot(labels: Sequence[str], splits: Sequence[tuple[int, int]]) -> Markup:
    """One bar per label, divided between A (left) and B (right). The line in the middle marks balance."""
    left, end, row, head = 76, 984, 34, 26
    floor = head + row * len(labels)
    parts = [text(left, 14, "label A, kept judgments", anchor="start", style="axis")]
    parts.append(text(end, 14, "label B, kept judgments", anchor="end", style="axis"))
    for i, (label, (a, b)) in enumerate(zip(labels, splits, strict=True)):
        top = head + i * row
        share = a / (a + b) if a + b else 0.5
        cut = left + share * (end - left)
        parts += [
            text(left - 12, top + 18, label, anchor="end", style="tick"),
            f'<rect class="a" x="{left}" y="{top}" width="{max(0, cut - left - 1):.1f}" height="26" rx="2"/>',
            f'<rect class="b" x="{cut + 1:.1f}" y="{top}" width="{max(0, end - cut - 1):.1f}" height="26" rx="2"/>',
            text(left + 10, top + 18, f"{a:,} ({share:.1%})", anchor="start", style="inside"),
            text(end - 10, top + 18, f"{b:,} ({1 - share:.1%})", anchor="end", style="inside"),
        ]
    middle = (left + end) / 2
    parts.append(f'<line class="middle" x1="{middle}" x2="{middle}" y1="{head - 6}" y2="{floor}"/>')
    parts.append(text(middle, 14, "50%", style="axis"))
    return svg(1000, floor + 4, parts, "kept judgments with label A and label B, by the judge they train")


def svg(width: int, height: int, parts: Sequence[str], title: str) -> Markup:
    """The parts as one image that scales with the page."""
    style = "wide" if width > 600 else "half"
    return Markup(
        f'<svg class="{style}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, content: str, *, anchor: str = "middle", style: str) -> str:
    """A line of text whose baseline is at y."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def ticks_between(low: float, high: float) -> list[float]:
    """Four to nine round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _line(frame: _Frame, line: Line) -> str:
    points = [(frame.x(i), frame.y(value), value) for i, value in enumerate(line.values) if value is not None]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(line.name)}: {value:.1f}%</title></circle>'
        for x, y, value in points
    )
    return f'<g class="line {line.style}"><polyline points="{path}"/>{dots}</g>'


def _band(frame: _Frame, line: Line) -> str:
    ends = [(frame.x(i), frame.y(pair[0]), frame.y(pair[1])) for i, pair in enumerate(line.band) if pair]
    outline = [f"{x:.1f},{high:.1f}" for x, _, high in ends] + [f"{x:.1f},{low:.1f}" for x, low, _ in reversed(ends)]
    bars = "".join(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>' for x, low, high in ends)
    return f'<g class="band {line.style}"><polygon points="{" ".join(outline)}"/>{bars}</g>' if ends else ""


def _end_labels(frame: _Frame, lines: Sequence[Line]) -> list[str]:
    """The last value and name of each line, at its right end. Labels are moved apart if lines end close together."""
    last = [(line, [value for value in line.values if value is not None][-1:]) for line in lines]
    ending = sorted(((frame.y(value), line, value) for line, values in last for value in values), key=lambda end: end[0])
    labels = []
    free = 0.0
    for i, (y, line, value) in enumerate(ending):
        below = len(ending) - 1 - i
        y = max(free, min(y, frame.floor - below * _LINE_GAP))
        free = y + _LINE_GAP
        labels.append(text(frame.end + 10, y + 4, f"{value:.1f}  {line.name}", anchor="start", style=f"name {line.style}"))
    return labels
