"""The map of the report: in a real browser its buttons change colours and legends without scripts; hostile texts stay text."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.loop.diversity import ClusterCounts, Diversity
from stj.loop.map_plot import Colouring, Point, map_plot
from stj.loop.report import html
from tests.annotating.browser import CHROMIUM, Browser, browser
from tests.viewing.conftest import HOSTILE


def diversity(count: int = 60, text: str = HOSTILE) -> Diversity:
    points = tuple(
        Point(
            x=float(number % 8),
            y=number / 7,
            text=f"{number} {text}",
            classes=(f"category {number % 3}", f"{text} {number % 30}", "accepted" if number % 2 else "not sampled", "source"),
        )
        for number in range(count)
    )
    cluster = ClusterCounts(number=0, name=text, rows=count, kept=1, thin=True)
    facts = {"map": {"points": count, "share_of_variance": 0.3}}
    return Diversity(facts=facts, words=("60 rows",), clusters=(cluster,), points=points)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.text(max_size=30)), max_size=20))
def test_any_points_lie_in_the_image_and_their_texts_are_escaped(points: list[tuple[float, float, str]]) -> None:
    made = [Point(x=x, y=y, text=text, classes=(text, "all")) for x, y, text in points]
    titles = ("by text", "by all")
    classes = tuple(dict.fromkeys(text for _, _, text in points)), ("all",)
    plot = map_plot(made, [Colouring(title=title, classes=each) for title, each in zip(titles, classes, strict=True)])
    assert bool(plot) == bool(points)
    places = re.findall(r'cx="(\S+)" cy="(\S+)"', plot)
    assert len(places) == len(points)
    assert all(0 <= float(x) <= 1000 and 0 <= float(y) <= 620 for x, y in places)
    tags = set(re.findall(r"<(/?\w+)", plot))
    assert {tag.strip("/") for tag in tags} <= {"div", "style", "input", "label", "svg", "circle", "title", "span", "i"}


def test_a_run_without_curation_has_no_such_part() -> None:
    assert "How diverse" not in html({}, [])
    assert Diversity().html() == ""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.mark.engine  # a browser takes a second to start
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_buttons_choose_the_colours_and_the_legend(chromium: Browser, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(html({}, [], [diversity()]), encoding="utf-8", errors="backslashreplace")
    tab = chromium.opened(page.as_uri())
    tab.wait("document.querySelectorAll('.map circle').length === 60")

    def shown() -> tuple[int, str]:
        """The number of different colours, and which legend is shown."""
        colours = tab.value("new Set([...document.querySelectorAll('.map circle')].map(c => getComputedStyle(c).fill)).size")
        legends = tab.value(
            "[...document.querySelectorAll('.legend')].filter(l => getComputedStyle(l).display !== 'none')"
            ".map(l => l.children.length).join()"
        )
        return int(str(colours)), str(legends)

    assert shown() == (3, "3")
    for number, expected in ((1, (17, "17")), (2, (2, "2")), (3, (1, "1"))):
        tab.value(f"document.getElementById('map-{number}').click()")
        assert shown() == expected
    assert tab.value("document.querySelectorAll('.map title')[7].textContent").startswith("7 ")
    assert not tab.value("document.querySelectorAll('.map script, .map img, .map iframe').length")
