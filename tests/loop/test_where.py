"""The report's cuts and figures: counts by hand, empty and single classes, and a page on which hostile names do nothing."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.evals.length_bins import LENGTH_BINS, length_bin, length_bounds
from stj.loop.cuts import CutCounts, JudgeCuts
from stj.loop.figures import Figure, figures
from stj.loop.report import write_report
from stj.loop.where import Where
from stj.rows import CATEGORIES, OPEN, TIED, TRAINING, Category, Pair, Row, Turn
from stj.storage.folder import Folder
from tests.viewing.conftest import judged, pair_row

HOSTILE = "</svg><script>alert(1)</script>{{ 7 * 7 }}\u202e"
MATHS = Category(name="Mathematical reasoning", complexity=3, length="a")


def counted(*rows: Row, task: str = "heldout") -> JudgeCuts:
    counts = CutCounts()
    for row in rows:
        counts.add(row)
    return counts.result("M_0", task)


def by_label(cuts: JudgeCuts, dimension: str) -> dict[str, tuple[int, float]]:
    return {cut.label: (cut.pairs, cut.accuracy) for cut in cuts.cuts if cut.dimension == dimension}


def test_cuts_by_hand() -> None:
    right = pair_row("1", judged("A"), judged("B", "B"), category=MATHS)
    biased = pair_row("2", judged("A"), judged("A", "B"), chosen="a long answer", rejected="short")
    silent = pair_row(
        "3", judged(None), subset="chat", turns=tuple(Turn(role=role, content="x") for role in ("user", "assistant", "user"))
    )
    cuts = counted(right, biased, silent, replace(right, pair=Pair(method=OPEN, chosen="a", rejected="b")), pair_row("4"))
    assert by_label(cuts, "category") == {"Mathematical reasoning": (1, 1.0), "chat": (1, 0.0)}
    assert by_label(cuts, "length difference") == {"1 to 200 shorter": (2, 0.5), "1 to 200 longer": (1, 0.5)}
    assert by_label(cuts, "position") == {"better answer first": (3, pytest.approx(2 / 3)), "better answer second": (2, 0.5)}
    assert by_label(cuts, "turns") == {"1 turn": (2, 0.75), "2 turns": (1, 0.0)}
    assert (cuts.lengths.mean, cuts.lengths.mean_right, sum(cuts.lengths.counts)) == (7, 7, 7)
    assert all(0 <= cut.ci95[0] <= cut.accuracy <= cut.ci95[1] <= 1 for cut in cuts.cuts)
    assert all(cut.ci95[0] < cut.ci95[1] for cut in cuts.cuts)  # not a point, even for one row


def test_judgments_that_nobody_can_call_right_or_wrong_have_a_length_alone() -> None:
    long = replace(judged("A"), output_tokens=100)
    ties = [pair_row(method, long, pair=Pair(method=method, chosen="a", rejected="b")) for method in (OPEN, TIED)]
    rating = pair_row("rated", replace(judged("7"), purpose="rating", output_tokens=100), pair=None)
    lengths = counted(pair_row("1", judged("A"), judged("A", "B")), *ties, rating).lengths
    assert (lengths.mean, lengths.mean_right, lengths.mean_wrong) == (pytest.approx(314 / 5), 7, 7)


def test_of_training_pairs_only_the_first_sample_counts() -> None:
    """Sampling stops at a right judgment, so nearly every pair has one."""
    samples = [replace(judged(verdict, purpose="training"), index=index) for index, verdict in enumerate("BBA")]
    cuts = counted(pair_row("1", *samples, task=TRAINING), task=TRAINING)
    assert by_label(cuts, "position") == {"better answer first": (1, 0.0)}


def test_sampled_judgments_go_before_greedy_ones() -> None:
    cuts = counted(pair_row("1", judged("B", purpose="greedy"), judged("A")), pair_row("2", judged("B", purpose="greedy")))
    assert by_label(cuts, "turns") == {"1 turn": (2, 0.5)}


def test_figures_3_to_6() -> None:
    chosen = Row(id="1", position=0, turns=(Turn(role="user", content="x" * 51),), category=MATHS)
    others = [
        replace(chosen, id="2", category=Category(name="A new one", complexity=10, length="e"), dropped="category"),
        replace(chosen, id="3", category=None, dropped="toxic", turns=(Turn(role="user", content=""),)),
        pair_row("4", category=MATHS),
    ]
    lengths, complexity, answers, categories = figures([chosen, *others])
    assert [figure.number for figure in (lengths, complexity, answers, categories)] == [3, 4, 5, 6]
    assert (lengths.all[:2], lengths.selected[:2]) == ((1, 2), (0, 1))
    assert (complexity.all[2], complexity.all[9], complexity.selected[9]) == (1, 1, 0)
    assert (answers.all, answers.selected) == ((1, 0, 0, 0, 1), (1, 0, 0, 0, 0))
    assert (categories.labels[-1], categories.all[-1], categories.selected[-1]) == ("A new one", 1, 0)
    assert figures([]) == []


@pytest.mark.parametrize(
    "rows", [[], [pair_row("1")], [pair_row("1", judged(None))], [pair_row("1", judged("A"), task="rmbench")]]
)
def test_few_rows_make_no_broken_number(rows: Sequence[Row]) -> None:
    where = Where(cuts=(counted(*rows),))
    text = json.dumps(where.plain())
    assert "NaN" not in text
    assert "nan" not in where.html()


def test_no_category_of_the_paper_is_cut() -> None:
    [figure] = [
        figure
        for figure in figures([Row(id="1", position=0, turns=(Turn(role="user", content="x"),), category=MATHS)])
        if figure.title == "category"
    ]
    page = Where(figures=(figure,)).html()
    assert all(f">{escape(name)}<" in page for name in CATEGORIES)


def test_hostile_names_do_nothing(tmp_path: Path) -> None:
    category = Category(name=HOSTILE, complexity=1, length="a")
    rows = [pair_row(HOSTILE, judged("A", text="So Assistant B is better."), category=category, task=HOSTILE)]
    figure = Figure(number=6, title="category", labels=(HOSTILE,), all=(1,), selected=(0,))
    where = Where(cuts=(counted(*rows, task=HOSTILE),), figures=(figure,))
    write_report(Folder.at(tmp_path), {}, [], [where])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page
    for plot in page.split("<svg")[1:]:
        ElementTree.fromstring(f"<svg{plot.partition('</svg>')[0]}</svg>")
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["where"]["cuts"][0]["contradictions"]["count"] == 1
    assert record["where"]["figures"][0]["all"] == [1]


def test_a_report_without_rows_has_no_such_part() -> None:
    assert Where().html() == ""


@given(st.integers(-(10**6), 10**6))
def test_every_difference_is_in_the_bounds_of_its_class(difference: int) -> None:
    place = length_bin(difference)
    low, high = length_bounds()[place]
    assert (-math.inf if low is None else low) <= difference <= (math.inf if high is None else high)
    assert len(LENGTH_BINS) == len(length_bounds())
