"""The report of a whole run, from its artifacts: what it says of trainings, costs, changes, failures and settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stj.config import Config
from stj.config_loader import load
from stj.glossary import explain
from stj.loop.heldout_grades import GradeFigures, HeldoutGrades
from stj.loop.phases import Run
from stj.loop.report.changes import ROWS, changes_table
from stj.loop.report.costs import Costs, PhaseCost, costs_table
from stj.loop.report.headline import headline
from stj.loop.report.iteration import IterationReport
from stj.loop.report.settings import settings_of
from stj.loop.summary import RunSummary
from stj.storage.artifacts import Artifact, plain
from tests.annotating.browser import CHROMIUM, browser
from tests.finished_run import MINI, finished_run
from tests.loop.test_report import RUN, Page

STEP = '{"step": %d, "epoch": 0, "loss": %g, "preferred": null, "lr": 0.1, "grad_norm": 1, "tokens_per_s": 50}\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two iterations, with the losses of the first one. Its passes have no ledger, as those of an older stj."""
    root = tmp_path_factory.mktemp("reported") / "run"
    made = finished_run(root, "hardware.dollars_per_gpu_hour=2", "train.device=gpu")
    (root / "iteration_1/metrics.jsonl").write_text("".join(STEP % (step, 2 / step) for step in range(1, 8)))
    RunSummary.of(made).write(made.folder)
    return made


@pytest.mark.slow
def test_the_files_hold_all_parts_and_are_made_again_as_they_are(run: Run) -> None:
    files = RunSummary.of(run).files()
    record = json.loads(files["report.json"])
    assert {"run", "iterations", "trainings", "costs", "where", "failures"} <= record.keys()
    assert record["trainings"][0]["curve"]["lowest"] == pytest.approx(2 / 7)
    assert record["trainings"][1]["curve"] is None
    assert [judge["judge"] for judge in record["failures"]["pairs"]] == ["M_0", "M_1", "M_2"]
    assert [sum(judge["missed"].values()) for judge in record["failures"]["pairs"]] == [16, 12, 9]
    assert record["failures"]["pairs"][0]["shown"][0].keys() == {"id", "subset", "votes", "right_before"}  # texts stay in rows
    assert files == RunSummary.of(Run(run.config)).files()
    assert all(run.folder.holds(name, content) for name, content in files.items())


def test_the_page_says_what_is_missing_and_never_0(run: Run) -> None:
    page = Page(run.folder.read("report.html").decode())
    words = " ".join(page.text.split())
    assert "iteration_2/model: the losses of its steps are missing" in words
    assert "Missing is what the stj that made the phase did not record: pairs" in words
    assert "There are no dollars" in words  # The price of hardware is set, but no phase recorded how long it took.
    for section in ("What changed from judge to judge", "How each training went", "What each judge missed", "Some judgments"):
        assert section in words
    assert all(link and link.startswith("#") for link in page.links)
    assert "new: the judge before had it right" not in words  # Each judge is right on all that the one before was.
    assert "the judge before missed it too" in words


def test_every_head_has_its_scope_and_every_plot_its_words(run: Run) -> None:
    page = run.folder.read("report.html").decode()
    assert page.count("<th ") == page.count("<th scope=")
    assert "<th>" not in page
    assert page.count("<svg ") == page.count('role="img" aria-label="') > 5
    assert page.count("<table>") == page.count("<caption>")


COSTS = (
    PhaseCost(phase="pairs", starts=2, prompt_tokens=1000, output_tokens=200, wasted_tokens=5, engine_seconds=7.5, dollars=0.5),
    PhaseCost(phase="iteration_1/model", learned_tokens=90, rank_seconds=12.0, dollars=0.25),
)


def test_costs_are_summed_in_one_line() -> None:
    *_, total = costs_table(COSTS).rows
    assert list(total) == ["total", "2", "1,000", "200", "5", "8", "90", "12", "0.75"]
    unpriced = costs_table([replace(phase, dollars=None) for phase in COSTS])
    assert "dollars" not in [column.name for column in unpriced.columns]


def test_a_total_without_a_part_is_at_least_the_others() -> None:
    older = PhaseCost(phase="iteration_2/judged", missing=("prompt_tokens", "output_tokens", "engine_seconds"))
    table = costs_table([*COSTS, older])
    assert list(table.rows[2]) == ["iteration_2/judged", "–", "missing", "missing", "–", "missing", "–", "–", "–"]
    assert list(table.rows[3]) == ["total", "2", "≥ 1,000", "≥ 200", "5", "≥ 8", "90", "12", "≥ 0.75"]
    assert "Phases that are not done, and not in the total: 1." in Costs(phases=COSTS, unfinished=1).html()
    assert Costs().html() == ""


def test_changes_stand_beside_the_numbers_of_each_judge() -> None:
    table = changes_table(RUN)
    rows = {name: cells for name, *cells in table.rows}
    assert [column.name for column in table.columns] == ["what", "M_0", "M_1", "M_2"]
    assert rows["position-consistent, %"] == ["40.0", "55.0 (+15.0)", "62.0 (+7.0)"]
    assert rows["accepted, %"] == ["98.7", "98.7 (=)", "–"]
    assert rows["examples learned"] == ["–", "20,582", "20,582"]
    assert "samples agree, %" not in rows  # No judge has it.
    assert not changes_table(RUN[:1]).rows
    assert not changes_table([IterationReport(judge="M_0"), IterationReport(judge="M_1")]).rows


