"""The dashboard: its numbers by hand and by property, and an alarm for each bound."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stj.config_loader import load
from stj.loop.dashboard import FEWEST, Dashboard, DashboardTally, Lengths, dashboard_alarms, score_alarm
from stj.loop.heldout import HeldoutTally, heldout_alarms
from stj.loop.phases import Run
from stj.loop.summary import RunSummary
from stj.rows import HELDOUT, Category, Judgment, Pair, Row, rows_to_table
from stj.rubrics import rubric
from stj.verdict import Label
from tests.conftest import make_row


def judgment(verdict: str | None, winner: Label = "A", index: int = 0, purpose: str = "training", tokens: int = 40) -> Judgment:
    return Judgment(
        purpose=purpose,  # type: ignore[arg-type]
        winner=winner,
        index=index,
        text="",
        verdict=verdict,  # type: ignore[arg-type]
        finish_reason="stop",
        output_tokens=tokens,
    )


def judged(position: int, verdicts: str, winner: Label, *, category: str = "Coding", better: str = "aa") -> Row:
    """A training row; `verdicts` has a letter for each sample, - for none."""
    letters = [None if letter == "-" else letter for letter in verdicts]
    judgments = tuple(judgment(letter, winner, index) for index, letter in enumerate(letters))
    kept = next((index for index, letter in enumerate(letters) if letter == winner), None)
    return make_row(
        position,
        category=Category(name=category, complexity=3, length="a"),
        pair=Pair(method="given", chosen=better, rejected="bbb"),
        judgments=judgments,
        kept=kept,
    )


def dashboard(rows: list[Row]) -> Dashboard:
    tally = DashboardTally()
    for row in rows:
        tally.add(row)
    made = tally.dashboard()
    assert made is not None
    return made


def test_a_case_by_hand() -> None:
    rows = [judged(0, "A", "A"), judged(1, "AAB", "B"), judged(2, "-B", "A", category="Other", better="bbbb"), make_row(3)]
    seen = dashboard(rows)
    assert (seen.pairs, seen.kept, seen.draws) == (3, 2, 6)
    assert seen.verdict_a == 1.0  # Only first judgments count: what follows was drawn because they were wrong.
    assert seen.unparsed == pytest.approx(1 / 6)
    assert seen.kept_a == 0.5
    assert [(name, part.judged, part.kept, part.accepted) for name, part in seen.by_category.items()] == [
        ("Coding", 2, 2, 1.0),
        ("Other", 1, 0, 0.0),
    ]
    assert seen.judgment_tokens == Lengths(count=6, mean=40.0, quartiles=(40, 40, 40))
    assert seen.longest == pytest.approx(1 / 3)


def test_a_pass_without_judgments_has_no_dashboard() -> None:
    tally = DashboardTally()
    tally.add(make_row(0))
    assert tally.dashboard() is None


@given(st.lists(st.integers(0, 3000), min_size=1))
def test_lengths_are_those_of_the_texts_in_any_order(values: list[int]) -> None:
    lengths = Lengths.of(Counter(values))
    assert lengths is not None
    assert lengths.mean == pytest.approx(fmean(values))
    ordered = sorted(values)
    for part, quartile in zip((1, 2, 3), lengths.quartiles, strict=True):
        assert quartile in values
        assert sum(value <= quartile for value in ordered) >= part * len(values) / 4
        assert sum(value < quartile for value in ordered) < part * len(values) / 4


def healthy(count: int = 100) -> list[Row]:
    """Pairs that are judged right at once, as many with label A as with B."""
    return [judged(number, "AB"[number % 2], "AB"[number % 2]) for number in range(count)]  # type: ignore[arg-type]


def test_a_healthy_judge_raises_no_alarm() -> None:
    seen = dashboard(healthy())
    assert not list(dashboard_alarms(seen, None))
    assert not list(dashboard_alarms(seen, seen))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict_a": 0.66}, "66.0% of the first verdicts on training pairs are A (bounds 35% to 65%)"),
        ({"verdict_a": 0.34}, "34.0% of the first verdicts"),
        ({"verdict_a": 0.651}, "65.1% of the first verdicts"),  # not "65% (bounds 35% to 65%)"
        ({"kept_a": 0.7}, "70.0% of the kept judgments are A"),
        ({"unparsed": 0.11}, "11.0% of the judgments of training pairs have no verdict (bound 10%)"),
        ({"kept": 19}, "19.0% of the pairs have a kept judgment (bound 20%)"),
        ({"kept": 50}, "acceptance fell from 100.0% to 50.0% of the pairs (bound: half)"),
        ({"draws": 200}, "draws per kept judgment rose from 1.00 to 2.00 (bound: a factor of 2)"),
        ({"judgment_tokens": Lengths(count=9, mean=20.0, quartiles=(20, 20, 20))}, "judgments went from 40 to 20 tokens"),
        ({"judgment_tokens": Lengths(count=9, mean=80.0, quartiles=(80, 80, 80))}, "judgments went from 40 to 80 tokens"),
        ({"chosen_characters": Lengths(count=9, mean=6.0, quartiles=(6, 6, 6))}, "better answers have 6 characters on average"),
    ],
)
def test_each_bound_has_its_alarm(change: dict[str, object], words: str) -> None:
    before = dashboard(healthy())
    now = replace(before, **change)  # type: ignore[arg-type]
    assert any(words in alarm for alarm in dashboard_alarms(now, before))
    assert not list(dashboard_alarms(replace(now, pairs=49), before))  # A few pairs prove nothing.


def test_a_category_that_is_lost_raises_an_alarm_though_the_others_hide_it() -> None:
    lost = [judged(number, "A", "B", category="Coding") for number in range(50)]
    rows = [judged(number, "B", "B", category="Other") for number in range(300)]
    [alarm] = [alarm for alarm in dashboard_alarms(dashboard(rows + lost), None) if "Coding" in alarm]
    assert alarm == "0.0% of the 50 pairs of category Coding have a kept judgment (bound 20%)"
    assert not any("Coding" in alarm for alarm in dashboard_alarms(dashboard(rows + lost[1:]), None))
    [alarm] = [alarm for alarm in dashboard_alarms(dashboard(lost), None) if "kept judgment" in alarm]
    assert "category" not in alarm  # A single category is the whole.


def heldout_row(position: int, samples: dict[Label, str]) -> Row:
    judgments = [
        judgment(None if letter == "-" else letter, winner, index, "sampled")
        for winner, letters in samples.items()
        for index, letter in enumerate(letters)
    ]
    return make_row(
        position,
        id=f"heldout/{position}",
        task=HELDOUT,
        pair=Pair(method="given", chosen="a", rejected="b"),
        judgments=tuple(judgments),
    )


def test_self_agreement_and_skew_of_the_held_out_samples() -> None:
    tally = HeldoutTally()
    tally.add(heldout_row(0, {"A": "AAB", "B": "AA-"}))
    scores = tally.scores()
    assert scores is not None
    assert scores.self_agreement == pytest.approx(4 / 6)  # A judgment without a verdict agrees with none.
    assert scores.verdict_a == pytest.approx(4 / 5)
    single = HeldoutTally()
    single.add(heldout_row(0, {"A": "A", "B": "B"}))
    alone = single.scores()
    assert alone is not None
    assert alone.self_agreement is None


def test_a_judge_that_always_agrees_with_itself_raises_an_alarm() -> None:
    tally = HeldoutTally()
    for number in range(60):
        tally.add(heldout_row(number, {"A": "AAA", "B": "BBB"}))
    scores = tally.scores()
    assert scores is not None
    assert ["all sampled judgments" in alarm for alarm in heldout_alarms(scores)] == [True]
    assert not list(heldout_alarms(replace(scores, self_agreement=0.99)))
    assert ["are A" in alarm for alarm in heldout_alarms(replace(scores, self_agreement=0.9, verdict_a=0.7))] == [True]


@pytest.mark.slow
@pytest.mark.parametrize(("first_judge", "alarms"), [("org/other", 0), ("package://mini/seed_model", 1)])
def test_m_1_is_not_compared_with_a_first_judge_that_is_another_model(tmp_path: Path, first_judge: str, alarms: int) -> None:
    mini = Path(__file__).parents[2] / "conf" / "mini.yaml"
    run = Run(load([mini], [f"run_root={tmp_path}/run", f"models.first_judge.path={first_judge}"]))
    for iteration, tokens in zip(run.iterations, (40, 90, 90), strict=True):
        artifact = iteration.examples.judged.artifact
        artifact.begin()
        rows = [judged(place, "AB"[place % 2], "AB"[place % 2]) for place in range(60)]  # type: ignore[arg-type]
        longer = [replace(row, judgments=(replace(row.judgments[0], output_tokens=tokens),)) for row in rows]
        artifact.write_part("part", rows_to_table(longer))
        artifact.finish()
    lines = [[alarm for alarm in report.alarms if "judgments went" in alarm] for report in RunSummary.of(run).judges]
    assert [len(of_judge) for of_judge in lines] == [0, alarms, 0, 0]


@pytest.mark.parametrize(
    ("learned", "rubrics", "missing"),
    [
        ({"5": 40, "1": 40}, ["helpfulness"], "no learned grade is 2 or 3 or 4 on the scale from 1 to 5"),
        ({"5": 40, "4": 9, "3": 9, "2": 9}, ["helpfulness", "coherence"], "no learned grade is 1 on"),
        ({"5": 40, "4": 1, "3": 1, "2": 1, "1": 40}, ["helpfulness"], None),
        ({"5": FEWEST // 2 - 1, "1": FEWEST // 2}, ["helpfulness"], None),
        ({"1": 80}, ["helpfulness", "safety"], None),  # two scales: no score is missing on both
        ({"1": 80}, [], None),  # rubrics that the generator writes
    ],
)
def test_scores_that_are_never_learned_raise_an_alarm(learned: dict[str, int], rubrics: list[str], missing: str | None) -> None:
    lines = list(score_alarm(learned, [rubric(name, "rubric") for name in rubrics]))
    assert len(lines) == (missing is not None)
    assert missing is None or lines[0].startswith(missing)
