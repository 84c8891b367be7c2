"""The map of a report: points whose colours the reader chooses, with their texts on hover. It needs no script.

Each point has a CSS class for its class in each colouring. A radio button above the map picks the rules that count. The text is
the title of the point, which browsers show on hover.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from stj.loop.plots import svg
from stj.text import visible_line

_WIDTH, _HEIGHT, _MARGIN = 1000, 620, 14
_COLOURS = 16  # More are hard to tell apart: the rarer classes share a grey.
_GOLDEN_ANGLE = 137.508  # Degrees between the hues of two classes, so that neighbours in the list differ most.


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the map."""

    x: float
    y: float
    text: str
    classes: tuple[str, ...]
    """Its class in each colouring."""


@dataclass(frozen=True, kw_only=True)
class Colouring:
    """One way to colour the points."""

    title: str
    classes: tuple[str, ...]
    """The names of its classes, those with the most points first."""


def map_plot(points: Sequence[Point], colourings: Sequence[Colouring]) -> Markup:
    """The buttons, the map and its legends; empty without points. All names and texts are escaped."""
    if not points:
        return Markup()
    places = [{name: min(place, _COLOURS) for place, name in enumerate(each.classes)} for each in colourings]
    circles = [_circle(point, x, y, places) for point, (x, y) in zip(points, _scaled(points), strict=True)]
    parts = [f"<style>{''.join(_rules(colourings))}</style>"]
    parts += [_button(number, each.title) for number, each in enumerate(colourings)]
    parts.append(str(svg(_WIDTH, _HEIGHT, circles, f"map of {len(points):,} instructions")))
    parts += [_legend(number, each) for number, each in enumerate(colourings)]
    return Markup(f'<div class="map">{"".join(parts)}</div>')


def _scaled(points: Sequence[Point]) -> Iterator[tuple[float, float]]:
    """The places of the points in the image. Both axes have the same scale, so that distances can be compared."""
    xs, ys = [point.x for point in points], [point.y for point in points]
    wide, high = max(xs) - min(xs), max(ys) - min(ys)
    scale = min((_WIDTH - 2 * _MARGIN) / (wide or 1), (_HEIGHT - 2 * _MARGIN) / (high or 1))
    for x, y in zip(xs, ys, strict=True):
        yield (
            _WIDTH / 2 + (x - min(xs) - wide / 2) * scale,
            _HEIGHT / 2 - (y - min(ys) - high / 2) * scale,
        )


def _circle(point: Point, x: float, y: float, places: Sequence[dict[str, int]]) -> str:
    styles = " ".join(
        f"p{number}-{place[name]}" for number, (place, name) in enumerate(zip(places, point.classes, strict=True))
    )
    title = escape(f"{visible_line(point.text)}\n{' · '.join(map(visible_line, point.classes))}")
    return f'<circle class="{styles}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>'


def _rules(colourings: Sequence[Colouring]) -> Iterator[str]:
    """What each button shows."""
    for number, each in enumerate(colourings):
        yield f"#map-{number}:checked ~ .legend-{number} {{ display: flex; }}"
        for place in range(min(len(each.classes), _COLOURS + 1)):
            yield f"#map-{number}:checked ~ svg .p{number}-{place} {{ fill: {_colour(place)}; }}"


def _colour(place: int) -> str:
    return "var(--second)" if place >= _COLOURS else f"hsl({place * _GOLDEN_ANGLE % 360:.0f} 62% {(48, 58)[place % 2]}%)"


def _button(number: int, title: str) -> str:
    checked = " checked" if number == 0 else ""
    return f'<input type="radio" name="map" id="map-{number}"{checked}><label for="map-{number}">{escape(title)}</label>'


def _legend(number: int, each: Colouring) -> str:
    named = [(_colour(place), name) for place, name in enumerate(each.classes[:_COLOURS])]
    if rest := len(each.classes) - _COLOURS:
        named += [(_colour(_COLOURS), f"{rest:,} others")] if rest > 0 else []
    items = "".join(f'<span><i style="background: {colour}"></i>{escape(visible_line(name))}</span>' for colour, name in named)
    return f'<div class="legend legend-{number}">{items}</div>'
