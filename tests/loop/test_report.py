"""The report: tables of at most 100 columns, JSON of a fixed shape, and a page on which hostile text does nothing."""

import itertools
import json
import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stj.loop.heldout import HeldoutScores
from stj.loop.measures import JudgeComparison
from stj.loop.plots import Line, bar_plot, line_plot, split_plot, ticks_between
from stj.loop.report import IterationReport, html, lift, write_report
from stj.loop.report.html_table import html_table
from stj.loop.report_tables import WIDTH, tables
from stj.storage.folder import Folder
from stj.text import Column, Table
from tests.conftest import on_terminal

HOSTILE = "</svg><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}\u202e\ud800"


def scores(accuracy: float, half: float = 0.04) -> HeldoutScores:
    return HeldoutScores(
        pairs=200,
        unjudged=0,
        accuracy=accuracy,
        ci95=(accuracy - half, accuracy + half),
        accuracy_winner_first=accuracy + 0.05,
        accuracy_winner_second=accuracy - 0.05,
        position_consistent=accuracy - 0.2,
        unparsed=0.01,
        truncated=0.004,
        greedy_accuracy=None,
        greedy_position_consistent=None,
        greedy_ci95=None,
        always_a=0.5,
        longest=0.48,
        shortest=0.52,
    )


def iteration(judge: str, accuracy: float) -> IterationReport:
    return IterationReport(
        judge=judge,
        heldout=scores(accuracy),
        draws_per_kept=1.5,
        accepted=0.987,
        parser="distinct",
        kept_by_parser={"strict": 20_001, "distinct": 20_314, "paper": 20_315},
        truncated=0.0625,
        examples=20_582,
        instructions_in=1_039_785,
        selected=20_582,
        pairs=20_582,
        label_a=10_291,
        label_b=10_293,
        dropped={"category": 1_019_203, "no_correct_judgment": 7},
        failed=12,
    )


RUN = [iteration("M_0", 0.6), iteration("M_1", 0.75), IterationReport(judge="M_2", heldout=scores(0.82))]
PARTIAL = [[], RUN[:1], RUN[2:], [IterationReport(judge="M_0")], [IterationReport(judge="M_0"), *RUN[1:]]]