def test_every_row_of_the_changes_is_defined() -> None:
    assert all(explain(name).text for name in ROWS)


def test_the_headline_says_how_far_the_run_came() -> None:
    assert headline([]).figures == "No judge was measured"
    assert headline(RUN[:1]).figures == "60.0% held-out accuracy"
    assert "no later judge was measured" in headline(RUN[:1]).note
    assert (headline(RUN).figures, headline(RUN).gain) == ("60.0% → 82.0%", "+22.0 points, beyond noise")


def graded(judge: str, exact: float | None, half: float = 0.05) -> IterationReport:
    ci95 = None if exact is None else (exact - half, exact + half)
    figures = GradeFigures(
        spearman=0.5, spearman_ci95=None, exact=exact, exact_ci95=ci95, pearson=None, kendall=None, mean_absolute_error=None
    )
    grades = HeldoutGrades(
        responses=9, ungraded=0, sampled=figures, greedy=None, unparsed=0, truncated=0, constant=None, length=None
    )
    return IterationReport(judge=judge, heldout_grades=grades)


def test_the_headline_of_a_run_that_only_grades_is_exact_agreement() -> None:
    assert headline([graded("M_0", 0.4)]).figures == "40.0% exact agreement"
    assert headline([graded("M_0", 0.4), graded("M_1", 0.42)]).gain == "+2.0 points, within noise"
    grown = headline([graded("M_0", 0.4), graded("M_1", 0.6)])
    assert (grown.figures, grown.gain) == ("40.0% → 60.0% exact", "+20.0 points, beyond noise")
    assert headline([graded("M_0", None), graded("M_1", 0.6)]).gain == ""


def test_settings_that_differ_come_first_with_their_defaults() -> None:
    config = plain(Config())
    assert settings_of(config).changed == []
    config["train"]["lr"] = 0.5
    config["judge"]["future"] = {"depth": 3}
    config["benchmarks"] = ["x" * 1000]
    found = settings_of(config)
    assert [(setting.name, setting.value[:4], setting.default) for setting in found.changed] == [
        ("judge.future.depth", "3", None),
        ("benchmarks", '["xx', "[]"),
        ("train.lr", "0.5", "1e-06"),
    ]
    assert found.changed[1].value.endswith("(1,004 characters)")
    assert sum(len(settings) for _, settings in found.same) > 150
    assert settings_of({}).same == []


@pytest.mark.engine  # a browser takes a second to start
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_paper_gets_all_of_the_page_and_a_telephone_no_sideways_scroll(run: Run, tmp_path: Path) -> None:
    too_wide = "document.documentElement.scrollWidth - innerWidth"
    folded = "[...document.querySelectorAll('details:not([open]) > :not(summary)')]"
    shown = f"{folded}.map(each => each.checkVisibility())"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    with browser(tmp_path) as started:
        tab = started.opened((Path(run.folder.path) / "report.html").as_uri())
        tab.wait("document.readyState === 'complete' && document.querySelectorAll('details').length > 5")
        tab.command("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
        tab.command("Emulation.setEmulatedMedia", media="screen", features=dark)
        assert tab.value(too_wide) <= 0
        assert set(tab.value(shown)) == {False}
        assert tab.value("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        tab.command("Emulation.setDeviceMetricsOverride", width=700, height=1000, deviceScaleFactor=1, mobile=False)
        tab.command("Emulation.setEmulatedMedia", media="print", features=dark)
        assert tab.value(too_wide) <= 0
        assert set(tab.value(shown)) == {True}
        assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        cut = "[...document.querySelectorAll('table, svg')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
        assert tab.value(cut) == 0


def test_checkpoints_that_judged_to_be_chosen_have_lines_of_their_own(tmp_path: Path) -> None:
    pairs = tmp_path / "selection.jsonl"
    pairs.write_text('{"instruction": "Say 1.", "chosen": "1", "rejected": "2"}\n')
    chosen = Run(load([MINI], [f"run_root={tmp_path}/run", "iterations=1", f"train.selection.path={pairs}"]))
    training = chosen.iterations[0].model
    training.artifact.begin()
    training.artifact.finish(supervised_tokens=5, seconds=2.0)
    for number in (1, 2):
        judged = Artifact(training.artifact.folder.parent / f"candidates/checkpoint_{number}/judged", {"step": "judged"})
        judged.begin()
        judged.finish(ledger={"starts": 1, "engine_seconds": 3.0, "prompt_tokens": 10, "output_tokens": 4})
    costs = Costs.of(chosen)
    assert [phase.phase for phase in costs.phases] == [
        "iteration_1/model",
        "iteration_1/candidates/checkpoint_1",
        "iteration_1/candidates/checkpoint_2",
    ]
    assert costs.unfinished == len(chosen.phases) - 1
    assert list(costs_table(costs.phases).rows[-1]) == ["total", "2", "20", "8", "–", "6", "5", "4"]