class Page(HTMLParser):
    """The tags and attributes of a page, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str | None] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(iterations: list[IterationReport]) -> str:
    """All tables of a run, as a pipe gets them."""
    return "\n\n".join(map(str, tables(iterations)))


def test_the_tables_are_aligned_and_fit() -> None:
    accuracy, data = tables(RUN)
    assert max(map(len, shown(RUN).splitlines())) <= WIDTH
    assert [line.split()[0] for line in str(accuracy).splitlines()[4:]] == ["M_0", "M_1", "M_2"]
    _, _, header, _, *rows = str(data).split("\n\n")[0].splitlines()
    assert [row.split()[0] for row in rows] == ["M_0", "M_1"]
    end = header.index("selected") + len("selected")
    assert rows[0][:end].endswith(" 20,582")
    assert "10291/10293" in rows[0]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120, 160])
def test_on_a_terminal_the_tables_fit_and_no_cell_is_cut(columns: int) -> None:
    code = (
        "from stj.text import show; from stj.loop.report_tables import tables; from tests.loop.test_report import RUN\n"
        "for table in tables(RUN): show(table)"
    )
    text = on_terminal([sys.executable, "-c", code], columns, NO_COLOR="1", PYTHONPATH=os.pathsep.join(sys.path))
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, text.splitlines())) <= columns
    for cell in ("held-out pairs, %", "82.0 [78.0, 86.0]", "training data for the next judge", "1,039,785", "10291/10293"):
        assert cell in text
    assert "Lift M_0 -> M_2: +22.0 points" in text


def unwrapped(iterations: list[IterationReport]) -> list[str]:
    """The lines below the tables, each on a line of its own."""
    lines = tables(iterations)[-1].note.replace("\n  ", " ").splitlines()
    return [line for line in lines if not line.startswith("accuracy: ")]


def test_the_lines_below_say_what_each_parser_would_keep() -> None:
    for_1, for_2, lift_line = unwrapped(RUN)
    by_parser = "by parser: strict 20,001, distinct 20,314, paper 20,315; distinct decided"
    assert for_1 == f"Pairs with a judgment to keep for M_1, {by_parser}"
    assert for_2.startswith("Pairs with a judgment to keep for M_2, ")
    assert lift_line.startswith("Lift")
    old = IterationReport(judge="M_0", pairs=3)  # An older stj did not count this.
    assert "by parser" not in shown([old])
    page = html({}, [old])
    assert "decided<br>by" in page
    assert "do not say what was dropped" in page
    assert "label A, kept" not in page  # Nobody counted the labels: no plot says 0.


def test_the_last_line_is_the_lift_with_both_intervals() -> None:
    assert unwrapped(RUN)[-1] == (
        "Lift M_0 -> M_2: +22.0 points of held-out accuracy, 60.0% [56.0, 64.0] -> 82.0% [78.0, 86.0]; "
        "the 95% intervals are apart"
    )
    close = [iteration("M_0", 0.60), iteration("M_1", 0.58)]
    assert "-2.0 points" in lift(close)
    assert lift(close).endswith("overlap, so this is within noise")
    assert "points, within noise" in html({}, close)
    assert "+22.0 points, beyond noise" in html({}, RUN)


def test_the_headline_takes_the_paired_interval_if_there_is_one() -> None:
    compared = JudgeComparison(
        against="M_0",
        examples=200,
        units=200,
        difference=0.02,
        ci95=(0.004, 0.036),
        only_a=1,
        only_b=5,
        mcnemar_p=0.2,
        conclusion="",
    )
    close = [iteration("M_0", 0.58), replace(iteration("M_1", 0.60), heldout_comparisons=(compared,))]
    assert lift(close).endswith("overlap, but the paired one leaves out 0, so this is beyond noise")
    page = html({}, close)
    assert "+2.0 points, beyond noise" in page
    assert "On the same pairs the difference is +2.0 [+0.4, +3.6] points" in page
    unclear = [close[0], replace(close[1], heldout_comparisons=(replace(compared, ci95=(-0.01, 0.05)),))]
    assert "+2.0 points, within noise" in html({}, unclear)


def test_the_page_has_the_truncated_judgments_and_the_thought_of_a_sample() -> None:
    sample = {"judge": "M_0", "instruction": "?", "chosen": "4", "rejected": "5", "winner": "A", "verdict": "A"}
    page = html({"samples": [{**sample, "thought": "<think>4 or 5?", "text": "4. [[A]]"}]}, RUN)
    assert page.count("<br>truncated") + page.count(">truncated</th>") == 2
    assert "<td>0.4</td>" in page
    assert "<td>6.2%</td>" in page
    assert "&lt;think&gt;4 or 5?" in page
    assert "<h3>Thought</h3>" not in html({"samples": [{**sample, "thought": "", "text": "4. [[A]]"}]}, RUN)


@pytest.mark.parametrize("iterations", PARTIAL)
def test_a_run_that_is_not_complete_has_a_report_too(iterations: list[IterationReport], tmp_path: Path) -> None:
    assert "eld-out accuracy" in unwrapped(iterations)[-1]
    write_report(Folder.at(tmp_path), {}, iterations)
    assert "eld-out accuracy" in (tmp_path / "report.html").read_text()


def test_the_json_has_the_shape_that_was_promised(tmp_path: Path) -> None:
    write_report(Folder.at(tmp_path), {"config": {"seed": 3}}, RUN)
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["run"] == {"config": {"seed": 3}}
    first, last = record["iterations"][0], record["iterations"][-1]
    assert first["heldout"]["ci95"] == [pytest.approx(0.56), pytest.approx(0.64)]
    assert {"accuracy", "accuracy_winner_first", "accuracy_winner_second", "position_consistent", "unparsed"} <= first[
        "heldout"
    ].keys()
    assert (first["judge"], first["examples"], first["dropped"]["no_correct_judgment"]) == ("M_0", 20_582, 7)
    assert last["examples"] is last["draws_per_kept"] is last["accepted"] is None


def test_the_page_shows_the_run() -> None:
    page = html({"stj": "0.1.0", "config": {"seed": 3, "judge": {"sampling": {"top_p": 0.9}}}}, RUN)
    text = Page(page).text
    for said in ("+22.0 points", "no_correct_judgment", "20,582", "20,314", "sampling.top_p", "the longer answer\n48.0%"):
        assert said in text
    assert page.count("<svg") == 4


def test_hostile_text_does_nothing(tmp_path: Path) -> None:
    sample = dict.fromkeys(("instruction", "chosen", "rejected", "judge", "thought", "text"), HOSTILE) | {
        "verdict": None,
        "winner": "A",
    }
    hostile = IterationReport(judge=HOSTILE, heldout=scores(0.6), pairs=3, instructions_in=3, dropped={HOSTILE: 3})
    run = {HOSTILE: HOSTILE, "config": {HOSTILE: {HOSTILE: HOSTILE}}, "samples": [sample]}
    write_report(Folder.at(tmp_path), run, [hostile, *RUN])
    page = Page((tmp_path / "report.html").read_text())
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert not page.attributes & {"src", "onerror", "onclick", "onload"}
    assert page.links
    assert all(link and re.fullmatch(r"#[a-z-]+", link) for link in page.links)  # inside the page
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert json.loads((tmp_path / "report.json").read_text())["run"]["samples"][0]["chosen"] == HOSTILE


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (30, 70, [30, 40, 50, 60, 70]), (0, 1.97, [0, 0.5, 1, 1.5]), (0, 7, [0, 2, 4, 6])],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert ticks_between(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize("value", [0.0, 40.5, 100.0])
def test_names_of_lines_that_end_together_do_not_overlap(value: float) -> None:
    lines = [Line(name=f"line {i}", style="mean", values=[value, None]) for i in range(5)]
    root = ElementTree.fromstring(line_plot(["M_0", "M_1"], lines, x_title="judge", y_title="%"))
    heights = [float(label.attrib["y"]) for label in root if label.get("class") == "name mean"]
    assert all(later - earlier == pytest.approx(16) for earlier, later in itertools.pairwise(heights))
    assert min(heights) > 0
    assert max(heights) < 360


def test_plots_of_nothing_are_drawn() -> None:
    for plot in (
        split_plot(["for M_1"], [(0, 0)]),
        split_plot([], []),
        bar_plot(["x"], [0.0], x_title="x", y_title="y", written=str),
        bar_plot(["x"], [None], x_title="x", y_title="y", written=str),
    ):
        assert ElementTree.fromstring(plot).tag == "svg"


@pytest.mark.parametrize("judges", [0, 1, 12, 13, 40])
def test_a_table_with_a_column_for_each_judge_continues_below(judges: int) -> None:
    names = [f"M_{number}" for number in range(judges)]
    table = Table(columns=[Column("", "what"), *(Column("", name) for name in names)], rows=[["row", *names]])
    parts = html_table(table, "judges").split("<table>")[1:]
    assert len(parts) == max(1, -(-judges // 12))
    assert all(part.count('scope="row"') == 1 for part in parts)
    assert re.findall(r"<td>(.*?)</td>", "".join(parts)) == names


def test_a_group_of_columns_is_not_torn() -> None:
    columns = [Column("", "attack"), *(Column("", "right", f"M_{n // 3}" if n % 3 == 0 else "") for n in range(15))]
    parts = html_table(Table(columns=columns, rows=[["swap", *map(str, range(15))]]), "attacks").split("<table>")[1:]
    assert [re.findall(r'colspan="3">(.*?)</th>', part) for part in parts] == [["M_0", "M_1", "M_2", "M_3"], ["M_4"]]
    assert re.findall(r"<td>(\d+)</td>", "".join(parts)) == list(map(str, range(15)))
